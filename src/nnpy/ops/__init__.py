"""Operations on tensors: the functions that layers, losses and metrics are written with. Names and arguments are those
of ``keras.ops``, where it has them."""

from nnpy.catalogue import offer
from nnpy.graph import operators as _operators
from nnpy.ops.base import Operation
from nnpy.ops.broadcasting import broadcast_to, mean, repeat, sum, tile
from nnpy.ops.constants import affine, constant
from nnpy.ops.conv import conv, conv_by_input, conv_by_weight
from nnpy.ops.ctc import ctc
from nnpy.ops.effects import assign
from nnpy.ops.elementwise import (
    abs,
    activation,
    add,
    cast,
    ceil,
    clip,
    cos,
    divide,
    dropout,
    equal,
    erf,
    exp,
    expm1,
    floor,
    greater,
    greater_equal,
    isfinite,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    reciprocal,
    relu,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from nnpy.ops.filled import full, full_like, ones_like, zeros_like
from nnpy.ops.geometry import Window
from nnpy.ops.gradients import stop_gradient
from nnpy.ops.group_norm import group_norm
from nnpy.ops.indexing import getitem, one_hot, take
from nnpy.ops.linear import matmul
from nnpy.ops.losses import binary_correct, correct, mean_squared_error, sigmoid_crossentropy, softmax_crossentropy
from nnpy.ops.normalization import batch_norm, layer_norm
from nnpy.ops.pool import average_pool, channel_dropout, max_pool, place, repeat_pixels
from nnpy.ops.reduce import argmax, argmin, cumsum, logsumexp, max, min, norm, prod, std, var
from nnpy.ops.scalar import custom
from nnpy.ops.shape import (
    concatenate,
    expand_dims,
    flatten,
    flip,
    moveaxis,
    pad,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
)
from nnpy.ops.softmax import log_softmax, softmax

_operators.update(
    add=add, subtract=subtract, multiply=multiply, divide=divide, matmul=matmul, power=power, less=less,
    less_equal=less_equal, greater=greater, greater_equal=greater_equal, negative=negative, abs=abs, getitem=getitem,
)  # fmt: skip

__all__ = [
    "Operation", "Window", "abs", "activation", "add", "affine", "argmax", "argmin", "assign", "average_pool",
    "batch_norm", "binary_correct", "broadcast_to", "cast", "ceil", "channel_dropout", "clip", "concatenate",
    "constant", "conv", "conv_by_input", "conv_by_weight", "correct", "cos", "ctc", "cumsum", "custom", "divide",
    "dropout", "equal", "erf", "exp", "expand_dims", "expm1", "flatten", "flip", "floor", "full", "full_like",
    "getitem", "greater", "greater_equal", "group_norm", "isfinite", "isnan", "layer_norm", "less", "less_equal",
    "log", "log1p", "log_softmax", "logical_and", "logical_not", "logical_or", "logsumexp", "matmul", "max",
    "max_pool", "maximum", "mean", "mean_squared_error", "min", "minimum", "moveaxis", "multiply", "negative",
    "norm", "not_equal", "one_hot", "ones_like", "pad", "place", "power", "prod", "reciprocal", "relu", "repeat",
    "repeat_pixels", "reshape", "round", "rsqrt", "sigmoid", "sigmoid_crossentropy", "sign", "sin", "softmax",
    "softmax_crossentropy", "split", "sqrt", "square", "squeeze", "stack", "std", "stop_gradient", "subtract",
    "sum", "swapaxes", "take", "tanh", "tile", "transpose", "var", "where", "zeros_like",
]  # fmt: skip

offer(__name__, __all__)
