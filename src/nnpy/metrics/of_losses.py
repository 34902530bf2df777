"""Metrics that are the mean of a loss: one class is made of each, with the loss's arguments."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from nnpy.losses import Loss
from nnpy.metrics.base import MeanMetric

#: what Keras calls some
_NAMES = {"LogCosh": ("LogCoshError", "logcosh")}


class LossMetric(MeanMetric):
    """Base: the mean over all rows of the loss ``of``."""

    direction = "min"
    of: ClassVar[type[Loss]]
    loss: Loss  # with this metric's arguments

    def resolve(self, y_true, y_pred, loss=None):
        return self

    def call(self, y_true, y_pred):
        kind = self.loss.target_kind
        what = "class numbers" if kind == "index" else "of the output's shape"
        self._expect(y_true, kind, what)
        return self.loss.spread(self.loss.call(y_true, y_pred), y_pred)

    def valid(self, y_true):
        return self.loss.valid(y_true)


def of_loss(loss: type[Loss]) -> type[LossMetric]:
    """The metric of a loss: ``name`` first, then by keyword what the loss takes, but for its reduction."""
    key, default = _NAMES.get(loss.__name__, (loss.__name__, None))
    first, *others = inspect.signature(loss.__init__).parameters.values()
    taken = [p for p in others if p.name not in ("name", "reduction")]
    named = inspect.Parameter("name", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)

    def __init__(self: LossMetric, name: str | None = None, **options: Any) -> None:
        MeanMetric.__init__(self, name or default)
        self.loss = loss(**options)
        for parameter in taken:
            setattr(self, parameter.name, getattr(self.loss, parameter.name))

    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [first, named, *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in taken)]
    )
    text = f"The mean over all rows of the loss of this name.\n\n    {inspect.getdoc(loss)}"
    values = {"__init__": __init__, "__doc__": text, "__module__": "nnpy.metrics", "of": loss,
              "_takes_classes": loss.target_kind == "index"}  # fmt: skip
    return type(key, (LossMetric,), values)
