"""nnpy: neural networks on multicore CPUs. Keras' names, one compiled program a training step."""

from typing import TYPE_CHECKING

from nnpy.catalogue import offer

if TYPE_CHECKING:
    from nncore import get_num_threads, set_num_threads
    from nnpy import (
        activations,
        callbacks,
        config,
        constraints,
        data,
        initializers,
        layers,
        losses,
        metrics,
        models,
        ops,
        optimizers,
        regularizers,
        schedules,
    )
    from nnpy.callbacks import (
        BackupAndRestore,
        Callback,
        CSVLogger,
        EarlyStopping,
        History,
        LambdaCallback,
        LearningRateScheduler,
        ModelCheckpoint,
        ReduceLROnPlateau,
        SwapEMAWeights,
        TensorBoard,
        TerminateOnNaN,
        Timer,
    )
    from nnpy.config import floatx, set_floatx
    from nnpy.graph import Parameter, Tensor
    from nnpy.hints import AdviceWarning
    from nnpy.insight.explain import explain
    from nnpy.insight.learning_rate import find_learning_rate
    from nnpy.layers import (
        ELU,
        Activation,
        ActivityRegularization,
        Add,
        AlphaDropout,
        Average,
        AveragePooling1D,
        AveragePooling2D,
        AveragePooling3D,
        AvgPool1D,
        AvgPool2D,
        AvgPool3D,
        BatchNormalization,
        Concatenate,
        Conv1D,
        Conv2D,
        Conv2DTranspose,
        Conv3D,
        Cropping1D,
        Cropping2D,
        Cropping3D,
        Dense,
        DepthwiseConv2D,
        Dropout,
        Flatten,
        GaussianDropout,
        GaussianNoise,
        GlobalAveragePooling1D,
        GlobalAveragePooling2D,
        GlobalAveragePooling3D,
        GlobalAvgPool1D,
        GlobalAvgPool2D,
        GlobalAvgPool3D,
        GlobalMaxPool1D,
        GlobalMaxPool2D,
        GlobalMaxPool3D,
        GlobalMaxPooling1D,
        GlobalMaxPooling2D,
        GlobalMaxPooling3D,
        GroupNormalization,
        Identity,
        Input,
        Lambda,
        Layer,
        LayerNormalization,
        LeakyReLU,
        Maximum,
        MaxPool1D,
        MaxPool2D,
        MaxPool3D,
        MaxPooling1D,
        MaxPooling2D,
        MaxPooling3D,
        Minimum,
        Multiply,
        Permute,
        PReLU,
        ReLU,
        RepeatVector,
        Reshape,
        Residual,
        SeparableConv2D,
        Softmax,
        SpatialDropout1D,
        SpatialDropout2D,
        SpatialDropout3D,
        SpectralNormalization,
        Subtract,
        UnitNormalization,
        UpSampling1D,
        UpSampling2D,
        UpSampling3D,
        ZeroPadding1D,
        ZeroPadding2D,
        ZeroPadding3D,
    )
    from nnpy.loading import load_model
    from nnpy.model import Model
    from nnpy.optimizers import (
        SGD,
        Adadelta,
        Adafactor,
        Adagrad,
        Adam,
        Adamax,
        AdamW,
        Ftrl,
        Lamb,
        Lion,
        Lookahead,
        Muon,
        Nadam,
        RMSprop,
        ScheduleFreeAdamW,
    )
    from nnpy.seeds import get_seed, set_seed
    from nnpy.sequential import Sequential

__version__ = "0.1.0"

__all__ = [
    "ELU", "SGD", "Activation", "ActivityRegularization", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax",
    "Add", "AdviceWarning", "AlphaDropout", "Average", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
    "AvgPool1D", "AvgPool2D", "AvgPool3D", "BackupAndRestore", "BatchNormalization", "CSVLogger", "Callback",
    "Concatenate", "Conv1D", "Conv2D", "Conv2DTranspose", "Conv3D", "Cropping1D", "Cropping2D", "Cropping3D", "Dense",
    "DepthwiseConv2D", "Dropout", "EarlyStopping", "Flatten", "Ftrl", "GaussianDropout", "GaussianNoise",
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalAvgPool1D", "GlobalAvgPool2D",
    "GlobalAvgPool3D", "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPool3D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GroupNormalization", "History", "Identity", "Input", "Lamb", "Lambda",
    "LambdaCallback", "Layer", "LayerNormalization", "LeakyReLU", "LearningRateScheduler", "Lion", "Lookahead",
    "MaxPool1D", "MaxPool2D", "MaxPool3D", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "Maximum", "Minimum",
    "Model", "ModelCheckpoint", "Multiply", "Muon", "Nadam", "PReLU", "Parameter", "Permute", "RMSprop", "ReLU",
    "ReduceLROnPlateau", "RepeatVector", "Reshape", "Residual", "ScheduleFreeAdamW", "SeparableConv2D", "Sequential",
    "Softmax", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "SpectralNormalization", "Subtract",
    "SwapEMAWeights", "Tensor", "TensorBoard", "TerminateOnNaN", "Timer", "UnitNormalization", "UpSampling1D",
    "UpSampling2D", "UpSampling3D", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "activations", "callbacks",
    "config", "constraints", "data",
    "explain", "find_learning_rate", "floatx", "get_num_threads", "get_seed", "initializers", "layers", "load_model",
    "losses", "metrics", "models", "ops", "optimizers", "regularizers", "schedules", "set_floatx", "set_num_threads",
    "set_seed",
]  # fmt: skip

offer(
    __name__,
    __all__,
    homes=(
        "nnpy.config", "nnpy.hints", "nnpy.seeds", "nncore", "nnpy.graph", "nnpy.layers", "nnpy.optimizers",
        "nnpy.sequential",  # of Model too, whose from_config may meet a Sequential
        "nnpy.callbacks", "nnpy.loading", "nnpy.insight.explain", "nnpy.insight.learning_rate",
    ),
)  # fmt: skip
