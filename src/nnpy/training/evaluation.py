"""Evaluate and predict: a trained (or any) model on data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy.data import inputs as adapt
from nnpy.training.callbacks import Callback, CallbackList, as_list
from nnpy.training.progress import check_verbose, format_logs
from nnpy.training.samples import Samples, batches, prepare, prepare_inputs
from nnpy.training.settings import logs_of

if TYPE_CHECKING:
    from nnpy.model import Model

BATCH = 32  # Keras' batch size where none is given
_FAST = 64  # shapes that the short way to predict is kept for


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
    calls = CallbackList(as_list(callbacks), model, {"batch_size": batch})
    start = time.perf_counter()
    logs = evaluate_data(model, data, batch, steps, calls)
    if shown:
        print(f"evaluate  {format_logs(logs)}  {time.perf_counter() - start:.1f} s", flush=True)
    return logs


def validation(model: Model, x: Any, y: Any, sample_weight: Any) -> Any:
    """Samples, or the iterable of batches as it is. Raises TypeError or ValueError for wrong data."""
    if not adapt.is_stream(x):
        return prepare(model, x, y, sample_weight)
    if y is not None or sample_weight is not None:
        raise TypeError("y, sample_weight: expected None where x is an iterable of batches, which hold them")
    return x


def evaluate_data(model: Model, data: Any, batch: int, steps: int | None, calls: CallbackList) -> dict[str, float]:
    """What ``validation`` gave, evaluated."""
    calls.call("on_test_begin", None)
    if isinstance(data, Samples):
        logs = evaluate_samples(model, data, batch, limit(steps, data.count, batch, "steps"))
    else:
        logs = evaluate_stream(model, data, steps)
    calls.call("on_test_end", logs)
    return logs


def evaluate_samples(model: Model, samples: Samples, batch: int, steps: int) -> dict[str, float]:
    engine = model.engine
    with engine.infer_lock:
        engine.totals["test"][:] = 0
        for _ in engine.test_steps(samples, batch, steps):
            pass
        return logs_of(engine.heads, engine.totals["test"], engine.penalty())


def evaluate_stream(model: Model, stream: Any, steps: int | None) -> dict[str, float]:
    total = None
    for number, samples in enumerate(batches(stream, model, "x")):
        engine = model.engine
        with engine.infer_lock:
            engine.totals["test"][:] = 0
            for _ in engine.test_steps(samples, samples.count, 1):
                pass
            total = engine.totals["test"].copy() if total is None else total + engine.totals["test"]
        if steps is not None and number + 1 >= steps:
            break
    if total is None:
        raise ValueError("x: expected at least one batch, got none")
    return logs_of(model.engine.heads, total, model.engine.penalty())


def limit(steps: int | None, samples: int, batch: int, name: str) -> int:
    """How many steps to make over the samples. Raises TypeError or ValueError for more than there are."""
    most = -(-samples // batch)
    if steps is None:
        return most
    if adapt.positive(steps, name) > most:
        raise ValueError(f"{name}: expected at most {most} ({samples} samples in batches of {batch}), got {steps}")
    return steps


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
    calls.call("on_predict_begin", None)
    start = time.perf_counter()
    if adapt.is_stream(x):
        results = _predict_stream(model, x, steps)
    else:
        arrays = prepare_inputs(model, x)
        results = model.engine.predict(arrays, batch, limit(steps, len(arrays[0]), batch, "steps"))
        if batch_size is None and arrays[0] is x and len(x) <= BATCH:
            _remember(model, x)
    calls.call("on_predict_end", None)
    if shown:
        seconds = time.perf_counter() - start
        print(f"predict  {len(results[0])} samples  {seconds:.1f} s", flush=True)
    return model.structure.packed(results)


def _remember(model: Model, x: np.ndarray) -> None:
    if len(model._fast) >= _FAST:
        model._fast.clear()
    fast = model.engine.fast(x)
    if fast is not None:
        model._fast[x.shape, x.strides, x.dtype] = fast


def _predict_stream(model: Model, stream: Any, steps: int | None) -> list[np.ndarray]:
    parts: list[list[np.ndarray]] = []
    for item in stream:
        arrays = prepare_inputs(model, item[0] if isinstance(item, tuple) else item)
        parts.append(model.engine.predict(arrays, len(arrays[0]), 1))
        if steps is not None and len(parts) >= steps:
            break
    if not parts:
        raise ValueError("x: expected at least one batch, got none")
    return [np.concatenate(results) for results in zip(*parts, strict=True)]


def test_on_batch(model: Model, x: Any, y: Any, sample_weight: Any) -> dict[str, float]:
    samples = prepare(model, x, y, sample_weight)
    return evaluate_samples(model, samples, samples.count, 1)


def predict_on_batch(model: Model, x: Any) -> Any:
    arrays = prepare_inputs(model, x)
    return model.structure.packed(model.engine.predict(arrays, len(arrays[0]), 1))
