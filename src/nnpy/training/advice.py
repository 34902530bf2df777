"""Warnings of losses and metrics that do not suit what the model gives: it would train, and badly."""

from __future__ import annotations

from collections.abc import Iterable

from nnpy.graph import Parameter, Tensor
from nnpy.hints import advise
from nnpy.losses import (
    CTC,
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    Dice,
    Huber,
    KLDivergence,
    LogCosh,
    MeanAbsoluteError,
    MeanSquaredError,
    Quantile,
    SparseCategoricalCrossentropy,
    Tversky,
)
from nnpy.metrics import Accuracy, CategoricalAccuracy, LossMetric, SparseCategoricalAccuracy

# What gives numbers that are no probabilities, whatever comes in: beside the products of weights and normalizations.
_UNBOUNDED = frozenset(
    [
        "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "tanh", "softsign", "mish", "log_softmax",
        "relu6", "celu", "hard_silu", "hard_tanh", "hard_shrink", "soft_shrink", "tanh_shrink", "log_sigmoid",
    ]
)  # fmt: skip
_POSITIVE = frozenset({"exponential", "softplus", "squareplus"})  # a categorical loss does what softmax would
_SQUASHED = frozenset({"softmax", "sigmoid", "hard_sigmoid"})
# Losses of probabilities, and what gives them.
_WANTED: dict[type, str] = {
    **dict.fromkeys((BinaryCrossentropy, BinaryFocalCrossentropy, Dice, Tversky), "sigmoid"),
    **dict.fromkeys(
        (CategoricalCrossentropy, SparseCategoricalCrossentropy, CategoricalFocalCrossentropy, KLDivergence), "softmax"
    ),
}


def last_function(output: Tensor) -> str:
    """The activation that gave an output, or "linear" for a layer without one; "" for anything else, which may be
    probabilities as well as not: a mean of several outputs, a function of the user's."""
    node = output.node
    while node is not None and node.operation.name in ("reshape", "dropout"):
        node = node.inputs[0].node
    if node is None:
        return ""
    name = node.operation.name
    if name == "matmul":  # probabilities times a matrix of transitions are probabilities
        return "" if last_function(node.inputs[0]) == "softmax" else "linear"
    if name == "add" and isinstance(node.inputs[1], Parameter):  # a bias
        return "linear"
    if name in ("batch_norm", "layer_norm"):
        return "linear"
    return node.attributes["kind"] if name == "activation" else name if name in ("softmax", "log_softmax") else ""


def mistake(loss: object, output: Tensor) -> str | None:
    """What is wrong with a loss for an output, or None. Losses of the user's own are not judged."""
    function, wanted = last_function(output), _WANTED.get(type(loss))
    if function in ("softmax", "log_softmax") and output.shape[-1] == 1:
        return f"{function} over one unit is always {1 if function == 'softmax' else 0}; sigmoid is for one unit"
    if type(loss) is CTC and function in (*_SQUASHED, "log_softmax"):
        return f"{loss} takes logits: leave out {function}"
    if wanted is None:
        return None
    from_logits = getattr(loss, "from_logits", None)
    if from_logits:
        if function in _SQUASHED:
            return f"{loss}(from_logits=True) after {function}: leave out one of the two"
        return None
    bad = _UNBOUNDED | {"linear"} | (_POSITIVE if wanted == "sigmoid" else frozenset())
    if function in bad:
        what = "an output without activation" if function == "linear" else f"an output of {function}"
        instead = "" if from_logits is None else ", or give the loss from_logits=True"
        return f"{loss} expects probabilities, got {what}: end in {wanted}{instead}"
    return None


def mistaken_metric(metric: object, loss: object, output: Tensor) -> str | None:
    """What is wrong with a metric, as it was given to compile, for an output under a loss; or None."""
    if type(metric) in (CategoricalAccuracy, SparseCategoricalAccuracy) and output.shape[-1] == 1:
        return f"{metric} of one unit is always 1, the largest of one; 'accuracy' or BinaryAccuracy is for one unit"
    if type(metric) in (Accuracy, SparseCategoricalAccuracy) and type(loss) is CTC:
        return f"{metric} compares each step with the label in its place, which {loss} does not ask for"
    if isinstance(metric, LossMetric) and not getattr(metric.loss, "from_logits", True):
        text = mistake(metric.loss, output)
        return text and f"the metric {metric.name!r}: {text}"
    if type(metric) is Accuracy and type(loss) in (MeanSquaredError, MeanAbsoluteError, Huber, LogCosh, Quantile):
        function = last_function(output)
        if function in _UNBOUNDED | _POSITIVE | {"linear"}:
            what = "an output without activation" if function == "linear" else f"an output of {function}"
            return (
                f"{metric} counts classes, got {what} under {loss}, which are numbers: the metric 'mae' tells how far "
                "off they are"
            )
    return None


def warn(model: object, name: str, loss: object, metrics: Iterable[object], output: Tensor) -> None:
    """Say what is wrong with the loss and the metrics, as they were given, of the output ``name``."""
    for text in (mistake(loss, output), *(mistaken_metric(metric, loss, output) for metric in metrics)):
        if text:
            advise(f"{model}: output {name!r}: {text}")
