"""The training loop: epochs of compiled steps, with looks at signals, progress and callbacks in between."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpy import interrupts
from nnpy.callbacks.base import CallbackList, as_list
from nnpy.callbacks.history import History
from nnpy.checks import flag
from nnpy.data import inputs as adapt
from nnpy.data.weights import refuse_balanced
from nnpy.hints import advise
from nnpy.training.binding import Rates
from nnpy.training.evaluation import BATCH, evaluate_data, limit, ran_out, refuse_batch_size, validation
from nnpy.training.progress import ProgbarLogger, check_verbose
from nnpy.training.samples import Samples, batches, prepare, weighed
from nnpy.training.watch import Stretch, Watch, tell_of_batch

if TYPE_CHECKING:
    from nnpy.model import Model
    from nnpy.training.training import Training


@dataclass
class Plan:
    """What ``fit`` was told, checked. ``steps``: of an epoch; None: as many as an iterable gives. ``limited``: they
    were told, so that a pass over the data may end in the middle of an epoch. ``given``: options that were
    told and that not all data has a use for."""

    shown: int
    batch: int
    epochs: int
    initial_epoch: int
    shuffle: bool
    steps: int | None
    class_weight: Any
    validation_split: float
    validation_batch: int
    validation_steps: int | None
    validates: Callable[[int], bool]
    limited: bool
    given: frozenset[str]


@dataclass
class Data:
    """What to train on, ``samples`` or a ``stream`` of batches, and what to evaluate after an epoch."""

    samples: Samples | None = None
    stream: Any = None
    held: Any = None


@interrupts.keeping
def fit(
    model: Model, x: Any, y: Any, *, callbacks: Any, validation_data: Any, sample_weight: Any, **options: Any
) -> History:
    """``Model.fit``."""
    plan = _plan(**options)
    model.settings  # noqa: B018  raises if the model is not compiled, before anything else is looked at
    data = (_stream if adapt.is_stream(x) else _arrays)(model, plan, x, y, sample_weight, validation_data)
    if validation_data is not None:
        data.held = _validation_data(model, validation_data, plan.validation_steps)
    _check_validation(plan, data.held)
    if isinstance(data.held, Samples):
        limit(plan.validation_steps, data.held.count, plan.validation_batch, "validation_steps")
    given, history, training = as_list(callbacks), History(), model.training
    shows = [callback for callback in given if isinstance(callback, ProgbarLogger)]
    progress = shows[0] if shows else ProgbarLogger(plan.shown)
    params = {
        "epochs": plan.epochs, "steps": plan.steps, "batch_size": plan.batch if data.stream is None else None,
        "samples": None if data.samples is None else data.samples.count, "seed": model.settings.seed,
        "shuffle": plan.shuffle, "verbose": plan.shown,
    }  # fmt: skip
    calls = CallbackList([*given, history, *([] if shows else [progress])], model, params)
    calls.call("before_fit")
    _check_schedule(model, plan)
    with training.running(model, plan.initial_epoch, calls, history):
        try:
            calls.call("on_train_begin", None)
            before = training.update
            logs = _epochs(model, plan, data, calls, progress)
            _check_updates(model, before)
            if history.epoch:
                model.engine.finalize()
            calls.call("on_train_end", logs if history.epoch else None)
        finally:
            progress.close()
    return history


def _check_updates(model: Model, before: int) -> None:
    """An AdviceWarning if gradients were accumulated, and nothing was made of them."""
    every, update = model.optimizer.gradient_accumulation_steps or 1, model.training.update
    if every > 1 and update > before and update // every == before // every:
        advise(
            f"{model}: no weight was changed: the optimizer makes an update of every {every} batches "
            f"(gradient_accumulation_steps), and there were {update - before}"
        )


def _check_schedule(model: Model, plan: Plan) -> None:
    """A schedule counts the optimizer's steps, which ``initial_epoch`` does not change: a warning where it is not where
    that many epochs end."""
    first, training = plan.initial_epoch, model.training
    if not first or training.resumed or model.optimizer.schedule is None:
        return
    expected = first * plan.steps if plan.steps else None
    if not training.update or (expected is not None and training.update != expected):
        instead = f", not {expected}" if expected else ""
        advise(
            f"{model}: initial_epoch={first}, and the learning rate's schedule goes on from step {training.update}"
            f"{instead}: a model loaded by load_model knows its step, weights alone do not"
        )


def _plan(
    *,
    batch_size: int | None,
    epochs: int,
    verbose: Any,
    validation_split: float,
    shuffle: bool,
    class_weight: Any,
    initial_epoch: int,
    steps_per_epoch: int | None,
    validation_steps: int | None,
    validation_batch_size: int | None,
    validation_freq: int | Iterable[int],
) -> Plan:
    batch = adapt.positive(BATCH if batch_size is None else batch_size, "batch_size")
    plan = Plan(
        shown=check_verbose(verbose),
        batch=batch,
        epochs=adapt.positive(epochs, "epochs"),
        initial_epoch=adapt.positive(initial_epoch, "initial_epoch", 0),
        shuffle=flag("fit", "shuffle", shuffle),
        steps=steps_per_epoch,
        class_weight=class_weight,
        validation_split=validation_split,
        validation_batch=batch,
        validation_steps=validation_steps,
        validates=_validation_epochs(validation_freq),
        limited=steps_per_epoch is not None,
        given=frozenset(
            name
            for name, value in (
                ("batch_size", batch_size),
                ("validation_batch_size", validation_batch_size),
                ("validation_steps", validation_steps),
                ("validation_freq", None if type(validation_freq) is int and validation_freq == 1 else True),
            )
            if value is not None
        ),
    )
    if validation_batch_size is not None:
        plan.validation_batch = adapt.positive(validation_batch_size, "validation_batch_size")
    if steps_per_epoch is not None:
        plan.steps = adapt.positive(steps_per_epoch, "steps_per_epoch")
    if validation_steps is not None:
        plan.validation_steps = adapt.positive(validation_steps, "validation_steps")
    return plan


def _stream(model: Model, plan: Plan, x: Any, y: Any, sample_weight: Any, validation_data: Any) -> Data:
    if y is not None or sample_weight is not None or plan.validation_split:
        raise TypeError("fit: expected neither y, sample_weight nor validation_split where x is an iterable of batches")
    refuse_balanced(plan.class_weight, "where x is an iterable of batches")
    if "batch_size" in plan.given:
        refuse_batch_size("batch_size", x)
    if hasattr(x, "__next__") and plan.epochs - plan.initial_epoch > 1 and not plan.limited:
        raise ValueError(
            f"x: an iterator can be read once, which is one epoch, got epochs={plan.epochs - plan.initial_epoch}; give "
            "steps_per_epoch, or an iterable whose iter() starts anew"
        )
    if not plan.limited:
        plan.steps = len(x) if hasattr(x, "__len__") else None
    if not plan.shuffle and not hasattr(x, "__next__"):
        x = _InOrder(x)
    if not plan.limited:
        return Data(stream=x)
    return Data(stream=_forever(x, model.training))


class _InOrder:
    """An iterable of batches without the order that it has of its own."""

    def __init__(self, batches: Any):
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(adapt.in_order(self.batches))


def _check_validation(plan: Plan, held: Any) -> None:
    """Raises TypeError or ValueError for what says how to validate where that has no use."""
    given = sorted(name for name in plan.given if name.startswith("validation_"))
    if held is None and given:
        raise ValueError(f"fit: expected validation_data or validation_split beside {given[0]}, got neither")
    if "validation_batch_size" in given and not isinstance(held, Samples):
        refuse_batch_size("validation_batch_size", held)


def _arrays(model: Model, plan: Plan, x: Any, y: Any, sample_weight: Any, validation_data: Any) -> Data:
    samples = prepare(model, x, y, sample_weight)
    position = adapt.split_position(plan.validation_split, samples.count)
    data = Data(samples)
    if position < samples.count:
        if validation_data is not None:
            raise ValueError("fit: expected either validation_split or validation_data, got both")
        data = Data(samples.part(0, position), held=samples.part(position, samples.count))
    assert data.samples is not None
    # Classes are counted and weighed in training alone, as with validation_data.
    data.samples = weighed(model, data.samples, plan.class_weight)
    plan.steps = limit(plan.steps, data.samples.count, plan.batch, "steps_per_epoch")
    return data


def _epochs(model: Model, plan: Plan, data: Data, calls: CallbackList, progress: ProgbarLogger) -> dict[str, float]:
    """The epochs that are left; the values of the last."""
    training, watch = model.training, Watch(model)
    logs: dict[str, float] = {}
    if not training.begun and (training.ended or training.number >= plan.epochs):  # what this run goes on from is over
        training.resume()
        return logs
    while training.number < plan.epochs:
        number = training.number
        if not training.begun:
            training.resume()
            training.totals = None
        training.begun = True
        calls.call("on_epoch_begin", number, None)
        training.resume()
        start, first = time.perf_counter(), training.batch
        if data.samples is not None:
            logs, count = _array_epoch(model, plan, data.samples, calls, watch)
        else:
            logs, count = _stream_epoch(model, plan, data.stream, calls, watch)
            if not _had_some(training, plan):
                break
            training.end_pass()
        progress.trained(time.perf_counter() - start, count, training.batch - first)
        training.end_epoch()
        if data.held is not None and plan.validates(number):
            values = evaluate_data(
                model, data.held, plan.validation_batch, plan.validation_steps, calls, "validation_data"
            )
            logs.update((f"val_{name}", value) for name, value in values.items())
        if model.optimizer.schedule is not None:
            logs["learning_rate"] = model.optimizer.last_rate(training.update)
        calls.call("on_epoch_end", number, logs)
        if training.stop:
            break
    return logs


def _array_epoch(
    model: Model, plan: Plan, samples: Samples, calls: CallbackList, watch: Watch
) -> tuple[dict[str, float], int]:
    """The epoch under way on arrays; the values, and the number of samples. Where a pass over them ends in its midst,
    the next begins."""
    engine, training, steps = model.engine, model.training, plan.steps
    assert steps is not None and engine.settings is not None
    if training.totals is None:
        training.totals = np.zeros_like(engine.totals["train"])
    rates = Rates(engine.settings.optimizer, training.update + steps - training.batch)
    count, first, logs = 0, training.batch, engine.logs("train", training.totals)
    while training.batch < steps and not (training.stop and (training.batch > first or training.ended)):
        if training.row == samples.count:
            training.end_pass()
        if calls.every_batch:
            calls.call("on_train_batch_begin", training.batch, None)
        order = training.order(samples.count, plan.shuffle)
        stretch = Stretch(samples, plan.batch, training.row, training.epoch, training.batch, training.draw, order)
        watch.begin()
        done = engine.train(
            samples, plan.batch, training.totals, rates, row=training.row, order=order,
            most=1 if calls.every_batch else steps - training.batch, moved=training.moved,
        )  # fmt: skip
        count += training.row - stretch.row
        logs = engine.logs("train", training.totals)
        watch.end(stretch._replace(steps=done), logs["loss"])
        if training.row == samples.count:
            training.end_pass()
        if calls.every_batch:
            calls.call("on_train_batch_end", training.batch - 1, logs)
        calls.call("on_progress", training.batch - 1, logs)
    return logs, count


def _stream_epoch(
    model: Model, plan: Plan, stream: Any, calls: CallbackList, watch: Watch
) -> tuple[dict[str, float], int]:
    """The epoch under way on an iterable of batches, as far as that or ``plan`` goes; the values, and the number of
    samples."""
    training, count = model.training, 0
    logs = {} if training.totals is None else model.engine.logs("train", training.totals)
    if training.ended or (plan.limited and training.batch == plan.steps):
        return logs, count
    if not plan.limited and not hasattr(stream, "__next__"):
        stream = adapt.in_pass(stream, training.epoch, training.seed)
        stream = itertools.islice(stream, training.batch, None)  # what a run that this one goes on from has seen
    for samples in batches(stream, model, "x", plan.class_weight):
        calls.call("on_train_batch_begin", training.batch, None)
        if training.totals is None:
            training.totals = np.zeros_like(model.engine.totals["train"])
        samples = samples.at_step(training.draw)
        stretch = Stretch(samples, samples.count, 0, training.epoch, training.batch, training.draw, None, 1)
        watch.begin()
        _one_step(model, samples, training.totals, training.took)
        count += samples.count
        logs = model.engine.logs("train", training.totals)
        watch.end(stretch, logs["loss"])
        calls.call("on_train_batch_end", training.batch - 1, logs)
        calls.call("on_progress", training.batch - 1, logs)
        if training.stop or (plan.limited and training.batch == plan.steps):
            break
    return logs, count


def _had_some(training: Training, plan: Plan) -> bool:
    """Whether the epoch had batches; one that had too few is the last. ValueError if there never were any."""
    if not training.batch and not (plan.limited and training.taken):
        raise ValueError("x: expected at least one batch, got none")
    if plan.limited and training.batch < (plan.steps or 0) and not training.stop:
        expected = (plan.epochs - plan.initial_epoch) * (plan.steps or 0)
        ran_out(training.taken, expected, "; training stops")
        training.stop = True
    return training.batch > 0  # an epoch of nothing has no values


def _one_step(model: Model, samples: Samples, totals: np.ndarray, moved: Callable[[int, int], None]) -> None:
    """Train on one batch, numbered; adds to ``totals``."""
    engine, training = model.engine, model.training
    assert engine.settings is not None
    rates = Rates(engine.settings.optimizer, training.update + 1)
    engine.train(samples, samples.count, totals, rates, moved=moved)


@interrupts.keeping
def train_on_batch(model: Model, x: Any, y: Any, sample_weight: Any, class_weight: Any) -> dict[str, float]:
    refuse_balanced(class_weight, "of a batch")
    samples = prepare(model, x, y, sample_weight, class_weight)
    totals = np.zeros_like(model.engine.totals["train"])
    samples = samples.at_step(model.training.draw)
    _one_step(model, samples, totals, lambda steps, rows: None)
    logs = model.engine.logs("train", totals)
    tell_of_batch(model, samples, logs["loss"])
    return logs


def _validation_epochs(frequency: int | Iterable[int]) -> Callable[[int], bool]:
    """Whether to validate after an epoch (from 0)."""
    if isinstance(frequency, Iterable) and not isinstance(frequency, (str, bytes)):
        chosen = {adapt.positive(epoch, "validation_freq") for epoch in frequency}
        return lambda epoch: epoch + 1 in chosen
    every = adapt.positive(frequency, "validation_freq")
    return lambda epoch: (epoch + 1) % every == 0


def _validation_data(model: Model, data: Any, steps: int | None) -> Any:
    if adapt.is_stream(data):
        if hasattr(data, "__next__") and steps is None:
            raise TypeError(
                "validation_data: expected validation_steps with an iterator, which can be read once: each epoch takes "
                "so many batches; or an iterable whose iter() starts anew"
            )
        if hasattr(data, "__len__") and len(data) == 0:
            raise ValueError("validation_data: expected at least one batch, got none")
        return validation(model, data, None, None)
    if isinstance(data, list) and (not model.built or len(model.structure.inputs) == 1):
        adapt.refuse_list_of_batches(data, "validation_data")
    if not isinstance(data, (tuple, list)) or not 2 <= len(data) <= 3:
        raise TypeError(f"validation_data: expected (x, y) or (x, y, sample_weight), got a {type(data).__name__}")
    try:
        return validation(model, data[0], data[1], data[2] if len(data) == 3 else None)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from error


def _forever(stream: Any, training: Training) -> Iterator[Any]:
    """The batches again and again, where the iterable allows it: steps_per_epoch says where an epoch ends. Without
    those that a run which this one goes on from has seen."""
    seen = 0 if hasattr(stream, "__next__") else training.taken
    for number in itertools.count(training.first_pass):
        empty = True
        for item in adapt.in_pass(stream, number, training.seed):
            empty = False
            if seen:
                seen -= 1
            else:
                yield item
        if empty or hasattr(stream, "__next__"):
            return
