"""The arguments of every kernel, by name and in order. `!` marks what it writes, `?` what may be absent.

A kernel reads them as op.p[i], op.n[i] and op.s[i]; its file says what they mean.
"""

import re
import zlib
from typing import NamedTuple


class Signature(NamedTuple):
    family: str
    pointers: tuple[str, ...]
    sizes: tuple[str, ...]
    scalars: tuple[str, ...]


def _signature(family: str, pointers: str, sizes: str, scalars: str = "") -> Signature:
    return Signature(family, tuple(pointers.split()), tuple(sizes.split()), tuple(scalars.split()))


# What gather reads, in the order of its codes.
SOURCES = (
    "float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16",
)  # fmt: skip

_DEPTHWISE = "batch height width c oh ow kh kw sh sw dilation_h dilation_w pt pl"
_POOL = "batch height width c oh ow kh kw sh sw pt pl n_steps"

SIGNATURES = {
    # gather: user's arrays -> batch, batch -> user's array
    "gather": _signature("gather", "out! state", "slot rows cols row_stride source by_rows"),
    "gather_index": _signature("gather", "out! state", "slot rows cols row_stride source by_rows"),
    "gather_csr": _signature("gather", "out! state", "slot rows cols source"),
    "gather_image": _signature(
        "gather",
        "out! state scale shift",
        "slot rows height width c oh ow row_stride source pad_h pad_w augment flip",
    ),
    "scatter": _signature("gather", "x state", "slot rows cols"),
    "scatter_index": _signature("gather", "x state", "slot rows cols"),
    "scatter_truth": _signature("gather", "x state", "slot rows cols"),
    "transpose": _signature("gather", "out! x", "rows cols"),
    # gemm: c[m, n] = steps(a[m, k] @ b[k, n]); b as it is, packed by pack_b, or on the way; block: columns of
    # b to keep in L2 at a time (0: 1024, which is 1 MB)
    "gemm": _signature(
        "gemm",
        "c! a b steps? workspace!? sums!? partial!? normal? mean? rstd?",
        "m n k rs_a cs_a ldb packed ldc accumulate n_steps block cs_b share by_rows parts",
    ),
    # the same for at most 16 columns of b, whose element (p, j) is at b[p*rs_b + j*cs_b]; rows of a are lda apart
    "gemm_narrow": _signature("narrow", "c! a b steps?", "m n k lda rs_b cs_b n_steps"),
    "pack_b": _signature("gemm", "out! b", "k n rs cs"),
    # c[i] = steps(a[i] @ b[i]) for matrices i of outer x inner, of which a_outer, a_inner... elements lie between two
    "gemm_batched": _signature(
        "gemm",
        "c! a b steps? workspace!",
        "m n k outer inner a_outer a_inner rs_a cs_a b_outer b_inner rs_b cs_b c_outer c_inner ldc accumulate n_steps "
        "share",
    ),
    # strided: nncore/strides.py makes the sizes of copy; element i of an axis of n is o (in x: x) elements from i - 1
    "copy": _signature(
        "strided",
        "out! x",
        "rows itemsize accumulate by_rows out_offset x_offset n0 n1 n2 n3 n4 n5 o0 o1 o2 o3 o4 o5 x0 x1 x2 x3 x4 x5",
    ),
    "fill": _signature("strided", "out!", "rows cols ld integer by_rows", "value"),
    "real_to_int": _signature("strided", "out! x", "rows cols ld_out ld_x by_rows"),
    "int_to_real": _signature("strided", "out! x", "rows cols ld_out ld_x by_rows"),
    # axes: along the middle axis of x[outer, mid, inner]; nncore/reductions.py makes the sizes of reduce, which with
    # ``cols`` reduces y = steps(x), a matrix of so many columns to the steps
    "reduce": _signature(
        "reduce",
        "out! x? y!? steps?",
        "rows kind outer mid inner stride_outer stride_mid chunk accumulate by_rows n_steps cols",
        "scale",
    ),
    "argmax": _signature("axes", "out! x", "outer mid inner stride_outer stride_mid by_rows"),
    "argmin": _signature("axes", "out! x", "outer mid inner stride_outer stride_mid by_rows"),
    "cumsum": _signature("axes", "out! x", "outer mid inner stride_outer reverse exclusive by_rows"),
    # take: rows of a table by an int32 index; one that is out of range is reported in the state
    "take": _signature("take", "out! table index state", "rows cols table_rows by_rows"),
    "take_grad": _signature("take", "dtable! dy index", "rows cols table_rows clear"),
    "take_clear": _signature("take", "dtable! index", "rows cols table_rows"),
    "take_along": _signature("take", "out! x index state", "rows cols"),
    "take_along_grad": _signature("take", "dx! dy index", "rows cols"),
    "one_hot": _signature("take", "out! index state", "rows cols"),
    "confusion": _signature("take", "counts!? labels predictions weights? state", "rows cols ignoring ignore"),
    # chain: out[rows, cols] = steps(x[rows, cols])
    "chain": _signature("chain", "out! x? steps?", "rows cols ld_out ld_x n_steps by_rows"),
    # softmax over the last axis, and the losses: loss[rows] and its gradient by the prediction
    "softmax": _signature("softmax", "y! x", "rows cols"),
    "softmax_grad": _signature("softmax", "dx! dy y", "rows cols"),
    "log_softmax": _signature("softmax", "y! x", "rows cols"),
    "log_softmax_grad": _signature("softmax", "dx! dy y", "rows cols"),
    "softmax_crossentropy": _signature(
        "loss",
        "loss! dx!? correct!? x labels? targets? weights? upstream? state?",
        "rows cols ignoring ignore",
        "scale smoothing",
    ),
    # labels of a sequence without their places in it: kernels/ctc.pyx says what ld and share are
    "ctc": _signature(
        "ctc", "loss! dx!? x labels upstream? state? workspace!", "rows times cols length ld share", "scale"
    ),
    "binary_crossentropy": _signature(
        "loss", "loss! dx!? correct!? x targets weights? upstream?", "rows cols", "scale smoothing"
    ),
    "mean_squared_error": _signature("loss", "loss! dx!? x targets weights? upstream?", "rows cols", "scale"),
    # normalization: over the rows of each column, over the columns of each row
    "batch_norm": _signature(
        "norm",
        "y! x gamma? beta? mean! rstd! moving_mean! moving_variance! steps?",
        "rows cols n_steps",
        "epsilon momentum",
    ),
    "batch_norm_grad": _signature("norm", "dx!? dgamma!? dbeta!? dy x gamma? mean rstd", "rows cols"),
    "batch_norm_fold": _signature("norm", "scale! shift! gamma? beta? moving_mean moving_variance", "cols", "epsilon"),
    "layer_norm": _signature("norm", "y! x gamma? beta? mean! rstd! steps?", "rows cols n_steps", "epsilon"),
    "layer_norm_grad": _signature("norm", "dx! dy x gamma? mean rstd", "rows cols"),
    "layer_norm_parameter_grad": _signature("norm", "dgamma!? dbeta!? dy x mean rstd", "rows cols"),
    # batch normalization of many rows, from the moments of parts of them
    "moments": _signature("moments", "partial! x", "rows cols parts"),
    "batch_norm_scale": _signature(
        "moments",
        "scale! shift! mean! rstd! moving_mean! moving_variance! partial counts gamma? beta?",
        "rows cols parts",
        "epsilon momentum",
    ),
    "gradient_moments": _signature("moments", "partial! dy x mean rstd", "rows cols parts"),
    "batch_norm_grad_scale": _signature(
        "moments", "factors! dgamma!? dbeta!? partial gamma? mean rstd", "rows cols parts"
    ),
    # convolution in NHWC: kernels/conv.pyx says what the sizes mean
    "conv": _signature(
        "conv",
        "y! x w rows columns runs starts steps? partial!? normal? mean? rstd?",
        "batch height width c oi oj k yh yw osh osw oph opw sh sw pt pl stretches kinds depth groups bands block "
        "n_steps",
    ),
    "winograd": _signature(
        "winograd",
        "y! x w steps? workspace! partial!? normal? mean? rstd?",
        "batch height width c oi oj k pt pl bands n_steps share",
    ),
    "winograd_pack": _signature("winograd", "out! w order", "cin cout turned"),
    "winograd_weight_sums": _signature(
        "winograd", "sums! x dy workspace!", "batch height width c oi oj k pt pl chunks bands share"
    ),
    "winograd_weight_grad": _signature("winograd", "dw! sums", "cin cout chunks"),
    "conv_pack": _signature("conv", "out! w order", "places cin cout groups turned"),
    "conv_weight_grad": _signature(
        "conv",
        "dw! x dy workspace!?",
        "batch height width c oh ow k kh kw sh sw dilation_h dilation_w pt pl chunks group band merged groups share",
    ),
    "depthwise": _signature("depthwise", "y! x w steps?", f"{_DEPTHWISE} flipped n_steps"),
    "depthwise_input_grad": _signature("depthwise", "dx! dy w", _DEPTHWISE),
    "depthwise_weight_grad": _signature("depthwise", "dw! x dy", _DEPTHWISE),
    # group normalization, and dropout of whole channels
    "group_norm": _signature(
        "group_norm",
        "y! x gamma? beta? mean! rstd! workspace! steps?",
        "batch pixels cols groups n_steps share",
        "epsilon",
    ),
    "group_norm_grad": _signature(
        "group_norm", "dx! partial! dy x gamma? mean rstd workspace!", "batch pixels cols groups share"
    ),
    "channel_dropout": _signature("group_norm", "y! x state workspace!", "batch pixels cols index share", "rate scale"),
    # pooling: windows of kh x kw every sh x sw pixels, pt and pl outside the image above and to its left
    "max_pool": _signature("pool", "y! x steps?", _POOL),
    "max_pool_grad": _signature("pool", "dx! dy x y steps?", _POOL),
    "average_pool": _signature("pool", "y! x steps?", _POOL, "scale"),
    "average_pool_grad": _signature("pool", "dx! dy steps?", _POOL, "scale"),
    "place": _signature("pool", "y! x", "batch height width c oh ow top left"),
    "normal": _signature("random", "out! state", "count index"),
    # metrics, clipping
    "accumulate": _signature("reduce", "totals! values weights? finite!?", "rows"),
    "square_sums": _signature("reduce", "partials! x", "count"),
    "clip_scale": _signature("reduce", "scale! partials norm!?", "count", "clip"),
    # optimizers over the flat parameter buffer
    # of nncore.rules; Op takes the name of a rule, and ``columns`` are as many as the rule's if not given
    "update": _signature(
        "optimizer", "w! slot_0!? slot_1!? slot_2!? slot_3!? g state scale?", "rule count columns column"
    ),
    # what the machine can do at most, for benchmarks
    "fma_peak": _signature("roofline", "sink!", "chains iterations"),
    "triad": _signature("roofline", "a! b c", "count passes", "s"),
    "copy_peak": _signature("roofline", "a! b", "count passes"),
}

# The kinds of reduce, in the order of its codes.
REDUCTIONS = ("sum", "max", "min", "prod", "logsumexp")
# Pointers to int32; those of copy and fill may be so too.
INTEGERS = {
    "gather_index": {"out"},
    "scatter_index": {"x"},
    "real_to_int": {"out"},
    "int_to_real": {"x"},
    "argmax": {"out"},
    "argmin": {"out"},
    "softmax_crossentropy": {"labels"},
    "ctc": {"labels"},
    "confusion": {"labels", "predictions"},
    **{name: {"index"} for name in ("take", "take_grad", "take_clear", "take_along", "take_along_grad", "one_hot")},
}


def layout(declarations: str) -> int:
    """A number that changes with the names, types and order of what op.pxd (its text) declares: the Op and the state.
    CMake compiles it into every module."""
    blocks = re.findall(r"^cdef (?:enum|struct).*\n(?:(?: .*)?\n)+|^ctypedef .*\n", declarations, re.MULTILINE)
    words = [line.partition("#")[0].split() for block in blocks for line in block.splitlines()]
    return zlib.crc32(repr([line for line in words if line]).encode()) & 0x7FFFFFFF


def fingerprint(family: str) -> int:
    """A number that changes with the arguments of a family's kernels. CMake compiles it into the family's modules, so
    that one which reads other arguments is not loaded."""
    found = [(name, tuple(signature)) for name, signature in SIGNATURES.items() if signature.family == family]
    return zlib.crc32(repr(found).encode()) & 0x7FFFFFFF


# Kernels that may report an error in the state, where they are given one.
REPORTS = frozenset({"take", "take_along", "one_hot", "confusion", "softmax_crossentropy", "ctc"})

# Kernels whose threads share the rows and touch no others of the pointers named: the size that counts them, and for
# each pointer the size that says how many elements a row of it is (1: one). Those that have a size ``by_rows`` do so
# only where it is set. What a kernel's steps touch is rows too.
ROWS: dict[str, tuple[str, dict[str, str]]] = {
    "gather": ("rows", {"out": "cols"}),
    "gather_index": ("rows", {"out": "cols"}),
    "gather_csr": ("rows", {"out": "cols"}),
    "gemm": ("m", {"c": "ldc", "a": "rs_a"}),  # a: where it is row-major
    "gemm_narrow": ("m", {"c": "n", "a": "lda"}),
    "chain": ("rows", {"out": "ld_out", "x": "ld_x"}),
    "softmax": ("rows", {"y": "cols", "x": "cols"}),
    "softmax_grad": ("rows", {"dx": "cols", "dy": "cols", "y": "cols"}),
    "log_softmax": ("rows", {"y": "cols", "x": "cols"}),
    "log_softmax_grad": ("rows", {"dx": "cols", "dy": "cols", "y": "cols"}),
    "softmax_crossentropy": (
        "rows",
        {
            "loss": "1", "dx": "cols", "correct": "1", "x": "cols", "labels": "1", "targets": "cols", "weights": "1",
            "upstream": "1",
        },
    ),
    "binary_crossentropy": (
        "rows",
        {"loss": "1", "dx": "cols", "correct": "1", "x": "cols", "targets": "cols", "weights": "1", "upstream": "1"},
    ),
    "mean_squared_error": (
        "rows", {"loss": "1", "dx": "cols", "x": "cols", "targets": "cols", "weights": "1", "upstream": "1"},
    ),
    "layer_norm": ("rows", {"y": "cols", "x": "cols", "mean": "1", "rstd": "1"}),
    "layer_norm_grad": ("rows", {"dx": "cols", "dy": "cols", "x": "cols", "mean": "1", "rstd": "1"}),
    "copy": ("rows", {"out": "o0", "x": "x0"}),
    "fill": ("rows", {"out": "ld"}),
    "real_to_int": ("rows", {"out": "ld_out", "x": "ld_x"}),
    "int_to_real": ("rows", {"out": "ld_out", "x": "ld_x"}),
    "reduce": ("rows", {"out": "inner", "x": "stride_outer", "y": "stride_outer"}),
    "argmax": ("outer", {"out": "inner", "x": "stride_outer"}),
    "argmin": ("outer", {"out": "inner", "x": "stride_outer"}),
    "cumsum": ("outer", {"out": "stride_outer", "x": "stride_outer"}),
    "take": ("rows", {"out": "cols", "index": "1"}),
    "take_along": ("rows", {"out": "1", "x": "cols", "index": "1"}),
    "take_along_grad": ("rows", {"dx": "cols", "dy": "1", "index": "1"}),
    "one_hot": ("rows", {"out": "cols", "index": "1"}),
}  # fmt: skip
