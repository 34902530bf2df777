"""Evaluate and predict: a trained (or any) model on data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import interrupts
from nnpy.callbacks.base import Callback, CallbackList, as_list, say
from nnpy.data import inputs as adapt
from nnpy.data.images import Images
from nnpy.data.sparse import Sparse
from nnpy.hints import advise
from nnpy.locks import publishing
from nnpy.training.progress import check_verbose
from nnpy.training.samples import Samples, batches, prepare, prepare_inputs
from nnpy.training.values import format_logs

if TYPE_CHECKING:
    from nnpy.model import Model

BATCH = 32  # Keras' batch size where none is given
_FAST = 64  # shapes that the short way to predict is kept for


@interrupts.keeping
def evaluate(
    model: Model,
    x: Any,
    y: Any,
    batch_size: int | None,
    verbose: Any,
    sample_weight: Any,
    steps: int | None,
    callbacks: Any,
) -> dict[str, float]:
    """The loss and metrics by name."""
    shown = check_verbose(verbose)
    batch = adapt.positive(BATCH if batch_size is None else batch_size, "batch_size")
    model.settings  # noqa: B018  raises if the model is not compiled, before anything else is looked at
    data = validation(model, x, y, sample_weight)
    if batch_size is not None and not isinstance(data, Samples):
        refuse_batch_size("batch_size", data)
    calls = CallbackList(as_list(callbacks), model, {"batch_size": batch})
    start = time.perf_counter()
    logs = evaluate_data(model, data, batch, steps, calls)
    if shown:
        say(f"evaluate  {format_logs(logs)}  {time.perf_counter() - start:.1f} s")
    return logs


def validation(model: Model, x: Any, y: Any, sample_weight: Any) -> Any:
    """Samples, or the iterable of batches as it is. Raises TypeError or ValueError for wrong data."""
    if not adapt.is_stream(x):
        return prepare(model, x, y, sample_weight)
    if y is not None or sample_weight is not None:
        raise TypeError("y, sample_weight: expected None where x is an iterable of batches, which hold them")
    return x


def refuse_batch_size(name: str, stream: Any) -> None:
    """TypeError for a size of batches beside batches that are made already."""
    kind = type(stream).__name__
    hint = f": {kind}(..., batch_size=)" if hasattr(stream, "batch_size") else ""
    raise TypeError(f"{name}: expected None, as the batches of {kind} have their size already{hint}")


def evaluate_data(
    model: Model, data: Any, batch: int, steps: int | None, calls: CallbackList, what: str = "x"
) -> dict[str, float]:
    """What ``validation`` gave, evaluated; errors call it ``what``."""
    calls.call("on_test_begin", None)
    if isinstance(data, Samples):
        logs = evaluate_samples(model, data, batch, limit(steps, data.count, batch, "steps"), calls)
    else:
        logs = evaluate_stream(model, adapt.in_order(data), steps, calls, what)
    calls.call("on_test_end", logs)
    return logs


def evaluate_samples(
    model: Model, samples: Samples, batch: int, steps: int, calls: CallbackList | None = None
) -> dict[str, float]:
    engine = model.engine
    totals, each = np.zeros_like(engine.totals["test"]), calls is not None and calls.wants_batches("test")
    running = engine.test_steps(samples, batch, steps, totals, slices=not each)
    if calls is not None and each:
        for number in range(steps):
            calls.call("on_test_batch_begin", number, None)
            next(running)
            calls.call("on_test_batch_end", number, engine.logs("test", totals))
    else:
        for _ in running:
            pass
    return engine.logs("test", totals)


def evaluate_stream(
    model: Model, stream: Any, steps: int | None, calls: CallbackList, what: str = "x"
) -> dict[str, float]:
    """An iterator of validation data that is over has no values; a warning tells."""
    totals, number = None, -1
    for number, samples in enumerate(batches(stream, model, what)):
        engine = model.engine
        calls.call("on_test_batch_begin", number, None)
        if totals is None:
            totals = np.zeros_like(engine.totals["test"])
        for _ in engine.test_steps(samples, samples.count, 1, totals):
            pass
        if calls.wants_batches("test"):
            calls.call("on_test_batch_end", number, engine.logs("test", totals))
        if steps is not None and number + 1 >= steps:
            break
    if totals is None and what != "x" and hasattr(stream, "__next__"):
        ran_out(0, steps, "; the epoch has no values of validation", what)
        return {}
    if totals is None:
        raise ValueError(f"{what}: expected at least one batch, got none")
    ran_out(number + 1, steps, what=what)
    return model.engine.logs("test", totals)


def ran_out(batches_: int, expected: int | None, then: str = "", what: str = "x") -> bool:
    """Whether an iterable gave fewer batches than were asked for; a warning tells."""
    if expected is None or batches_ >= expected:
        return False
    advise(f"{what} ran out after {batches_} batches, {expected} were expected{then}")
    return True


def limit(steps: int | None, samples: int, batch: int, name: str) -> int:
    """How many steps to make over the samples. Raises TypeError or ValueError for more than there are."""
    most = -(-samples // batch)
    if steps is None:
        return most
    if adapt.positive(steps, name) > most:
        raise ValueError(f"{name}: expected at most {most} ({samples} samples in batches of {batch}), got {steps}")
    return steps


@interrupts.keeping
def predict(
    model: Model,
    x: Any,
    batch_size: int | None,
    verbose: Any,
    steps: int | None,
    callbacks: Callback | Sequence[Callback] | None,
) -> Any:
    """The outputs for all samples."""
    shown = check_verbose(verbose)
    batch = adapt.positive(BATCH if batch_size is None else batch_size, "batch_size")
    calls = CallbackList(as_list(callbacks), model, {"batch_size": batch})
    if batch_size is not None and adapt.is_stream(x):
        refuse_batch_size("batch_size", x)
    calls.call("on_predict_begin", None)
    start = time.perf_counter()
    if adapt.is_stream(x):
        results = _predict_stream(model, adapt.in_order(x), steps, calls)
    else:
        arrays = prepare_inputs(model, x)
        results = _predict_arrays(model, arrays, batch, limit(steps, len(arrays[0]), batch, "steps"), calls)
        if batch_size is None and type(x) is np.ndarray and len(x) <= BATCH and _same(arrays[0], x):
            _remember(model, x)
    calls.call("on_predict_end", None)
    if shown:
        seconds = time.perf_counter() - start
        say(f"predict  {len(results[0])} samples  {seconds:.1f} s")
    return model.structure.packed(results)


def _same(array: np.ndarray | Images | Sparse, x: np.ndarray) -> bool:
    """Whether it is x that a Program reads, not a copy."""
    return isinstance(array, np.ndarray) and array.__array_interface__ == x.__array_interface__


def _remember(model: Model, x: np.ndarray) -> None:
    engine = model.engine
    fast = engine.fast(x)
    with publishing():
        if fast is not None and model._engine is engine:  # no other thread has compiled the model anew
            if len(model._fast) >= _FAST:
                model._fast.clear()
            model._fast[x.shape, x.strides, x.dtype] = fast


def _predict_arrays(
    model: Model, arrays: list[np.ndarray | Images | Sparse], batch: int, steps: int, calls: CallbackList
) -> list[np.ndarray]:
    engine = model.engine
    if not calls.wants_batches("predict"):
        return engine.predict(arrays, batch, steps)
    results = engine.results(arrays, batch, steps)
    running = engine.predict_steps(arrays, results, batch, steps, slices=False)
    for number in range(steps):
        calls.call("on_predict_batch_begin", number, None)
        next(running)
        some = [result[number * batch : (number + 1) * batch] for result in results]
        calls.call("on_predict_batch_end", number, {"outputs": model.structure.packed(some)})
    return results


def _predict_stream(model: Model, stream: Any, steps: int | None, calls: CallbackList) -> list[np.ndarray]:
    parts: list[list[np.ndarray]] = []
    for number, item in enumerate(stream):
        arrays = prepare_inputs(model, item[0] if isinstance(item, tuple) else item)
        calls.call("on_predict_batch_begin", number, None)
        parts.append(model.engine.predict(arrays, len(arrays[0]), 1))
        calls.call("on_predict_batch_end", number, {"outputs": model.structure.packed(parts[-1])})
        if steps is not None and len(parts) >= steps:
            break
    if not parts:
        raise ValueError("x: expected at least one batch, got none")
    ran_out(len(parts), steps)
    return [np.concatenate(results) for results in zip(*parts, strict=True)]


@interrupts.keeping
def test_on_batch(model: Model, x: Any, y: Any, sample_weight: Any) -> dict[str, float]:
    samples = prepare(model, x, y, sample_weight)
    return evaluate_samples(model, samples, samples.count, 1)


@interrupts.keeping
def predict_on_batch(model: Model, x: Any) -> Any:
    arrays = prepare_inputs(model, x)
    return model.structure.packed(model.engine.predict(arrays, len(arrays[0]), 1))
