"""Callbacks: what is called while a model trains."""

from nnpy.callbacks.backup import BackupAndRestore
from nnpy.callbacks.base import Callback, LambdaCallback
from nnpy.callbacks.history import History
from nnpy.callbacks.logs import CSVLogger, TerminateOnNaN
from nnpy.callbacks.monitors import EarlyStopping, ModelCheckpoint
from nnpy.callbacks.rates import LearningRateScheduler

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "TerminateOnNaN",
]


def __dir__() -> list[str]:
    return list(__all__)
