"""Layers."""

from nnpy.catalogue import offer
from nnpy.layers.activations import ELU, LeakyReLU, PReLU, ReLU, Softmax
from nnpy.layers.base import Layer
from nnpy.layers.calling import Call
from nnpy.layers.convolutional import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D
from nnpy.layers.core import Activation, ActivityRegularization, Dense, Dropout, Identity, Lambda
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
from nnpy.layers.noise import AlphaDropout, GaussianDropout, GaussianNoise
from nnpy.layers.normalization import BatchNormalization, GroupNormalization, LayerNormalization, UnitNormalization
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
from nnpy.layers.spectral import SpectralNormalization
from nnpy.layers.volumes import (
    AveragePooling3D,
    Conv3D,
    Cropping3D,
    GlobalAveragePooling3D,
    GlobalMaxPooling3D,
    MaxPooling3D,
    SpatialDropout3D,
    UpSampling3D,
    ZeroPadding3D,
)

# Keras' other names
AvgPool1D, AvgPool2D = AveragePooling1D, AveragePooling2D
MaxPool1D, MaxPool2D = MaxPooling1D, MaxPooling2D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalMaxPool1D, GlobalMaxPool2D = GlobalMaxPooling1D, GlobalMaxPooling2D
Convolution1D, Convolution2D, Convolution2DTranspose = Conv1D, Conv2D, Conv2DTranspose
DepthwiseConvolution2D = DepthwiseConv2D
SeparableConvolution2D = SeparableConv2D
AvgPool3D, MaxPool3D, Convolution3D = AveragePooling3D, MaxPooling3D, Conv3D
GlobalAvgPool3D, GlobalMaxPool3D = GlobalAveragePooling3D, GlobalMaxPooling3D

__all__ = [
    "ELU", "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "AveragePooling1D",
    "AveragePooling2D", "AveragePooling3D", "AvgPool1D", "AvgPool2D", "AvgPool3D", "BatchNormalization", "Call",
    "Concatenate", "Conv1D", "Conv2D", "Conv2DTranspose", "Conv3D", "Convolution1D", "Convolution2D",
    "Convolution2DTranspose", "Convolution3D", "Cropping1D", "Cropping2D", "Cropping3D", "Dense", "DepthwiseConv2D",
    "DepthwiseConvolution2D", "Dropout", "Flatten", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool3D",
    "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPool3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D",
    "GlobalMaxPooling3D", "GroupNormalization", "Identity", "Input", "InputLayer", "Lambda", "Layer",
    "LayerNormalization", "LeakyReLU", "MaxPool1D", "MaxPool2D", "MaxPool3D", "MaxPooling1D", "MaxPooling2D",
    "MaxPooling3D", "Maximum", "Minimum", "Multiply", "PReLU", "Permute", "ReLU", "RepeatVector", "Reshape", "Residual",
    "SeparableConv2D", "SeparableConvolution2D", "Softmax", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
    "SpectralNormalization", "Subtract", "UnitNormalization", "UpSampling1D", "UpSampling2D", "UpSampling3D",
    "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "add", "average", "concatenate", "maximum", "minimum",
    "multiply", "reset_names", "subtract",
]  # fmt: skip

offer(__name__, __all__)
