"""The loss of sequences of labels."""

from __future__ import annotations

import numpy as np

from nnpy import ops
from nnpy.losses.base import _PlainLoss, described, real_array, refuse


class CTC(_PlainLoss):
    """-log of the probability that the steps of a sequence, each a label or blank, read as its labels, wherever these
    are (connectionist temporal classification; Graves et al., ICML 2006): speech, handwriting, the text in an image.

    ``y_pred``: logits (batch, steps, classes), class 0 being blank; ``y_true``: labels 1 ... classes - 1 of shape
    (batch, length), filled up with zeros: a loss for each sample. There have to be as many steps as labels, and one
    more for each that is repeated. Where the number of steps is open (``Input((None, 8))``), ``y_true`` has as many
    columns as there are steps. ValueError for labels out of range, zeros between them, or more than the steps can hold.

    >>> CTC()([[1, 0]], [[[0.0, 0.0], [0.0, 0.0]]])  # of four paths blank blank alone reads otherwise: -log(3 / 4)
    0.287682...
    """

    target_kind = "index"

    def call(self, y_true, y_pred):
        return ops.ctc(y_pred, y_true)

    def target_shape(self, output_shape):
        self._check_output(output_shape)
        return output_shape[:2]  # labels are no more than steps

    def check_targets(self, y, output_shape, name="y"):
        self._check_output(output_shape)
        steps, classes = output_shape[1:]
        y = real_array(y, name, str(self))
        if y.ndim != 2:
            shape = described(("n", "length"))
            raise ValueError(f"{self}: expected {name} of shape {shape}, labels with zeros behind, got {y.shape}")
        if y.dtype.kind == "f":
            refuse(y, ~(np.floor(y) == y), f"{self}: expected {name} to be whole class numbers")
        message = f"{self}: expected {name} in 0 ... {classes - 1}, the output has {classes} classes"
        refuse(y, (y < 0) | (y >= classes), message)
        here = y != 0
        refuse(y, np.diff(here.astype(np.int8), axis=1, prepend=1) > 0, f"{self}: expected {name} to have zeros behind")
        if steps is None:
            return y
        needed = here.sum(1) + ((y[:, 1:] == y[:, :-1]) & here[:, 1:]).sum(1)
        if (needed > steps).any():
            row = int(np.argmax(needed > steps))
            raise ValueError(
                f"{self}: expected {name} of labels that fit into {steps} steps, those of row {row} need {needed[row]}"
            )
        return np.pad(y[:, :steps], [(0, 0), (0, max(0, steps - y.shape[1]))])

    def _check_output(self, shape):
        if len(shape) != 3 or shape[2] is None or shape[2] < 2:
            raise ValueError(
                f"{self}: expected an output of shape (batch, steps, classes), 2 classes or more, got {shape}"
            )
