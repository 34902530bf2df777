"""Layers."""

from nnpy.layers.base import Call, Input, InputLayer, Layer, reset_names
from nnpy.layers.core import Activation, Dense, Dropout
from nnpy.layers.merging import Add, Average, Concatenate, Maximum, Minimum, Multiply, Residual, Subtract
from nnpy.layers.normalization import BatchNormalization, LayerNormalization
from nnpy.layers.reshaping import Flatten, Reshape

__all__ = [
    "Activation", "Add", "Average", "BatchNormalization", "Call", "Concatenate", "Dense", "Dropout", "Flatten", "Input",
    "InputLayer", "Layer", "LayerNormalization", "Maximum", "Minimum", "Multiply", "Reshape", "Residual", "Subtract",
    "reset_names",
]  # fmt: skip
