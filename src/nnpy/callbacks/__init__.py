"""Callbacks: what is called while a model trains."""

from typing import TYPE_CHECKING

from nnpy.catalogue import offer

if TYPE_CHECKING:
    from nnpy.callbacks.averages import SwapEMAWeights
    from nnpy.callbacks.backup import BackupAndRestore
    from nnpy.callbacks.base import Callback, LambdaCallback
    from nnpy.callbacks.history import History
    from nnpy.callbacks.logs import CSVLogger, TerminateOnNaN
    from nnpy.callbacks.monitors import EarlyStopping, ModelCheckpoint
    from nnpy.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
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
    "ReduceLROnPlateau",
    "SwapEMAWeights",
    "TensorBoard",
    "TerminateOnNaN",
    "Timer",
]

_MODULES = ("base", "history", "logs", "monitors", "rates", "timer", "averages", "tensorboard", "backup")
offer(__name__, __all__, homes=[*(f"nnpy.callbacks.{name}" for name in _MODULES), "nnpy.training.progress"])
