"""Layers."""

from nnpy.layers.activations import ELU, LeakyReLU, PReLU, ReLU, Softmax
from nnpy.layers.base import Layer
from nnpy.layers.calling import Call
from nnpy.layers.convolutional import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D
from nnpy.layers.core import Activation, Dense, Dropout, Identity, Lambda
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
from nnpy.layers.merging import (
    Add,
    Average,
    Concatenate,
    Maximum,
    Minimum,
    Multiply,
    Residual,
    Subtract,
    add,
    average,
    concatenate,
    maximum,
    minimum,
    multiply,
    subtract,
)
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
from nnpy.layers.reshaping import Flatten, Permute, RepeatVector, Reshape

# Keras' other names
AvgPool1D, AvgPool2D = AveragePooling1D, AveragePooling2D
MaxPool1D, MaxPool2D = MaxPooling1D, MaxPooling2D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalMaxPool1D, GlobalMaxPool2D = GlobalMaxPooling1D, GlobalMaxPooling2D
Convolution1D, Convolution2D, Convolution2DTranspose = Conv1D, Conv2D, Conv2DTranspose
DepthwiseConvolution2D = DepthwiseConv2D
SeparableConvolution2D = SeparableConv2D

__all__ = [
    "ELU", "Activation", "Add", "Average", "AveragePooling1D", "AveragePooling2D", "AvgPool1D", "AvgPool2D",
    "BatchNormalization", "Call", "Concatenate", "Conv1D", "Conv2D", "Conv2DTranspose", "Convolution1D",
    "Convolution2D", "Convolution2DTranspose", "Cropping1D", "Cropping2D", "Dense", "DepthwiseConv2D",
    "DepthwiseConvolution2D", "Dropout", "Flatten", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "GroupNormalization", "Identity", "Input", "InputLayer", "Lambda", "Layer",
    "LayerNormalization", "LeakyReLU", "MaxPool1D", "MaxPool2D", "MaxPooling1D", "MaxPooling2D", "Maximum", "Minimum",
    "Multiply", "PReLU", "Permute", "ReLU", "RepeatVector", "Reshape", "Residual", "SeparableConv2D",
    "SeparableConvolution2D", "Softmax", "SpatialDropout1D", "SpatialDropout2D", "Subtract", "UpSampling1D",
    "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D", "add", "average", "concatenate", "maximum", "minimum", "multiply",
    "reset_names", "subtract",
]  # fmt: skip
