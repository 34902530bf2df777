"""Runs a graph on arrays: what the tests of layers, losses, metrics and optimizers share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import nncore
from nnpy.compiler import Executable, Feed, Request, compile_request
from nnpy.graph import Parameter, Tensor, ordered
from nnpy.parameters import Store


def parameters_of(outputs: Sequence[Tensor]) -> list[Parameter]:
    """The parameters that tensors depend on, in the order they were made."""
    found = {t for node in ordered(outputs) for t in node.inputs if isinstance(t, Parameter)}
    return sorted(found, key=lambda parameter: parameter.number)


def compiled(outputs: Sequence[Tensor], feeds: dict[Tensor, np.ndarray], dtype="float32", training=False, **request):
    """The Executable that computes ``outputs`` of the arrays in ``feeds``, as one batch."""
    objective = request.get("objective", ())
    batch = len(next(iter(feeds.values())))
    given = [Feed(t, slot, array.dtype.name, array.strides[0]) for slot, (t, array) in enumerate(feeds.items())]
    store = Store(parameters_of([*outputs, *(loss for loss, _ in objective)]), dtype)
    made = compile_request(
        Request(batch, training, given, keep=list(outputs), **request), store, nncore.new_state(batch, seed=5)
    )
    for slot, array in enumerate(feeds.values()):
        made.bind(slot, array)
    return made


def start(executable: Executable) -> Executable:
    """Run the first step (again)."""
    executable.state[nncore.memory.DRAW] = executable.state[nncore.memory.ROW] = 0
    executable.state[nncore.memory.LOCAL] = 0
    executable.program.run()
    return executable


def value(output: Tensor, feeds: dict[Tensor, np.ndarray], dtype="float32", training=False) -> np.ndarray:
    """What ``output`` is for arrays."""
    return start(compiled([output], feeds, dtype, training)).value(output).copy()
