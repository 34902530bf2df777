"""Runs a graph on arrays: what the tests of layers, losses, metrics and optimizers share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

import nncore
from nncore.memory import SLOTS
from nnpy import ops
from nnpy.compiler import Executable, compile_step, differentiate, specialise
from nnpy.graph import Parameter, Tensor, ordered
from nnpy.ops.effects import feed
from nnpy.parameters import Store


def parameters_of(outputs: Sequence[Tensor]) -> list[Parameter]:
    """The parameters that tensors depend on, in the order they were made."""
    found = {t for node in ordered(outputs) for t in node.inputs if isinstance(t, Parameter)}
    return sorted(found, key=lambda parameter: parameter.number)


class Running:
    """A compiled graph, its inputs bound: ``value`` of a tensor, ``gradient`` of the mean of ``loss`` by one."""

    def __init__(self, executable: Executable, final: dict, slopes: dict, arrays: list[np.ndarray]):
        self.executable, self.final, self.slopes, self.arrays = executable, final, slopes, arrays

    def value(self, tensor: Tensor) -> np.ndarray:
        return self.executable.value(self.final.get(tensor, tensor))

    def gradient(self, tensor: Tensor) -> np.ndarray | None:
        slope = self.slopes.get(self.final.get(tensor, tensor))
        return None if slope is None else self.executable.value(slope)


def compiled(
    outputs: Sequence[Tensor], feeds: dict[Tensor, np.ndarray], dtype="float32", training=False,
    loss: Tensor | None = None, by: Sequence[Tensor] = (), without: Collection[str] = (),
) -> Running:  # fmt: skip
    """The graph that computes ``outputs`` of the arrays in ``feeds``, as one batch, and the gradients of the mean of
    ``loss`` by parameters and ``by``."""
    scalar = None if loss is None else ops.mean(loss)
    wanted = [*outputs, *by, *([] if scalar is None else [loss, scalar])]
    parameters = parameters_of(wanted)
    Store(parameters, dtype)
    final, _ = specialise(wanted, training)
    slopes = {} if scalar is None else differentiate(final[scalar], [*parameters, *(final.get(t, t) for t in by)])
    arrays = [np.ascontiguousarray(array) for array in feeds.values()]
    batch = len(arrays[0]) if arrays else 1
    given = [
        feed(t, slot, array.dtype.name, array[:1].nbytes)
        for slot, (t, array) in enumerate(zip(feeds, arrays, strict=True))
    ]
    state = nncore.new_state(batch, seed=5)
    kept = {final[t] for t in wanted} | {
        slopes[t] for t in (*parameters, *(final.get(t, t) for t in by)) if t in slopes
    }
    made = compile_step(given, batch, state, dtype, keep=list(kept), without=without)
    for slot, array in enumerate(arrays):
        state[SLOTS + slot] = array.ctypes.data
    return Running(made, final, slopes, arrays)


def start(running: Running) -> Running:
    """Run the first step (again)."""
    state = running.executable.state
    state[nncore.memory.DRAW] = state[nncore.memory.ROW] = state[nncore.memory.LOCAL] = 0
    running.executable.program.run()
    return running


def value(output: Tensor, feeds: dict[Tensor, np.ndarray], dtype="float32", training=False) -> np.ndarray:
    """What ``output`` is for arrays."""
    return start(compiled([output], feeds, dtype, training)).value(output).copy()
