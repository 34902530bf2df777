"""Operations on tensors: the functions that layers and losses are written with."""

from nnpy.ops.conv import conv, conv_by_input, conv_by_weight
from nnpy.ops.elementwise import (
    abs,
    activation,
    add,
    affine,
    custom,
    divide,
    dropout,
    log,
    maximum,
    minimum,
    multiply,
    sign,
    sqrt,
    square,
    subtract,
)
from nnpy.ops.geometry import Window
from nnpy.ops.group_norm import group_norm
from nnpy.ops.linear import bias_add, matmul
from nnpy.ops.losses import binary_crossentropy, binary_hits, hits, mean_squared_error, softmax_crossentropy
from nnpy.ops.normalization import batch_norm, layer_norm
from nnpy.ops.pool import average_pool, channel_dropout, max_pool, place, repeat
from nnpy.ops.shape import concatenate, flatten, reshape, reshape_whole
from nnpy.ops.softmax import log_softmax, softmax

__all__ = [
    "Window", "abs", "activation", "add", "affine", "average_pool", "batch_norm", "bias_add", "binary_crossentropy",
    "binary_hits", "channel_dropout", "concatenate", "conv", "conv_by_input", "conv_by_weight", "custom", "divide",
    "dropout", "flatten", "group_norm", "hits", "layer_norm", "log", "log_softmax", "matmul", "max_pool", "maximum",
    "mean_squared_error", "minimum", "multiply", "place", "repeat", "reshape", "reshape_whole", "sign", "softmax",
    "softmax_crossentropy", "sqrt", "square", "subtract",
]  # fmt: skip
