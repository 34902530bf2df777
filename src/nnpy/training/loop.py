"""The training loop: epochs of compiled steps, with looks at signals, progress and callbacks in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nncore.memory import DRAW
from nnpy import seeds
from nnpy.callbacks.base import CallbackList, as_list
from nnpy.callbacks.history import History
from nnpy.checks import flag
from nnpy.data import inputs as adapt
from nnpy.training.evaluation import BATCH, evaluate_data, limit, ran_out, validation
from nnpy.training.progress import Progress, check_verbose
from nnpy.training.samples import Samples, batches, prepare

if TYPE_CHECKING:
    from nnpy.model import Model


def fit(
    model: Model,
    x: Any,
    y: Any,
    *,
    batch_size: int | None,
    epochs: int,
    verbose: Any,
    callbacks: Any,
    validation_split: float,
    validation_data: Any,
    shuffle: bool,
    class_weight: Any,
    sample_weight: Any,
    initial_epoch: int,
    steps_per_epoch: int | None,
    validation_steps: int | None,
    validation_batch_size: int | None,
    validation_freq: int | Iterable[int],
) -> History:
    """``Model.fit``."""
    shown = check_verbose(verbose)
    batch = adapt.positive(BATCH if batch_size is None else batch_size, "batch_size")
    epochs = adapt.positive(epochs, "epochs")
    initial_epoch = adapt.positive(initial_epoch, "initial_epoch", 0)
    validation_batch = (
        batch if validation_batch_size is None else adapt.positive(validation_batch_size, "validation_batch_size")
    )
    validates = _validation_epochs(validation_freq)
    shuffle = flag("fit", "shuffle", shuffle)
    if steps_per_epoch is not None:
        steps_per_epoch = adapt.positive(steps_per_epoch, "steps_per_epoch")
    if validation_steps is not None:
        validation_steps = adapt.positive(validation_steps, "validation_steps")
    model.settings  # noqa: B018  raises if the model is not compiled, before anything else is looked at

    if adapt.is_stream(x):
        if y is not None or sample_weight is not None or validation_split:
            raise TypeError(
                "fit: expected neither y, sample_weight nor validation_split where x is an iterable of batches"
            )
        _check_stream(x, epochs - initial_epoch, steps_per_epoch)
        data: Any = x if steps_per_epoch is None else iter(_forever(x))
        steps = steps_per_epoch if steps_per_epoch is not None else len(x) if hasattr(x, "__len__") else None
        held = None
        samples_count = None
    else:
        samples = prepare(model, x, y, sample_weight, class_weight)
        position = adapt.split_position(validation_split, samples.count)
        data, held = samples, None
        if position < samples.count:
            if validation_data is not None:
                raise ValueError("fit: expected either validation_split or validation_data, got both")
            # Classes are weighed in training alone, as with validation_data.
            whole = samples if class_weight is None else prepare(model, x, y, sample_weight)
            data, held = samples.part(0, position), whole.part(position, samples.count)
        steps = limit(steps_per_epoch, data.count, batch, "steps_per_epoch")
        samples_count = data.count
    if validation_data is not None:
        held = _validation_data(model, validation_data)
    if isinstance(held, Samples):
        limit(validation_steps, held.count, validation_batch, "validation_steps")

    history, progress = History(), Progress(shown)
    params = {
        "epochs": epochs, "steps": steps, "batch_size": batch, "samples": samples_count, "seed": model.settings.seed,
        "verbose": shown,
    }  # fmt: skip
    calls = CallbackList([*as_list(callbacks), history, progress], model, params)
    if model.fitting:
        raise RuntimeError(f"{model}: fit is running already, in another thread or around this callback")
    model.history, model.stop_training, model.fitting = history, False, threading.get_ident()
    try:
        calls.call("on_train_begin", None)
        taken = 0  # batches of an iterable
        for epoch in range(initial_epoch, epochs):
            calls.call("on_epoch_begin", epoch, None)
            start = time.perf_counter()
            if isinstance(data, Samples):
                logs, count = _array_epoch(model, data, batch, steps, shuffle, calls)  # type: ignore[arg-type]
            else:
                logs, count, some = _stream_epoch(model, data, steps_per_epoch, class_weight, calls)
                taken += some
                if not some and (steps_per_epoch is None or not taken):
                    raise ValueError("x: expected at least one batch, got none")
                if steps_per_epoch is not None and some < steps_per_epoch and not model.stop_training:
                    ran_out(taken, (epochs - initial_epoch) * steps_per_epoch, "; training stops")
                    model.stop_training = True
                    if not some:  # an epoch of nothing has no values
                        break
            progress.trained(time.perf_counter() - start, count)
            model.engine.epochs += 1
            if held is not None and validates(epoch):
                values = evaluate_data(model, held, validation_batch, validation_steps, calls)
                logs.update((f"val_{name}", value) for name, value in values.items())
            calls.call("on_epoch_end", epoch, logs)
            if model.stop_training:
                break
        calls.call("on_train_end", logs if history.epoch else None)
    finally:
        model.fitting = 0
        progress.close()
    return history


def _array_epoch(
    model: Model, samples: Samples, batch: int, steps: int, shuffle: bool, calls: CallbackList
) -> tuple[dict[str, float], int]:
    """One pass over arrays; the values, and the number of samples."""
    engine = model.engine
    order = seeds.stream("shuffle", engine.epochs, model.settings.seed).permutation(samples.count) if shuffle else None
    totals = engine.totals["train"]
    totals[:] = 0
    done = 0
    running = engine.train_steps(samples, batch, steps, order, slices=not calls.every_batch)
    logs: dict[str, float] = {}
    while done < steps and not (done and model.stop_training):
        if calls.every_batch:
            calls.call("on_train_batch_begin", done, None)
        done += next(running)
        logs = engine.training_logs(totals)
        calls.call("on_progress", done - 1, logs)
        if calls.every_batch:
            calls.call("on_train_batch_end", done - 1, logs)
    return logs, min(done * batch, samples.count)


def _stream_epoch(
    model: Model, stream: Any, steps: int | None, class_weight: Any, calls: CallbackList
) -> tuple[dict[str, float], int, int]:
    """One pass over an iterable of batches, or ``steps`` of them; the values, the number of samples and of batches."""
    total, count, number = None, 0, -1
    logs: dict[str, float] = {}
    for number, samples in enumerate(batches(stream, model, "x", class_weight)):
        calls.call("on_train_batch_begin", number, None)
        values = _one_step(model, samples)
        total = values if total is None else total + values
        count += samples.count
        logs = model.engine.training_logs(total)
        calls.call("on_progress", number, logs)
        calls.call("on_train_batch_end", number, logs)
        if model.stop_training or number + 1 == steps:
            break
    return logs, count, number + 1


def _one_step(model: Model, samples: Samples) -> Any:
    """Train on one batch; its totals. Those of an epoch that is under way (a callback may call this) stay."""
    engine = model.engine
    totals = engine.totals["train"]
    with engine.train_lock:
        samples = samples.at_step(int(engine.train_state[DRAW]))
        before = totals.copy()
        totals[:] = 0
        for _ in engine.train_steps(samples, samples.count, 1):
            pass
        mine = totals.copy()
        totals[:] = before
        return mine


def train_on_batch(model: Model, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> dict[str, float]:
    samples = prepare(model, x, y, sample_weight, class_weight)
    return model.engine.training_logs(_one_step(model, samples))


def _validation_epochs(frequency: int | Iterable[int]) -> Any:
    """Whether to validate after an epoch (from 0)."""
    if isinstance(frequency, Iterable) and not isinstance(frequency, (str, bytes)):
        chosen = {adapt.positive(epoch, "validation_freq") for epoch in frequency}
        return lambda epoch: epoch + 1 in chosen
    every = adapt.positive(frequency, "validation_freq")
    return lambda epoch: (epoch + 1) % every == 0


def _validation_data(model: Model, data: Any) -> Any:
    if adapt.is_stream(data):
        if hasattr(data, "__next__"):
            raise TypeError("validation_data: expected an iterable that can be read more than once, got an iterator")
        return validation(model, data, None, None)
    if isinstance(data, list) and (not model.built or len(model.structure.inputs) == 1):
        adapt.refuse_list_of_batches(data, "validation_data")
    if not isinstance(data, (tuple, list)) or not 2 <= len(data) <= 3:
        raise TypeError(f"validation_data: expected (x, y) or (x, y, sample_weight), got a {type(data).__name__}")
    try:
        return validation(model, data[0], data[1], data[2] if len(data) == 3 else None)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from error


def _check_stream(stream: Any, epochs: int, steps: int | None) -> None:
    if hasattr(stream, "__next__") and epochs > 1 and steps is None:
        raise ValueError(
            f"x: an iterator can be read once, which is one epoch, got epochs={epochs}; give steps_per_epoch, "
            "or an iterable whose iter() starts anew"
        )


def _forever(stream: Any) -> Iterator[Any]:
    """The batches again and again, where the iterable allows it: steps_per_epoch says where an epoch ends."""
    while True:
        empty = True
        for item in stream:
            empty = False
            yield item
        if empty or hasattr(stream, "__next__"):
            return
