"""The objective of a step: a scalar made of the losses and penalties, and what is accumulated beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import ops
from nnpy.checks import shown
from nnpy.graph import Node, Parameter, Tensor, Variable
from nnpy.losses import Loss
from nnpy.losses.base import like
from nnpy.metrics import Accumulator, Metric
from nnpy.ops import effects

if TYPE_CHECKING:
    from nnpy.training.settings import Head

# Of a loss: the mean, and how many steps there were before the first after which it was NaN or infinite.
_LOSS = {"mean": Accumulator((2,)), "finite": Accumulator((1,))}
_PENALTY = ("", "penalty")


class Totals:
    """The accumulators of a kind of step, in one flat array: by (output, metric) and name. Arrays of the same layout
    are what a run is reset to, keeps, and merges.

    ``of``: the accumulators that each key has.
    """

    def __init__(self, of: Mapping[tuple[str, str], Mapping[str, Accumulator]]):
        self.of = of
        self.flat = np.zeros(sum(math.prod(a.shape) for each in of.values() for a in each.values()))
        self.variables: dict[tuple[str, str], dict[str, Variable]] = {
            key: {
                name: Variable(self.views(self.flat)[key][name], "/".join((*key, name)), "accumulator") for name in each
            }
            for key, each in of.items()
        }
        self.initial = np.array(self.flat)
        for key, each in self.views(self.initial).items():
            for name, view in each.items():
                view[...] = of[key][name].initial
        self.flat[:] = self.initial

    def views(self, flat: np.ndarray) -> dict[tuple[str, str], dict[str, np.ndarray]]:
        """The accumulators in an array of this layout."""
        result: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        start = 0
        for key, each in self.of.items():
            result[key] = {}
            for name, accumulator in each.items():
                size = math.prod(accumulator.shape)
                result[key][name] = flat[start : start + size].reshape(accumulator.shape)
                start += size
        return result

    def reset(self) -> None:
        self.flat[:] = self.initial

    def merged(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Two arrays of totals as one, each accumulator by its rule."""
        result = np.empty_like(one)
        parts = zip(*(self.views(flat).items() for flat in (result, one, other)), strict=True)
        for (key, into), (_, a), (_, b) in parts:
            for name, view in into.items():
                view[...] = self.of[key][name].merged(a[name], b[name])
        return result


@dataclass
class Tracked:
    """A metric of an output: its key, what logs call it, and how it is weighted."""

    key: tuple[str, str]
    label: str
    metric: Metric
    weighted: bool


@dataclass
class Plan:
    """What a model's heads are measured by; ``totals`` for each kind of step."""

    heads: list[Head]
    tracked: list[Tracked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracked = list(_tracked(self.heads))
        of = {
            **{(head.name, "loss"): _LOSS for head in self.heads},
            **{t.key: t.metric.accumulators(_head(self.heads, t).output.shape) for t in self.tracked},
            _PENALTY: _LOSS,
        }
        self.totals = {"train": Totals(of), "test": Totals(of)}

    def logs(self, mode: str, flat: np.ndarray) -> dict[str, Any]:
        """Names and values: "loss", each output's where there are several, metrics."""
        totals = self.totals[mode].views(flat)
        means = {head.name: _mean(totals[head.name, "loss"]) for head in self.heads}
        loss = _mean(totals[_PENALTY], 0.0) + sum(head.weight * means[head.name] for head in self.heads)
        several = {f"{name}_loss": value for name, value in means.items()} if len(self.heads) > 1 else {}
        return {"loss": loss, **several, **{t.label: t.metric.compute(totals[t.key]) for t in self.tracked}}


    def finite_steps(self, mode: str, flat: np.ndarray) -> int:
        """How many steps had a finite loss before the first that had not."""
        totals = self.totals[mode].views(flat)
        counted = [totals[head.name, "loss"] for head in self.heads]
        if totals[_PENALTY]["mean"][1]:  # there is one
            counted.append(totals[_PENALTY])
        return int(min(each["finite"][0] for each in counted))


def _mean(totals: Mapping[str, np.ndarray], empty: float = 0.0) -> float:
    total, count = totals["mean"]
    return float(total / count) if count else math.nan if total else empty


def _head(heads: Sequence[Head], tracked: Tracked) -> Head:
    return next(head for head in heads if head.name == tracked.key[0])


def _tracked(heads: Sequence[Head]) -> Iterator[Tracked]:
    """Metrics of one name are told apart as in Keras."""
    labels = {"loss", *(f"{head.name}_loss" for head in heads if len(heads) > 1)}
    for head in heads:
        stem = f"{head.name}_" if len(heads) > 1 else ""
        for weighted, metrics in ((False, head.metrics), (True, head.weighted)):
            for metric in metrics:
                name = metric.name
                if weighted and f"{stem}{name}" in labels:
                    name = f"weighted_{name}"
                base, number = name, 0
                while f"{stem}{name}" in labels:
                    name, number = f"{base}_{number + 1}", number + 1
                labels.add(f"{stem}{name}")
                yield Tracked((head.name, name), f"{stem}{name}", metric, weighted)


class Objective:
    """The graph of the losses and metrics of some heads. ``targets`` and (None: all 1) ``weights`` are to be fed;
    ``ranks``: the rank of each head's sample weights, 0 for none."""

    def __init__(self, plan: Plan, ranks: Sequence[int], heads: Sequence[Head] | None = None):
        """``heads``: those of the plan with the outputs of another structure, if it is not the plan's."""
        self.plan = plan
        self.heads = list(plan.heads if heads is None else heads)
        self.targets: list[Tensor] = []
        self.weights: list[Tensor | None] = []
        self._rows: list[tuple[Tensor, Tensor | None]] = []  # the loss of each row, and which rows count
        parts = []
        self.losses: dict[str, Tensor] = {}
        for head, rank in zip(self.heads, ranks, strict=True):
            target = Tensor(head.target_sizes, None, f"{head.name}/target", head.loss.target_kind)
            weight = Tensor(head.output.sizes[:rank], None, f"{head.name}/sample_weight") if rank else None
            if head.loss.reduction == "none":
                raise ValueError(f"loss {head.loss}: expected a reduction, 'none' leaves nothing to make small")
            self.targets.append(target)
            self.weights.append(weight)
            if weight is not None and rank > len(head.rows):  # of each label of a row
                labels = head.loss.of_labels(target, head.output)  # type: ignore[attr-defined]
                values, weight = ops.mean(ops.multiply(labels, weight), axis=-1), None
            else:
                values = _checked(head.loss, head.loss.call(target, head.output), head.output)
            rows = head.loss.spread(values, head.output)
            valid = _valid(head, target, rows)
            scalar = head.loss.reduced(values, head.output, weight, valid)
            if weight is not None:
                rows = ops.multiply(rows, like(weight, rows))
            self._rows.append((rows, valid))
            self.losses[head.name] = scalar
            parts.append(ops.multiply(scalar, head.weight))
        self.scalar = _sum(parts)

    def rows_of(self, name: str) -> Tensor:
        """The losses of an output's rows, weighted."""
        return next(rows for head, (rows, _) in zip(self.heads, self._rows, strict=True) if head.name == name)

    def with_penalties(
        self, parameters: Sequence[Parameter], losses: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """(the scalar to be made small, the penalties of the regularizers and the ``losses`` that layers add alone, if
        there are any)."""
        penalties = [p.regularizer(p) for p in parameters if p.regularizer is not None]
        penalties += [loss if loss.rank == 0 else ops.mean(loss) for loss in losses]
        if not penalties:
            return self.scalar, None
        penalty = _sum(penalties)
        return ops.add(self.scalar, penalty), penalty

    def effects(self, mode: str, penalty: Tensor | None) -> list[Node]:
        """What adds a batch to the accumulators of a kind of step."""
        variables = self.plan.totals[mode].variables
        made: list[Node] = []
        heads = {head.name: place for place, head in enumerate(self.heads)}
        for head, (rows, valid) in zip(self.heads, self._rows, strict=True):
            where = variables[head.name, "loss"]
            if valid is None and head.loss.reduction in ("sum_over_batch_size", "mean"):
                made.append(effects.accumulate(where["mean"], rows, finite=where["finite"]))
            else:
                made.append(_each_sample(where, self.losses[head.name], rows))
        if penalty is not None:
            made.append(_each_sample(variables[_PENALTY], penalty, self._rows[0][0]))
        for tracked in self.plan.tracked:
            place = heads[tracked.key[0]]
            head, target, (rows, valid) = self.heads[place], self.targets[place], self._rows[place]
            given = self.weights[place] if tracked.weighted else None
            weight = None if given is None else like(given, rows)
            if valid is not None:
                weight = valid if weight is None else ops.multiply(weight, valid)
            made += tracked.metric.update(variables[tracked.key], target, head.output, weight)
        return made


def _each_sample(where: Mapping[str, Variable], scalar: Tensor, rows: Tensor) -> Node:
    """A scalar counts once for each sample of the batch."""
    values = ops.broadcast_to(ops.reshape(scalar, (1,)), rows.sizes[:1])
    return effects.accumulate(where["mean"], values, finite=where["finite"])


def _valid(head: Head, target: Tensor, rows: Tensor) -> Tensor | None:
    """Which rows count: those that the loss does not ignore, and that the output's mask lets through; as reals."""
    found = [m for m in (head.loss.valid(target), getattr(head.output, "mask", None)) if m is not None]
    if not found:
        return None
    for mask in found:
        if mask.rank > rows.rank:
            raise ValueError(
                f"loss {head.loss}: expected losses of the rows that the output's mask {mask.shape} chooses among, got "
                f"{rows.shape}"
            )
    valid = [ops.broadcast_to(like(ops.cast(m, "real"), rows), rows.sizes) for m in found]
    return valid[0] if len(valid) == 1 else ops.multiply(*valid)


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = ops.add(total, part)
    return total


def _checked(loss: Loss, result: Any, output: Tensor) -> Tensor:
    """The losses of rows. TypeError for what is no tensor, ValueError for one whose first axis is not the batch."""
    if not isinstance(result, Tensor):
        raise TypeError(f"loss {loss}: expected call(y_true, y_pred) to return a Tensor, got {shown(result)}")
    if not loss.of_batch and (result.rank == 0 or result.sizes[0] != output.sizes[0]):
        raise ValueError(
            f"loss {loss}: expected call(y_true, y_pred) to return the losses of rows, of shape (batch, ...), got "
            f"{result.shape}"
        )
    return result
