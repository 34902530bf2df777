"""A kernel's Op on sample data, and NumPy that does the same work."""

import numpy as np

import nncore
from nncore import Op, Step
from nncore.kernels.signatures import SIGNATURES
from nncore.memory import LOCAL

rng = np.random.default_rng(0)


def empty(shape, dtype=np.float32):
    """As np.empty, on a cache line, as all buffers of Programs are."""
    return nncore.aligned(shape, dtype)


def normal(*shape):
    array = empty(shape)
    rng.standard_normal(dtype=np.float32, out=array)
    return array


def add_row(row):
    """The step that adds a row to every row, as a bias is added."""
    return Step("add", p=row)


def add_rows(array):
    """The step that adds an array of as many rows and columns."""
    return Step("add", p=array)


class Case:
    """``arguments`` of the kernel's Op (and ``keep``: what must live as long); ``numpy`` does the same work."""

    def __init__(self, name, arguments, numpy, steps=None, work=0.0, keep=()):
        self.name, self.arguments, self.numpy = name, arguments, numpy
        self.steps, self.work, self.keep = steps, work, keep

    def __str__(self):
        sizes = SIGNATURES[self.name].sizes
        shown = [str(self.arguments[n]) for n in ("count", "rows", "m", "k", "n", "cols") if n in sizes]
        return " ".join(filter(None, (self.name, self.arguments.get("rule"), "x".join(shown))))

    def program(self):
        """run(times): the kernel so often in one call."""
        state = self.arguments.get("state")
        program = nncore.Program(
            [Op(self.name, steps=self.steps, **self.arguments)], nncore.new_state() if state is None else state
        )

        def run(times):
            program.state[LOCAL] = 0  # there are learning rates for MOST steps
            program.run(times)

        return run
