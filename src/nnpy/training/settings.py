"""Settings: what ``compile`` was given, checked, and what it means for each output of a model."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnpy import losses, ops, optimizers, seeds
from nnpy import metrics as metrics_
from nnpy.checks import shown
from nnpy.graph import Tensor
from nnpy.losses import Loss
from nnpy.metrics import Metric
from nnpy.ops.losses import LossOperation
from nnpy.registry import from_json, to_json
from nnpy.training.advice import warn

if TYPE_CHECKING:
    from nnpy.model import Model


@dataclass(frozen=True, eq=False)
class Head:
    """One output of a model with its loss and metrics."""

    name: str
    output: Tensor
    loss: Loss
    weight: float
    metrics: tuple[Metric, ...]
    weighted: tuple[Metric, ...]

    @property
    def target_shape(self) -> tuple[int | None, ...]:
        return self.loss.target_shape(self.output.shape)


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
            heads.append(Head(name, output, loss[name], factor, _tuple(plain[name]), _tuple(weighted[name])))
        if not heads:
            raise ValueError(f"{model}: expected a loss: compile(optimizer, loss=...)")
        for head in heads:
            try:
                Objective([head], (False,))  # refuses what does not fit, before any data comes
            except TypeError as error:
                raise TypeError(f"{model}: output {head.name!r}: {error}") from error
            warn(model, head.name, head.loss, head.output)
        self._heads = (structure, heads)
        return heads

    def directions(self, model: Model) -> dict[str, str | None]:
        """Which is better, "max" or "min", of each value in the logs; None where a metric does not say."""
        heads = self.resolve(model)
        count = sum(1 + len(head.metrics) + len(head.weighted) for head in heads)
        found: list[str | None] = ["min"] * (1 + (len(heads) if len(heads) > 1 else 0))  # losses
        found += [metric.direction for head in heads for metric in (*head.metrics, *head.weighted)]
        return dict(zip(logs_of(heads, [(0.0, 0.0)] * count), found, strict=True))

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


class Objective:
    """The graph of the losses and metrics of some heads, with targets and (where ``weighted``) sample weights to feed.

    ``totals``: (values, weights or None) of each column that ``Columns`` names, in its order.
    """

    def __init__(self, heads: list[Head], weighted: tuple[bool, ...]):
        self.targets: list[Tensor] = []
        self.weights: list[Tensor | None] = []
        self.losses: list[tuple[Tensor, float]] = []
        self.totals: list[tuple[Tensor, Tensor | None]] = []
        for head, has_weights in zip(heads, weighted, strict=True):
            target = Tensor(head.target_shape, None, f"{head.name}/target", head.loss.target_kind)
            weight = Tensor((None,), None, f"{head.name}/sample_weight") if has_weights else None
            loss = _checked_loss(head.loss, head.loss(target, head.output, weight), weight)
            self.targets.append(target)
            self.weights.append(weight)
            self.losses.append((loss, head.weight))
            self.totals.append((loss, None))
            for metric in head.metrics:
                self.totals.append((_checked_metric(metric, metric(target, head.output, head.loss, loss)), None))
            for metric in head.weighted:
                values = _checked_metric(metric, metric(target, head.output, head.loss, loss))
                self.totals.append((values, None) if weight is None else (ops.multiply(values, weight), weight))


def _checked_loss(loss: Loss, result: Any, weight: Tensor | None) -> Tensor:
    """The result, if it is that of a loss operation, which alone knows its gradient. TypeError otherwise."""
    node = result.node if isinstance(result, Tensor) else None
    if node is None or not isinstance(node.operation, LossOperation) or result is not node.output:
        came = f"that of {node.operation.name!r}" if node is not None else shown(result)
        raise TypeError(
            f"loss {loss}: expected __call__ to return the result of nnpy.ops.mean_squared_error, binary_crossentropy "
            f"or softmax_crossentropy, got {came}; other operations may come before it, factors are loss_weights"
        )
    if weight is not None and weight not in node.inputs:
        raise TypeError(f"loss {loss}: it leaves out the sample weights: pass weights on to ops.{node.operation.name}")
    return result


def _checked_metric(metric: Metric, values: Any) -> Tensor:
    if not isinstance(values, Tensor) or values.shape != (None,):
        raise TypeError(f"metric {metric}: expected __call__ to return a Tensor of shape (None,), got {shown(values)}")
    return values


def logs_of(heads: list[Head], totals: Any, penalty: float = 0.0) -> dict[str, float]:
    """Names and values from the totals (sum, count): "loss", each output's where there are several, metrics."""
    means = [float(total / count) if count else math.nan if total else 0.0 for total, count in totals]
    several = len(heads) > 1
    logs: dict[str, float] = {"loss": penalty}
    position = 0
    losses_, others = {}, {}
    for head in heads:
        logs["loss"] += head.weight * means[position]
        losses_[f"{head.name}_loss"] = means[position]
        for offset, metric in enumerate((*head.metrics, *head.weighted), 1):
            stem = f"{head.name}_" if several else ""
            name = f"{stem}{metric.name}"
            if name in others and offset > len(head.metrics):
                name = f"{stem}weighted_{metric.name}"
            base, number = name, 0
            while name in others:
                name, number = f"{base}_{number + 1}", number + 1
            others[name] = means[position + offset]
        position += 1 + len(head.metrics) + len(head.weighted)
    return {**logs, **(losses_ if several else {}), **others}


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
