"""Optimizers."""

from typing import Any

from nnpy.catalogue import offer
from nnpy.optimizers import schedules
from nnpy.optimizers.adafactor import Adafactor
from nnpy.optimizers.adagrad import Adadelta, Adagrad, Ftrl, RMSprop
from nnpy.optimizers.adam import Adam, Adamax, AdamW, Nadam
from nnpy.optimizers.base import Optimizer
from nnpy.optimizers.lamb import Lamb
from nnpy.optimizers.lookahead import Lookahead
from nnpy.optimizers.muon import Muon
from nnpy.optimizers.schedule_free import ScheduleFreeAdamW
from nnpy.optimizers.sgd import SGD, Lion
from nnpy.registry import find

__all__ = [
    "SGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lamb", "Lion", "Lookahead", "Muon",
    "Nadam", "Optimizer", "RMSprop", "ScheduleFreeAdamW", "get", "schedules",
]  # fmt: skip

offer(__name__, __all__)


def get(value: Any) -> Optimizer:
    """An optimizer from its name ("sgd", "adam", "rmsprop", ...), class, configuration, or itself."""
    return find(Optimizer, value, {"adamw": "AdamW", "rmsprop": "RMSprop"})
