"""Step: one thing done to every element of a tile while it is in cache, at the end of a gemm or inside a chain.

The kinds are the rows of ``functions`` and the few below, which kernels/chain.pxd does itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nncore.functions import FUNCTIONS, SAVES
from nncore.refs import Ref, ref
from nncore.rules import MOST_SLOTS, check_rule

# What a kind must have.
NEEDS: dict[str, tuple[str, ...]] = {
    "store": ("p",),  # p[row, col] = v
    "save": ("p",),  # the same into a temporary tile
    # v = v * s1 with probability 1 - s0, else 0; random bits of (seed, draw, stream index, row * width + col)
    "dropout": ("state",),
    "norm_grad": ("p", "q"),  # v = v * q[0, col] + p[row, col] * q[1, col] + q[2, col]; q's rows are ``width`` long
    # the optimizer's ``rule`` for the weights p by their gradient v, which stays as it is
    "update": ("p", "rule", "state"),
    **{name: tuple(row.operands) for name, row in FUNCTIONS.items()},
}
KINDS = tuple(NEEDS)
TEMPORARIES = 8  # temporary tiles of a chain

OPERAND = np.dtype(
    [("data", "u8"), ("ld", "i8"), ("cs", "i8"), ("div", "i8"), ("mod", "i8"), ("temporary", "i8")],
)  # fmt: skip
RECORD = np.dtype(
    [
        ("kind", "i8"), ("function", "u8"), ("p", OPERAND), ("q", OPERAND), ("slots", "u8", MOST_SLOTS),
        ("state", "u8"), ("index", "i8"), ("width", "i8"), ("s0", "f8"), ("s1", "f8"),
    ]
)  # fmt: skip
LAYOUT = RECORD.itemsize * 1000 + 10 * TEMPORARIES + 6  # as kernels/chain.pxd computes it; 6: the number of its kinds


@dataclass(frozen=True, slots=True)
class Operand:
    """Element (row, col) is at ``memory[row' * ld + col * cs]``, where row' is row // div, and then its rest by ``mod``
    if that is not 0: ld 0 is one row for all, cs 0 one column, both 0 one number, div and mod are groups of rows.

    Rows do not overlap: they are at least ``ld`` apart unless ld is 0. ``temp`` instead: one of a chain's temporary
    tiles, which a step ``save`` has filled. Raises ValueError for what is none of these.
    """

    memory: np.ndarray | Ref | None = None
    ld: int = 0
    cs: int = 1
    div: int = 1
    mod: int = 0
    temp: int | None = None

    def __post_init__(self):
        if (self.memory is None) == (self.temp is None):
            raise ValueError("Operand: expected memory, or the number of a temporary tile")
        if self.temp is not None and not 0 <= self.temp < TEMPORARIES:
            raise ValueError(f"Operand: expected temp from 0 to {TEMPORARIES - 1}, got {self.temp}")
        if self.ld < 0 or self.cs < 0 or self.div < 1 or self.mod < 0:
            got = f"ld {self.ld}, cs {self.cs}, div {self.div}, mod {self.mod}"
            raise ValueError(f"Operand: expected ld, cs and mod of at least 0 and div of at least 1, got {got}")

    @property
    def is_matrix(self) -> bool:
        """Whether it is laid out as a matrix of rows of ``ld`` elements."""
        return self.temp is None and self.cs == 1 and self.div == 1 and self.mod == 0

    @property
    def width(self) -> int:
        """Elements from one row to the next, of which a row's elements touch no other; 0: rows share elements."""
        apart = self.temp is None and self.cs in (0, 1) and self.div == 1 and self.mod == 0
        return self.ld if apart else 0


def operand(value: np.ndarray | Operand, matrix: bool = False) -> Operand:
    """An array stands for itself as NumPy would broadcast it: a number, a row, or a matrix with any strides; contiguous
    images are rows of channels.

    ``matrix``: a matrix, even if it has one row or column.
    Raises TypeError for anything else, ValueError for images that are not contiguous."""
    if isinstance(value, Operand):
        return value
    if not isinstance(value, np.ndarray):
        raise TypeError(f"expected a NumPy array or an Operand, got {type(value).__name__}")
    if value.ndim > 2 and value.flags.c_contiguous:
        value = value.reshape(math.prod(value.shape[:-1]), value.shape[-1])
    if value.ndim > 2:
        raise ValueError(f"expected an operand of more than two axes to be contiguous, got shape {value.shape}")
    shape = (1,) * (2 - value.ndim) + value.shape
    strides = (0,) * (2 - value.ndim) + value.strides
    ld, cs = (stride // value.itemsize for stride in strides)
    if matrix:
        return Operand(value, ld, 1 if shape[1] == 1 else cs)
    return Operand(value, 0 if shape[0] == 1 else ld, 0 if shape[1] == 1 else cs)


@dataclass(frozen=True, slots=True)
class Step:
    """``p``, ``q``: Operands, or arrays (``operand``). Dropout: ``state`` is the state array, ``index`` the number of
    its random stream, ``width`` the elements in a row of the whole matrix (also of norm_grad). Update: ``rule`` of
    ``nncore.rules``, ``slots`` arrays laid out as p, ``state`` has the table of columns, ``width`` of them (0: the
    rule's alone), ``index`` the rule's first.

    Raises ValueError for an unknown kind, TypeError for an operand that is missing or of no use."""

    kind: str
    p: np.ndarray | Operand | None = None
    q: np.ndarray | Operand | None = None
    rule: str | None = None
    slots: tuple[np.ndarray | Ref, ...] = ()
    state: np.ndarray | None = None
    index: int = 0
    width: int = 0
    s0: float = 0.0
    s1: float = 0.0

    def __post_init__(self):
        if self.kind not in NEEDS:
            raise ValueError(f"Step: unknown kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        for name in NEEDS[self.kind]:
            if getattr(self, name) is None:
                raise TypeError(f"Step {self.kind!r}: {name!r} is missing")
        if self.kind == "update":
            check_rule("Step 'update'", self.rule, len(self.slots))
        whole = self.kind in ("update", "store", "norm_grad")
        for name in "pq":
            if getattr(self, name) is not None:
                try:
                    object.__setattr__(self, name, operand(getattr(self, name), whole))
                except (TypeError, ValueError) as error:
                    raise type(error)(f"Step {self.kind!r}: {name}: {error}") from None
        p: Any = self.p  # an Operand by now
        if self.kind == "save" and p.temp is None:
            raise TypeError("Step 'save': expected p to be a temporary tile: Operand(temp=0)")
        if whole and not p.is_matrix:
            raise TypeError(f"Step {self.kind!r}: expected p to be a matrix with rows of contiguous elements")

    def memory(self) -> list[tuple[Ref, bool, int]]:
        """(Ref, written, elements in a row of which a row's elements touch no other; 0: any) of each operand."""
        written = self.kind in ("update", "store")
        operands: tuple[Any, ...] = (self.p, self.q)
        found = [(x.memory, written, x.width) for x in operands if x is not None]
        if self.kind == "norm_grad":
            found[1] = (*found[1][:2], 0)
        found += [(slot, True, operands[0].ld) for slot in self.slots]
        found.append((self.state, False, 0))
        return [(ref(array), written, width) for array, written, width in found if array is not None]


__all__ = ["KINDS", "NEEDS", "SAVES", "TEMPORARIES", "Operand", "Step", "operand"]
