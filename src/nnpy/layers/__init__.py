"""Layers."""

from nnpy.layers.base import Layer
from nnpy.layers.calling import Call
from nnpy.layers.convolutional import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D
from nnpy.layers.core import Activation, Dense, Dropout
from nnpy.layers.images import (
    Cropping1D,
    Cropping2D,
    SpatialDropout1D,
    SpatialDropout2D,
    UpSampling1D,
    UpSampling2D,
    ZeroPadding1D,
    ZeroPadding2D,
)
from nnpy.layers.inputs import Input, InputLayer
from nnpy.layers.merging import Add, Average, Concatenate, Maximum, Minimum, Multiply, Residual, Subtract
from nnpy.layers.module import reset_names
from nnpy.layers.normalization import BatchNormalization, GroupNormalization, LayerNormalization
from nnpy.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    MaxPooling1D,
    MaxPooling2D,
)
from nnpy.layers.reshaping import Flatten, Reshape

__all__ = [
    "Activation", "Add", "Average", "AveragePooling1D", "AveragePooling2D", "BatchNormalization", "Call", "Concatenate",
    "Conv1D", "Conv2D", "Conv2DTranspose", "Cropping1D", "Cropping2D", "Dense", "DepthwiseConv2D", "Dropout", "Flatten",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D",
    "GroupNormalization", "Input", "InputLayer", "Layer", "LayerNormalization", "MaxPooling1D", "MaxPooling2D",
    "Maximum", "Minimum", "Multiply", "Reshape", "Residual", "SeparableConv2D", "SpatialDropout1D", "SpatialDropout2D",
    "Subtract", "UpSampling1D", "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D", "reset_names",
]  # fmt: skip
