"""What the kernels' pointers must point to: types and extents, which Op checks."""

import re
from collections.abc import Callable

from nncore.kernels.signatures import INTEGERS, SIGNATURES
from nncore.memory import LAYOUT

ANY = "any"
# Types of pointers that are not to reals, by their names (or KERNEL.NAME). ``any``: the kernel's own structs, or bytes.
TYPES = {
    "state": "int64",
    "order": "int64",
    "steps": ANY,
    "conv.rows": "int64",
    "conv.columns": "int64",
    "conv.starts": "int64",
    "conv.runs": ANY,
    "batch_norm_scale.counts": "int64",
    "confusion.counts": "float64",
    "copy.out": ANY,
    "copy.x": ANY,
    "fill.out": ANY,
    "accumulate.totals": "float64",
    "accumulate.finite": "float64",
    "square_sums.partials": "float64",
    "clip_scale.partials": "float64",
    "clip_scale.norm": "float64",
    **{f"{kernel}.{pointer}": "int32" for kernel, pointers in INTEGERS.items() for pointer in pointers},
}

# Kernels that find elements by strides of their own kind, so that any layout is possible.
STRIDED = {"gemm_batched", "copy", "reduce", "argmax", "argmin", "cumsum"}

_PIXELS = {"x": "batch * height * width * c", "y": "batch * oh * ow * c"}
_GRADIENTS = {"dx": _PIXELS["x"], "dy": _PIXELS["y"]}
_ROWS = {name: "rows * cols" for name in ("x", "y", "dx", "dy", "targets")}
_COLUMNS = {name: "cols" for name in ("gamma", "beta", "dgamma", "dbeta", "moving_mean", "moving_variance")}
_BY_COLUMN = _ROWS | _COLUMNS | {name: "cols" for name in ("mean", "rstd", "scale", "shift")}
_OF_ROWS = ("mean", "rstd", "loss", "correct", "labels", "weights", "upstream")
_BY_ROW = _ROWS | _COLUMNS | {name: "rows" for name in _OF_ROWS}
_BY_COUNT = {name: "count" for name in ("w", "g")}
_OF_PARTS = _BY_COLUMN | {"partial": "2 * parts * cols", "factors": "3 * cols", "counts": "parts"}
_OF_GROUPS = {
    **dict.fromkeys(("x", "y", "dx", "dy"), "batch * pixels * cols"), **_COLUMNS, "partial": "2 * batch * cols",
    "mean": "batch * groups", "rstd": "batch * groups", "workspace": "share",
}  # fmt: skip


def _batch(name: str, matrix: str) -> str:
    """The extent of a batch of matrices, of that of one."""
    first = f"span(outer, {name}_outer, inner, {name}_inner)"
    return f"{first} + {matrix} - 1 if {first} and {matrix} else 0"


_TABLE = {"table": "table_rows * cols", "dtable": "table_rows * cols", "index": "rows"}

# The least number of elements behind a pointer, of the kernel's sizes; span(n, ld, m, cs) is where element
# (n - 1, m - 1) ends. An array is C-contiguous, unless ld, rs and cs are its strides: then it has the strides that they
# say. What is not here depends on more than the sizes.
EXTENTS: dict[str, dict[str, str]] = {
    "gather": {"out": "rows * cols"},
    "gather_index": {"out": "rows * cols"},
    "gather_csr": {"out": "rows * cols"},
    "gather_image": {"out": "rows * oh * ow * c", "scale": "ow * c", "shift": "ow * c"},
    "scatter": {"x": "rows * cols"},
    "scatter_index": {"x": "rows * cols"},
    "scatter_truth": {"x": "rows * cols"},
    "transpose": {"out": "rows * cols", "x": "rows * cols"},
    "gemm": {
        "c": "span(m, ldc, n, 1)",
        "a": "span(m, rs_a, k, cs_a)",
        "b": "k * n if packed == 1 else span(k, ldb, n, cs_b or 1)",
        "workspace": "share",
        "sums": "parts * n",
        "partial": "2 * parts * n",
        "normal": "m * n",
        "mean": "n",
        "rstd": "n",
    },
    "gemm_batched": {
        "c": _batch("c", "span(m, ldc, n, 1)"),
        "a": _batch("a", "span(m, rs_a, k, cs_a)"),
        "b": _batch("b", "span(k, rs_b, n, cs_b)"),
        "workspace": "share",
    },
    "gemm_narrow": {"c": "m * n", "a": "span(m, lda, k, 1)", "b": "span(k, rs_b, n, cs_b)"},
    "pack_b": {"out": "k * n", "b": "span(k, rs, n, cs)"},
    "fill": {"out": "span(rows, ld, cols, 1)"},
    "real_to_int": {"out": "span(rows, ld_out, cols, 1)", "x": "span(rows, ld_x, cols, 1)"},
    "int_to_real": {"out": "span(rows, ld_out, cols, 1)", "x": "span(rows, ld_x, cols, 1)"},
    "take": {"out": "rows * cols", **_TABLE},
    "take_grad": {"dy": "rows * cols", **_TABLE},
    "take_clear": _TABLE,
    "take_along": {"out": "rows", "x": "rows * cols", "index": "rows"},
    "take_along_grad": {"dx": "rows * cols", "dy": "rows", "index": "rows"},
    "one_hot": {"out": "rows * cols", "index": "rows"},
    "confusion": {"labels": "rows", "predictions": "rows", "weights": "rows"},
    "chain": {"out": "span(rows, ld_out, cols, 1)", "x": "span(rows, ld_x, cols, 1)"},
    **dict.fromkeys(("softmax", "softmax_grad", "log_softmax", "log_softmax_grad"), _ROWS),
    **dict.fromkeys(("softmax_crossentropy", "binary_crossentropy", "mean_squared_error"), _BY_ROW),
    "ctc": {
        "loss": "rows", "dx": "rows * times * cols", "x": "rows * times * cols", "labels": "rows * length",
        "upstream": "rows", "workspace": "share",
    },
    **dict.fromkeys(("batch_norm", "batch_norm_grad", "batch_norm_fold"), _BY_COLUMN),
    **dict.fromkeys(("layer_norm", "layer_norm_grad", "layer_norm_parameter_grad"), _BY_ROW),
    **dict.fromkeys(("moments", "gradient_moments", "batch_norm_scale", "batch_norm_grad_scale"), _OF_PARTS),
    "conv": {"x": _PIXELS["x"], "y": "batch * yh * yw * k", "columns": "stretches"},
    "conv_pack": {"out": "places * (cin // groups) * cout", "w": "places * (cin // groups) * cout", "order": "places"},
    "conv_weight_grad": {
        "dw": "chunks * kh * kw * (c // groups) * k", "x": _PIXELS["x"], "dy": "batch * oh * ow * k",
        "workspace": "share",
    },
    "winograd": {"x": _PIXELS["x"], "y": "batch * oi * oj * k", "w": "16 * c * k", "workspace": "share"},
    "winograd_pack": {"out": "16 * cin * cout", "w": "9 * cin * cout", "order": "9"},
    "winograd_weight_sums": {
        "sums": "chunks * 16 * c * k", "x": _PIXELS["x"], "dy": "batch * oi * oj * k", "workspace": "share",
    },
    "winograd_weight_grad": {"dw": "9 * cin * cout", "sums": "chunks * 16 * cin * cout"},
    "depthwise": {**_PIXELS, "w": "kh * kw * c"},
    "depthwise_input_grad": {**_GRADIENTS, "w": "kh * kw * c"},
    "depthwise_weight_grad": {"x": _PIXELS["x"], "dy": _PIXELS["y"], "dw": "kh * kw * c"},
    **dict.fromkeys(("group_norm", "group_norm_grad", "channel_dropout"), _OF_GROUPS),
    **dict.fromkeys(("max_pool", "average_pool", "place"), _PIXELS),
    **dict.fromkeys(("max_pool_grad", "average_pool_grad"), _PIXELS | _GRADIENTS),
    "reduce": {"y": "outer * mid * inner"},
    "accumulate": {"totals": "2", "values": "rows", "weights": "rows", "finite": "1"},
    "normal": {"out": "count"},
    "square_sums": {"x": "count"},
    "clip_scale": {"scale": "1", "partials": "count", "norm": "1"},
    "update": _BY_COUNT | {f"slot_{i}": "count" for i in range(4)} | {"scale": "1"},
    "triad": {name: "count" for name in "abc"},
    "copy_peak": {name: "count" for name in "ab"},
}  # fmt: skip


def type_of(kernel: str, pointer: str) -> str:
    """The dtype of what a pointer points to: "real" for the kernel's own, ``any``, or NumPy's name."""
    return TYPES.get(f"{kernel}.{pointer}") or TYPES.get(pointer, "real")


def extents(kernel: str, names: tuple[str, ...]) -> Callable[..., tuple[int, ...]]:
    """A function of the kernel's sizes: the least number of elements behind each of the pointers, 0 where not known."""
    known = {"state": str(LAYOUT["SIZE"]), **EXTENTS.get(kernel, {})}
    values = "".join(f"{known.get(name, '0')}, " for name in names)
    return eval(f"lambda {', '.join(SIGNATURES[kernel].sizes)}: ({values})", {"span": _span})


def strides(kernel: str, pointer: str) -> tuple[str, ...]:
    """The sizes that are strides of a pointer's array, in elements."""
    return tuple(re.findall(r"\b(?:ld|rs|cs)\w*", EXTENTS.get(kernel, {}).get(pointer, "")))


def _span(n: int, ld: int, m: int, cs: int) -> int:
    return (n - 1) * ld + (m - 1) * cs + 1 if n > 0 and m > 0 else 0
