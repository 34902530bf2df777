"""Step: one thing done to every element of a tile while it is in cache, at the end of a gemm or inside a chain.

The kinds are those of kernels/chain.pxd, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nncore.refs import Ref

KINDS = (
    # v is the element at (row, col); p[...] is read from the operand
    "add_row",  # v += p[col]
    "mul_row",  # v *= p[col]
    "scale_shift_row",  # v = v * p[col] + q[col]
    "norm_grad",  # v = v * q[col] + p[row, col] * q[width + col] + q[2 * width + col]: three rows of factors
    "add",  # v += p[row, col]
    "sub",  # v -= p[row, col]
    "mul",  # v *= p[row, col]
    "div",  # v /= p[row, col]
    "scale",  # v *= s0
    "shift",  # v += s0
    "store",  # p[row, col] = v
    # v = v * s1 with probability 1 - s0, else 0; random bits of (seed, draw, stream index, row * width + col)
    "dropout",
    "maximum",  # v = max(v, p)
    "minimum",  # v = min(v, p)
    "max_mask",  # v = v if p >= q else 0 (gradient of maximum by the argument p)
    "square",
    "sqrt",
    "reciprocal",
    "abs",
    "sign",
    "log",
    # activations, v = f(v)
    "relu",
    "leaky_relu",  # slope s0
    "elu",  # alpha s0
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "mish",
    "exponential",
    # their derivatives, v *= f'(.), from what SAVES says: the activation's result y or its argument x at p[row, col]
    "d_relu",
    "d_leaky_relu",
    "d_elu",
    "d_selu",
    "d_gelu",
    "d_gelu_tanh",
    "d_silu",
    "d_sigmoid",
    "d_hard_sigmoid",
    "d_tanh",
    "d_softplus",
    "d_softsign",
    "d_mish",
    "d_exponential",
    # the optimizer, behind a weight gradient v: p = w, q and r its slots, rule what the kernel NAME_prepare computed
    "sgd",  # q = velocity, or none without momentum
    "adam",  # q = m, r = v
)
CODES = {kind: code for code, kind in enumerate(KINDS)}
UPDATES = {"sgd", "adam"}
BY_COLUMN = {"add_row", "mul_row", "scale_shift_row", "norm_grad"}  # an operand is a row that holds for all rows
# The operands that a kind must have; those with none are functions of v alone.
NEEDS = {
    **dict.fromkeys(("add_row", "mul_row", "add", "sub", "mul", "div", "store", "dropout", "maximum", "minimum"), "p"),
    **{kind: "p" for kind in KINDS if kind.startswith("d_")},
    **dict.fromkeys(("scale_shift_row", "norm_grad", "max_mask"), "pq"),
    "sgd": "p",
    "adam": "pqr",
}
RULE_REALS = 8  # numbers in a rule
# What a derivative is computed from; gradients need the other no longer.
SAVES = {
    name: ("x" if name in {"gelu", "gelu_tanh", "silu", "softplus", "mish"} else "y")
    for name in (kind[2:] for kind in KINDS if kind.startswith("d_"))
}

RECORD = np.dtype(
    [
        ("kind", "i8"), ("p", "u8"), ("q", "u8"), ("r", "u8"), ("rule", "u8"), ("ld", "i8"), ("index", "i8"),
        ("width", "i8"), ("s0", "f8"), ("s1", "f8"),
    ]
)  # fmt: skip
LAYOUT = RECORD.itemsize * 100 + len(KINDS)  # kernels/chain.pxd computes the same of its own


@dataclass(frozen=True, slots=True)
class Step:
    """``p`` (and ``q``, of the same layout): operand arrays or Refs; ``ld``: elements from one row of them to the next.
    Dropout: ``p`` is the state array, ``index`` the number of the random stream, ``width`` the elements in a row."""

    kind: str
    p: np.ndarray | Ref | None = None
    q: np.ndarray | Ref | None = None
    r: np.ndarray | Ref | None = None
    rule: np.ndarray | Ref | None = None
    ld: int = 0
    index: int = 0
    width: int = 0
    s0: float = 0.0
    s1: float = 0.0

    def __post_init__(self):
        if self.kind not in CODES:
            raise ValueError(f"Step: unknown kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        for name in NEEDS.get(self.kind, ""):
            if getattr(self, name) is None:
                raise TypeError(f"Step {self.kind!r}: {name!r} is missing")
        if self.kind in UPDATES and self.rule is None:
            raise TypeError(f"Step {self.kind!r}: 'rule' is missing")

    def memory(self):
        """(Ref, written, elements in a row of which a row's elements touch no other; 0: any) of each operand."""
        from nncore.refs import ref

        written = self.kind in UPDATES or self.kind == "store"
        width = 0 if self.kind in ("add_row", "mul_row", "scale_shift_row", "dropout") else self.ld
        rows = [(self.q, False, 0)] if self.kind == "norm_grad" else [(self.q, written, width)]
        operands = [(self.p, written, width), *rows, (self.r, written, width), (self.rule, False, 0)]
        return [(ref(operand), writes, elements) for operand, writes, elements in operands if operand is not None]


def encode(steps) -> np.ndarray:
    """The steps as the array of C structs that kernels read."""
    from nncore.refs import ref

    records = np.zeros(len(steps), RECORD)
    for record, step in zip(records, steps, strict=True):
        record["kind"] = CODES[step.kind]
        for name in ("p", "q", "r", "rule"):
            operand = getattr(step, name)
            record[name] = ref(operand).address if operand is not None else 0
        for name in ("ld", "index", "width", "s0", "s1"):
            record[name] = getattr(step, name)
    return records
