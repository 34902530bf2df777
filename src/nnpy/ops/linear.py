"""Matrix products: one GEMM kernel in three orientations where a matrix of weights is one operand, and products of
batches of matrices."""

from __future__ import annotations

from math import prod

import numpy as np

from nnpy.graph import Node, Size, Tensor, apply
from nnpy.ops.base import Operation, broadcast, label
from nnpy.ops.broadcasting import summed_to
from nnpy.ops.constants import as_tensor
from nnpy.ops.indexing import to_real
from nnpy.ops.shape import expand_dims, squeeze, swapaxes


def _check_inner(node: Node, a: Tensor, b: Tensor, columns: Size, rows: Size) -> None:
    """ValueError unless matrices fit: sizes of a that the batch decides are those of b, too."""
    if columns == rows:
        return
    if isinstance(columns, int) and isinstance(rows, int) and b.rank == 2:
        raise ValueError(f"{label(node)}: expected {rows} features, got {columns} in {a.shape}")
    why = "" if isinstance(columns, int) and isinstance(rows, int) else "; None is not known before the data is"
    raise ValueError(
        f"{label(node)}: expected the last axis of x1 to be as long as the one before the last of x2, got "
        f"{a.shape} and {b.shape}{why}"
    )


class _MatMul(Operation):
    """x (..., k) @ w (k, n)."""

    name = "matmul"
    takes_steps = True

    def infer(self, node):
        x, w = node.inputs
        if x.rank < 2 or w.rank != 2:
            raise ValueError(
                f"{label(node)}: expected x of rank 2 or more and w of rank 2, got {x.shape} and {w.shape}"
            )
        _check_inner(node, x, w, x.sizes[-1], w.sizes[0])
        return [(*x.sizes[:-1], w.sizes[1])]

    def gradient(self, node, upstreams, needs):
        x, w = node.inputs
        dx = apply(_BY_INPUT, [upstreams[0], w]) if needs[0] else None
        dw = apply(_BY_WEIGHT, [x, upstreams[0]]) if needs[1] else None
        return [dx, dw]

    def lower(self, item, low):
        x, w = item.node.inputs
        k, n = w.concrete(low.batch)
        low.gemm(item, a=x, b=w, m=low.count(item.node.output) // max(1, n), n=n, k=k)

    def reference(self, x, w):
        return x @ w


class _ByInput(Operation):
    """The gradient by x: dy (..., n) @ w' (n, k)."""

    name = "matmul_by_input"
    takes_steps = True

    def infer(self, node):
        dy, w = node.inputs
        return [(*dy.sizes[:-1], w.sizes[0])]

    def gradient(self, node, upstreams, needs):
        dy, w = node.inputs
        return [
            apply(_MATMUL, [upstreams[0], w]) if needs[0] else None,
            apply(_BY_WEIGHT, [upstreams[0], dy]) if needs[1] else None,
        ]

    def lower(self, item, low):
        dy, w = item.node.inputs
        k, n = w.concrete(low.batch)
        low.gemm(item, a=dy, b=w, m=low.count(item.node.output) // max(1, k), n=k, k=n, b_turned=True)

    def reference(self, dy, w):
        return dy @ w.T


class _ByWeight(Operation):
    """The gradient by w: x' (k, rows) @ dy (rows, n)."""

    name = "matmul_by_weight"
    takes_steps = True
    updates_behind = True

    def infer(self, node):
        x, dy = node.inputs
        return [(x.sizes[-1], dy.sizes[-1])]

    def gradient(self, node, upstreams, needs):
        x, dy = node.inputs
        return [
            apply(_BY_INPUT, [dy, upstreams[0]]) if needs[0] else None,
            apply(_MATMUL, [x, upstreams[0]]) if needs[1] else None,
        ]

    def lower(self, item, low):
        x, dy = item.node.inputs
        k, n = item.node.output.concrete(low.batch)
        low.gemm(item, a=x, b=dy, m=k, n=n, k=prod(x.concrete(low.batch)[:-1]), a_turned=True)

    def reference(self, x, dy):
        return x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])


class _BatchMatMul(Operation):
    """a (..., m, k) @ b (..., k, n) of matrices whose leading axes broadcast."""

    name = "batch_matmul"

    def infer(self, node):
        a, b = node.inputs
        _check_inner(node, a, b, a.sizes[-1], b.sizes[-2])
        return [(*broadcast(node, a.sizes[:-2], b.sizes[:-2]), a.sizes[-2], b.sizes[-1])]

    def gradient(self, node, upstreams, needs):
        (u,), (a, b) = upstreams, node.inputs
        da = summed_to(apply(self, [u, swapaxes(b, -1, -2)]), a.sizes) if needs[0] else None
        db = summed_to(apply(self, [swapaxes(a, -1, -2), u]), b.sizes) if needs[1] else None
        return [da, db]

    def lower(self, item, low):
        low.batched_gemm(item.output, *item.node.inputs)

    def reference(self, a, b):
        return np.matmul(a, b)


_MATMUL = _MatMul()
_BY_INPUT = _ByInput()
BY_WEIGHT = _BY_WEIGHT = _ByWeight()
_BATCH = _BatchMatMul()


def matmul(x1: Tensor, x2: Tensor) -> Tensor:
    """The matrix product by NumPy's rules: (..., k) @ (k, n) -> (..., n), or of matrices in the last two axes, the
    other ones broadcast; vectors lose the axis that they were given for it."""
    a, b = (to_real(as_tensor("matmul", x)) for x in (x1, x2))
    if not a.rank or not b.rank:
        raise ValueError(f"matmul: expected tensors of rank 1 or more, got {a.shape} and {b.shape}")
    if a.rank == 1:
        return squeeze(matmul(expand_dims(a, 0), b), -2 if b.rank > 1 else 0)
    if b.rank == 1:
        return squeeze(matmul(a, expand_dims(b, 1)), -1)
    return apply(_MATMUL if b.rank == 2 else _BATCH, [a, b])
