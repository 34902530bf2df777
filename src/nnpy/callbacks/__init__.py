"""Callbacks: what is called while a model trains."""

from nnpy.callbacks.averages import SwapEMAWeights
from nnpy.callbacks.backup import BackupAndRestore
from nnpy.callbacks.base import Callback, LambdaCallback
from nnpy.callbacks.history import History
from nnpy.callbacks.logs import CSVLogger, TerminateOnNaN
from nnpy.callbacks.monitors import EarlyStopping, ModelCheckpoint
from nnpy.callbacks.rates import LearningRateScheduler
from nnpy.callbacks.tensorboard import TensorBoard
from nnpy.callbacks.timer import Timer
from nnpy.training.progress import ProgbarLogger

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgbarLogger",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
    "Timer",
]


def __dir__() -> list[str]:
    return list(__all__)
