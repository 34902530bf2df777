"""Optimizers."""

from typing import Any

from nnpy.catalogue import offer
from nnpy.optimizers import schedules
from nnpy.optimizers.adagrad import Adagrad
from nnpy.optimizers.adam import Adam, AdamW
from nnpy.optimizers.base import Optimizer
from nnpy.optimizers.sgd import SGD
from nnpy.registry import find

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "get", "schedules"]

offer(__name__, __all__)


def get(value: Any) -> Optimizer:
    """An optimizer from its name ("sgd", "adagrad", "adam", "adamw"), class, configuration, or itself."""
    return find(Optimizer, value, {"adamw": "AdamW"})
