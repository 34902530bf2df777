"""Settings: what ``compile`` was given, checked, and what it means for each output of a model."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nnpy import losses, optimizers, seeds
from nnpy import metrics as metrics_
from nnpy.graph import Shape, Size, Tensor
from nnpy.losses import Loss
from nnpy.losses.base import SumLoss
from nnpy.metrics import Metric
from nnpy.registry import from_json, to_json
from nnpy.training.advice import warn
from nnpy.training.objective import Objective, Plan

if TYPE_CHECKING:
    from nnpy.model import Model


@dataclass(frozen=True, eq=False)
class Head:
    """One output of a model with its loss and metrics. ``rows``: the shape of the losses of its rows."""

    name: str
    output: Tensor
    loss: Loss
    weight: float
    metrics: tuple[Metric, ...]
    weighted: tuple[Metric, ...]
    rows: Shape = (None,)

    @property
    def target_shape(self) -> Shape:
        return self.loss.target_shape(self.output.shape)

    @property
    def target_sizes(self) -> tuple[Size, ...]:
        return self.loss.target_shape(self.output.sizes)


def _resolved(head: Head) -> Head:
    """With the metrics that "accuracy" and its like stand for."""
    target = Tensor(head.target_sizes, None, f"{head.name}/target", head.loss.target_kind)
    plain, weighted = (
        tuple(metric.resolve(target, head.output, head.loss) for metric in some)
        for some in (head.metrics, head.weighted)
    )
    return replace(head, metrics=plain, weighted=weighted)


class Settings:
    """Losses and metrics as given (by name, in order, or one), made objects; ``resolve`` sorts them by output."""

    def __init__(self, optimizer: Any, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any):
        self.optimizer = optimizers.get(optimizer)
        self.loss = _convert(loss, losses.get)
        self.loss_weights = _convert(loss_weights, _factor)
        self.metrics = _convert(metrics, metrics_.get)
        self.weighted_metrics = _convert(weighted_metrics, metrics_.get)
        self.seed = seeds.get_seed()
        self._heads: tuple[Any, list[Head]] = (None, [])

    def resolve(self, model: Model) -> list[Head]:
        """The heads of the outputs that have a loss. ValueError for names and numbers that do not fit the outputs."""
        structure = model.structure
        if self._heads[0] is structure:
            return self._heads[1]
        names = model.output_names
        loss = _by_output(self.loss, names, f"{model}: loss")
        factors = _by_output(self.loss_weights, names, f"{model}: loss_weights")
        plain = _by_output(self.metrics, names, f"{model}: metrics", listed=True)
        weighted = _by_output(self.weighted_metrics, names, f"{model}: weighted_metrics", listed=True)
        heads = []
        for name, output in zip(names, structure.outputs, strict=True):
            if loss[name] is None:
                if plain[name] or weighted[name] or factors[name] is not None:
                    raise ValueError(f"{model}: output {name!r} has metrics or a loss weight, but no loss")
                continue
            factor = 1.0 if factors[name] is None else factors[name]
            if isinstance(loss[name], list):
                loss[name], factor = _joined(f"{model}: output {name!r}", loss[name], factor)
            heads.append(_resolved(Head(name, output, loss[name], factor, _tuple(plain[name]), _tuple(weighted[name]))))
        if not heads:
            raise ValueError(f"{model}: expected a loss: compile(optimizer, loss=...)")
        for place, head in enumerate(heads):
            try:
                objective = Objective(Plan([head]), (0,))
                objective.effects("test", None)  # refuses what does not fit, before any data comes
            except (TypeError, ValueError, NotImplementedError) as error:
                kind = next(k for k in (TypeError, ValueError, NotImplementedError) if isinstance(error, k))
                raise kind(f"{model}: output {head.name!r}: {error}") from error
            heads[place] = replace(head, rows=objective.rows_of(head.name).shape)
            given = (*_tuple(plain[head.name]), *_tuple(weighted[head.name]))
            warn(model, head.name, head.loss, dict.fromkeys(given), head.output)
        self._heads = (structure, heads)
        return heads

    def directions(self, model: Model) -> dict[str, str | None]:
        """Which is better, "max" or "min", of each value in the logs; None where a metric does not say."""
        plan = Plan(self.resolve(model))
        several = {f"{head.name}_loss": "min" for head in plan.heads} if len(plan.heads) > 1 else {}
        return {"loss": "min", **several, **{t.label: t.metric.direction for t in plan.tracked}}

    def to_json(self) -> dict[str, Any]:
        """Raises TypeError for a loss, metric or optimizer that JSON cannot hold."""
        return {
            name: to_json(getattr(self, name), name)
            for name in ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics", "seed")
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Settings:
        values = from_json(value)
        seed = values.pop("seed")
        settings = cls(**values)
        settings.seed = seed
        return settings


def _joined(who: str, some: list[Any], factor: Any) -> tuple[Loss, float]:
    """The losses that a list in the place of one means, as one, and its factor. ValueError for what is none."""
    if not some or not all(isinstance(loss, Loss) for loss in some):
        raise ValueError(f"{who}: expected a loss or a list of losses, got {some!r}")
    if isinstance(factor, list) and len(factor) != len(some):
        raise ValueError(f"{who}: expected as many loss_weights as losses, {len(some)}, got {len(factor)}")
    if len(some) == 1:
        return some[0], factor[0] if isinstance(factor, list) else factor
    try:
        return (SumLoss(some, factor), 1.0) if isinstance(factor, list) else (SumLoss(some), factor)
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from None


def _factor(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise TypeError(f"loss_weights: expected finite numbers, got {value!r}")
    return float(value)


def _convert(value: Any, get: Callable[[Any], Any]) -> Any:
    """Names in lists and dicts become objects."""
    if value is None:
        return None
    if isinstance(value, Mapping) and set(value) != {"class", "config"}:
        return {name: _convert(item, get) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert(item, get) for item in value]
    return get(value)


def _by_output(value: Any, names: list[str], what: str, listed: bool = False) -> dict[str, Any]:
    """``value`` for each output. ``listed``: a list is the value of a single output."""
    if isinstance(value, Mapping):
        if unknown := set(value) - set(names):
            raise ValueError(
                f"{what}: expected names of outputs ({', '.join(names)}), got {', '.join(map(repr, sorted(unknown)))}"
            )
        return {name: value.get(name) for name in names}
    if value is None:
        return dict.fromkeys(names)
    if len(names) == 1 and (listed or not isinstance(value, list)):
        return {names[0]: value}
    if not isinstance(value, list):
        if listed:
            raise ValueError(
                f"{what}: expected a list or dict with an item for each of the outputs ({', '.join(names)})"
            )
        return dict.fromkeys(names, value)
    if len(value) != len(names):
        raise ValueError(
            f"{what}: expected {len(names)} items, one for each output ({', '.join(names)}), got {len(value)}"
        )
    return dict(zip(names, value, strict=True))


def _tuple(value: Any) -> tuple:
    if value is None:
        return ()
    return tuple(item for item in value if item is not None) if isinstance(value, list) else (value,)
