"""Matrix products and the bias: one GEMM kernel, three orientations."""

from __future__ import annotations

from math import prod

from nnpy.graph import Tensor, apply
from nnpy.ops.base import ROW, Elementwise, Operation, StepSpec, label


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
        if x.shape[-1] != w.shape[0]:
            raise ValueError(f"{label(node)}: expected {w.shape[0]} features, got {x.shape[-1]} in {x.shape}")
        return [(*x.shape[:-1], w.shape[1])]

    def gradient(self, node, upstream, needs):
        x, w = node.inputs
        dx = apply(_BY_INPUT, [upstream, w]) if needs[0] else None
        dw = apply(_BY_WEIGHT, [x, upstream]) if needs[1] else None
        return [dx, dw]

    def lower(self, item, low):
        x, w = item.node.inputs
        k, n = w.shape
        low.gemm(item, a=x, b=w, m=low.count(x) // k, n=n, k=k, a_strides=(k, 1), b_strides=(n, 1))


class _ByInput(Operation):
    """The gradient by x: dy (..., n) @ w' (n, k)."""

    name = "matmul_by_input"
    takes_steps = True

    def infer(self, node):
        dy, w = node.inputs
        return [(*dy.shape[:-1], w.shape[0])]

    def lower(self, item, low):
        dy, w = item.node.inputs
        k, n = w.shape
        low.gemm(item, a=dy, b=w, m=low.count(dy) // n, n=k, k=n, a_strides=(n, 1), b_strides=(1, n))


class _ByWeight(Operation):
    """The gradient by w: x' (k, rows) @ dy (rows, n)."""

    name = "matmul_by_weight"
    takes_steps = True

    def infer(self, node):
        x, dy = node.inputs
        return [(x.shape[-1], dy.shape[-1])]

    def lower(self, item, low):
        x, dy = item.node.inputs
        k, n = x.shape[-1], dy.shape[-1]
        rows = low.count(x) // k
        low.gemm(item, a=x, b=dy, m=k, n=n, k=rows, a_strides=(1, k), b_strides=(n, 1))


class _BiasAdd(Elementwise):
    """x (..., n) + b (n,)."""

    name = "bias_add"

    def infer(self, node):
        x, b = node.inputs
        if b.shape != x.shape[-1:]:
            raise ValueError(f"{label(node)}: expected a bias of shape {x.shape[-1:]}, got {b.shape}")
        return [x.shape]

    def steps(self, node, primary):
        return [StepSpec("add", p=node.inputs[1], p_at=ROW)]

    def gradient(self, node, upstream, needs):
        return [upstream, apply(COLUMN_SUM, [upstream]) if needs[1] else None]


class _ColumnSum(Operation):
    """The sum over all axes but the last."""

    name = "column_sum"

    def infer(self, node):
        return [node.inputs[0].shape[-1:]]

    def lower(self, item, low):
        x = item.node.inputs[0]
        cols = prod(x.shape[-1:])
        low.call(
            "column_sum", out=item.output, x=x, rows=low.count(x) // max(1, cols), cols=cols, ld=cols,
            work=low.count(x) // 8,
        )  # fmt: skip


_MATMUL = _MatMul()
_BY_INPUT = _ByInput()
BY_WEIGHT = _BY_WEIGHT = _ByWeight()
_BIAS_ADD = _BiasAdd()
COLUMN_SUM = _ColumnSum()


def matmul(x: Tensor, w: Tensor) -> Tensor:
    """x (..., k) @ w (k, n) -> (..., n)."""
    return apply(_MATMUL, [x, w])


def bias_add(x: Tensor, b: Tensor) -> Tensor:
    """x (..., n) + b (n,)."""
    return apply(_BIAS_ADD, [x, b])
