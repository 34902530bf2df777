"""Training: where a model's training stands, as one object that can be written down and gone on with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np

from nnpy import seeds
from nnpy.callbacks.base import CallbackList
from nnpy.callbacks.history import History
from nnpy.checks import shown

_COUNTERS = ("epoch", "row", "taken", "draw", "update", "seed", "number", "batch", "begun", "first_pass")
_trainings: WeakSet[Training] = WeakSet()


class State(NamedTuple):
    """What ``Training.state`` gives: JSON values, and arrays by the names that stand in them."""

    values: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Training:
    """Where the training of a model stands. ``fit`` moves it; ``model.training`` shows it.

    ``epoch``: passes over the data that are over, the number of the next shuffle. ``row``: samples of the pass that is
    under way. ``taken``: batches of an iterable since its first, which was of the pass ``first_pass``. ``draw``: how
    often random streams were drawn from, under ``seed``. ``update``: steps of the optimizer. ``number``: the epoch as
    ``fit`` and its callbacks count, ``batch``: its steps so far, ``totals``: their accumulators. ``history``: of the
    last ``fit``, or None. ``stop``: the epoch under way is the last; ``ended``: it was, before this run went on.
    """

    def __init__(self) -> None:
        self.thread = 0  # that is in fit
        self.stop = self.ended = False
        self.history: History | None = None
        self.callbacks: CallbackList | None = None
        self.number = self.batch = self.taken = self.first_pass = 0
        self.begun = False  # the hooks of the epoch's beginning were called
        self.totals: np.ndarray | None = None
        self.began: dict[str, Any] = {}  # the optimizer's settings when a run that is written down began
        self._resumed: dict[str, Any] | None = None  # states of callbacks to go on with
        self._order: tuple[Any, np.ndarray | None] = (None, None)
        self.reset(0)
        _trainings.add(self)

    def reset(self, seed: int) -> None:
        """From the start: another optimizer, or another structure."""
        self.epoch = self.row = self.draw = self.update = 0
        self.seed = seed

    # a run

    @contextmanager
    def running(self, who: Any, first: int, callbacks: CallbackList, history: History) -> Iterator[None]:
        """A ``fit`` from the epoch ``first`` on. RuntimeError if one is running already; ValueError if ``first`` is not
        where the restored state stands."""
        if self.thread:
            raise RuntimeError(f"{who}: fit is running already, in another thread or around this callback")
        self.thread = get_ident()
        try:
            if self._resumed is None:
                self.number, self.batch, self.taken, self.begun, self.totals = first, 0, 0, False, None
                if self.row:  # of a pass that nobody ended
                    self.end_pass()
                self.first_pass = self.epoch
            elif first not in (0, self.number):
                raise ValueError(f"{who}: expected initial_epoch={self.number}, where training stands, got {first}")
            self.ended = self.stop and self._resumed is not None
            self.callbacks, self.history, self.stop = callbacks, history, self.ended
            yield
        finally:
            self.thread = 0
            self.ended, self._resumed = False, None

    def resume(self) -> None:
        """Give the callbacks what they knew, if this run goes on from a restored state. After the hooks that begin what
        is under way: what those do has been done."""
        states, self._resumed = self._resumed, None
        if states is not None and self.callbacks is not None:
            self.callbacks.set_state(states)

    @property
    def resumed(self) -> bool:
        """Whether the next ``fit`` goes on from a restored state."""
        return self._resumed is not None

    def order(self, count: int, shuffle: bool) -> np.ndarray | None:
        """The samples' order in this pass; None: as they are."""
        key = (self.seed, self.epoch, count, shuffle)
        if self._order[0] != key:
            order = seeds.stream("shuffle", self.epoch, self.seed).permutation(count) if shuffle else None
            self._order = (key, order)
        return self._order[1]

    def moved(self, steps: int, rows: int) -> None:
        """Steps of the epoch under way are done."""
        self.batch += steps
        self.row += rows

    def took(self, steps: int, rows: int) -> None:
        """As ``moved``, of batches of an iterable."""
        self.batch += steps
        self.taken += steps

    def end_pass(self) -> None:
        """All samples were seen; the next pass has an order of its own."""
        self.epoch, self.row = self.epoch + 1, 0

    def end_epoch(self) -> None:
        self.number, self.batch, self.begun = self.number + 1, 0, False

    # to be written down

    def state(self) -> State:
        """All of it, as it is now: in a callback, or between two runs. With the weights and the optimizer's slots, as
        ``model.save`` keeps them, it is what ``restore`` goes on from, bit for bit, in the middle of an epoch too.

        At the beginning and end of an epoch ask in a callback that ``comes_last``: the others have seen it then.
        """
        arrays: dict[str, np.ndarray] = {}
        values: dict[str, Any] = {name: int(getattr(self, name)) for name in _COUNTERS}
        values["stop"] = bool(self.stop)
        values["totals"] = _taken_out(self.totals, "totals", arrays)
        states = self._resumed if self._resumed is not None else self.callbacks.get_state() if self.callbacks else {}
        values["callbacks"] = _taken_out(states, "callbacks", arrays)
        return State(values, arrays)

    def restore(self, state: State) -> None:
        """Stand where ``state()`` was taken: the next ``fit``, on the same data with the same arguments (``epochs``: of
        the whole run), goes on from there. RuntimeError while ``fit`` runs, ValueError for what is no such state.
        """
        counters, self.totals, self._resumed, self.stop = self.check(state)
        for name, value in counters.items():
            setattr(self, name, value)

    def check(self, state: State) -> tuple[dict[str, int], Any, dict[str, Any], bool]:
        """What ``restore`` would stand on: counters, accumulators, states of callbacks, ``stop``. Raises as it does."""
        if self.thread:
            raise RuntimeError("restore: expected no fit to be running")
        try:
            values, arrays = state
            counters = {name: int(values[name]) for name in _COUNTERS}
            totals, states = _put_back(values["totals"], arrays), _put_back(values["callbacks"], arrays)
            stop = bool(values["stop"])
            if not isinstance(states, dict):
                raise TypeError(f"states of callbacks {shown(states)}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"restore: expected what state() gave, lacking or wrong is {error}") from error
        if bad := [name for name, value in counters.items() if value < 0]:
            raise ValueError(f"restore: expected {bad[0]} >= 0, got {counters[bad[0]]}")
        return counters, totals, states, stop

    def position(self) -> dict[str, int]:
        """Where it stands, for files of models: a pass under way is over for who goes on from the file."""
        epoch = self.epoch + (self.row > 0)
        return {"number": self.number, "epoch": epoch, "update": self.update, "draw": self.draw, "seed": self.seed}

    def set_position(self, position: dict[str, int]) -> None:
        self.number, self.epoch, self.row = position["number"], position["epoch"], 0
        self.update, self.draw, self.seed = position["update"], position["draw"], position["seed"]


_ARRAY = "<array>"  # the key of a place where an array was


def _taken_out(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """``value`` with names in the place of its arrays, copies of which go to ``arrays``. TypeError, naming the place,
    for arrays of no numbers, and for keys that are no strings, which JSON would make some."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise TypeError(f"state: {name}: expected an array of numbers, got dtype {value.dtype}")
        while name in arrays:  # {"a/b": ..., "a": {"b": ...}}
            name += "'"
        arrays[name] = np.array(value, value.dtype.newbyteorder("="))
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key == _ARRAY:
                raise TypeError(f"state: {name}: expected keys that are strings, not {_ARRAY!r}, got {key!r}")
        return {key: _taken_out(item, f"{name}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_taken_out(item, f"{name}/{number}", arrays) for number, item in enumerate(value)]
    return value


def _put_back(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return np.array(arrays[value[_ARRAY]])
        return {key: _put_back(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_back(item, arrays) for item in value]
    return value


def _after_fork() -> None:
    for training in list(_trainings):
        if training.thread != get_ident():
            training.thread = 0


os.register_at_fork(after_in_child=_after_fork)
