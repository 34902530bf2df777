"""Engine: runs a model's Programs, one at a time on its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from nncore.memory import BATCH, DRAW, EPOCH, INDICES, LOCAL, NUMBERS, RATES, ROW, SEED, STEPS
from nnpy import interrupts
from nnpy.compiler import Executable
from nnpy.data.images import Images
from nnpy.data.sparse import Sparse
from nnpy.graph import Tensor
from nnpy.training.binding import Rates, address, bind, parts
from nnpy.training.fast import FastPredict
from nnpy.training.programs import Programs, Ready
from nnpy.training.samples import Samples

SLICE = 0.05  # seconds between two looks at signals and progress


class Engine(Programs):
    """Training runs on ``train_state``, all else on ``infer_state``. Where training stands is ``model.training``."""

    @contextmanager
    def _turn(self, mode: str) -> Iterator[None]:
        """Nobody else runs on these parameters. A signal handler that comes in the midst of another run may predict and
        evaluate: what that run has set is put back. RuntimeError if it would train."""
        with self.guard.turn() as nested:
            if not nested:
                yield
                return
            if mode == "train":
                raise RuntimeError(f"{self.model}: expected no training in the midst of a step (a signal handler?)")
            state, totals = self.infer_state.copy(), self.totals["test"].copy()
            try:
                yield
            finally:
                self.infer_state[:], self.totals["test"][:] = state, totals

    def train(
        self,
        samples: Samples,
        batch: int,
        totals: np.ndarray,
        rates: Rates,
        *,
        row: int = 0,
        order: np.ndarray | None = None,
        most: int = 1,
        moved: Callable[[int, int], None] = lambda steps, rows: None,
    ) -> int:
        """Train on the samples from ``row`` on, in ``order``: up to ``most`` steps and about 50 ms, or one step if what
        is left is less than a batch. Adds to ``totals``, calls ``moved(steps, rows)``; returns the number of steps."""
        training, left = self.model.training, samples.count - row
        size, steps = (batch, min(most, left // batch)) if left >= batch else (left, 1)
        ready = self.training(size, samples)
        numbers, state, cells = samples.numbers, self.train_state, self.totals["train"]
        while True:
            interrupts.check()
            update = training.update
            table = rates.of(update, steps)  # the user's function may be asked, and may train
            self.guard.give_way()
            with self._turn("train"):
                if training.update != update:
                    continue  # another thread has trained meanwhile
                store = self.claim()  # another model that shares parameters may have moved them
                setup = {
                    BATCH: size, ROW: row, LOCAL: 0, DRAW: training.draw, EPOCH: training.epoch, SEED: training.seed,
                    STEPS: update, INDICES: 0 if order is None else address(order), RATES: address(table),
                    NUMBERS: 0 if numbers is None else address(numbers),
                }  # fmt: skip
                bind(state, samples.arrays, setup)
                cells[...] = totals
                optimizer = rates.optimizer
                optimizer.before_run(store, ready.trained)
                try:
                    ready.executable.run(steps, SLICE)
                finally:  # Ctrl-C may come before run's result is here; the cells tell what was done
                    done = int(state[LOCAL])
                    training.update += done
                    training.draw += done
                    totals[...] = cells
                    optimizer.after_run(store)
                    moved(done, min(done * size, left))
            return done

    def test_steps(
        self, samples: Samples, batch: int, steps: int, totals: np.ndarray, slices: bool = True
    ) -> Iterator[int]:
        """Losses and metrics of ``steps`` batches of the samples in order are added to ``totals``; yields after each
        stretch how many it was: about 50 ms, or without ``slices`` one step."""
        row = 0
        for size, count in parts(samples.count, batch, steps):
            make = lambda size=size: self.testing(size, samples)  # noqa: E731
            yield from self._infer(make, samples.arrays, row, size, count, slices, totals)
            row += size * count

    def predict(self, inputs: Sequence[np.ndarray | Images | Sparse], batch: int, steps: int) -> list[np.ndarray]:
        """The outputs for inputs in order."""
        results = self.results(inputs, batch, steps)
        for _ in self.predict_steps(inputs, results, batch, steps):
            pass
        return results

    def results(self, inputs: Sequence[np.ndarray | Images | Sparse], batch: int, steps: int) -> list[np.ndarray]:
        """Arrays for the outputs, of their dtypes."""
        count = min(len(inputs[0]), steps * batch)
        outputs = self.structure([x.shape[1:] for x in inputs]).outputs
        return [np.empty(t.concrete(count), self._dtype(t)) for t in outputs]

    def _dtype(self, output: Tensor) -> str:
        return self.model.dtype if output.kind == "real" else output.dtype

    def predict_steps(
        self,
        inputs: Sequence[np.ndarray | Images | Sparse],
        results: Sequence[np.ndarray],
        batch: int,
        steps: int,
        slices: bool = True,
    ) -> Iterator[int]:
        """As ``test_steps``: the outputs are written to ``results``."""
        row = 0
        for size, count in parts(len(results[0]), batch, steps):
            make = lambda size=size: self.inference(size, inputs)  # noqa: E731
            yield from self._infer(make, [*inputs, *results], row, size, count, slices)
            row += size * count

    def _infer(
        self,
        make: Callable[[], Ready],
        arrays: Sequence[np.ndarray | Images | Sparse],
        row: int,
        size: int,
        count: int,
        slices: bool,
        totals: np.ndarray | None = None,
    ) -> Iterator[int]:
        state, cells = self.infer_state, self.totals["test"]
        while count:
            interrupts.check()
            ready = make()
            self.guard.give_way()
            with self._turn("infer"):
                if any(p.value is not v for p, v in zip(self.parameters, ready.values, strict=True)):
                    continue  # another thread has moved the parameters meanwhile
                bind(state, arrays, {INDICES: 0, LOCAL: 0, ROW: row, BATCH: size})
                if totals is not None:
                    cells[...] = totals
                done = ready.executable.run(count if slices else 1, SLICE)
                if totals is not None:
                    totals[...] = cells
            count -= done
            row += done * size
            yield done

    def fast(self, x: np.ndarray) -> FastPredict | None:
        """The short way for arrays like ``x``, if one run of one Program does it."""
        structure = self.structure([x.shape[1:]])
        if len(structure.inputs) != 1 or len(structure.outputs) != 1 or structure.output_keys:
            return None
        (output,) = structure.outputs
        return FastPredict(self, self.inference(len(x), [x]), output.concrete(len(x)), self._dtype(output))

    def profile(self, mode: str, batch: int, samples: Samples, steps: int) -> tuple[Executable, np.ndarray]:
        """A step on some samples, and the nanoseconds of each of its ops (``Program.profile``). Nothing is trained."""
        executable = self.compiled(mode, batch, samples)
        state, training = executable.state, self.model.training
        table = Rates(self.settings.optimizer, 0).of(0, steps) if mode == "train" and self.settings else np.zeros(steps)
        order = np.tile(np.arange(batch), steps)
        results = []  # a step writes behind the one before
        if mode == "predict":
            results = [
                np.tile(array, (steps, *[1] * (array.ndim - 1))) for array in self.results(samples.inputs, batch, 1)
            ]
        kept = [weight.value for weight in self.parameters]
        if mode == "train":
            store = self.claim()
            kept = [store.values, store.gradients, *self.optimizer_slots().values()]
        with self._turn("train" if mode == "train" else "infer"):
            before, cells = [array.copy() for array in kept], self.totals["train"].copy()
            setup = {
                BATCH: batch, ROW: 0, LOCAL: 0, DRAW: training.draw, EPOCH: training.epoch, SEED: training.seed,
                STEPS: 0, INDICES: address(order), NUMBERS: 0, RATES: address(table),
            }  # fmt: skip
            bind(state, [*samples.arrays, *results], setup)
            try:
                nanoseconds = executable.program.profile(steps)
            finally:
                self.totals["train"][...] = cells
                for array, value in zip(kept, before, strict=True):
                    array[...] = value
            executable.check()
        return executable, nanoseconds
