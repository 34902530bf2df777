"""A loss compiled on arrays, with its gradient: what the tests of losses share."""

import numpy as np
from running import compiled, start

from nnpy import ops
from nnpy.layers import Activation, Input


class Case:
    """The losses of rows of ``logits``, behind an activation ``function``, times weights of rows; and the gradient of
    their mean by the logits."""

    def __init__(self, loss, targets, logits, function=None, dtype="float64", weighted=None):
        self.logits = logits.astype(dtype)
        self.x = Input(logits.shape[1:])
        self.prediction = self.x if function is None else Activation(function)(self.x)
        kind = "int64" if loss.target_kind == "index" else dtype
        y_true = Input(targets.shape[1:], dtype=kind)
        feeds = {self.x: self.logits, y_true: targets.astype(kind)}
        self.loss = loss.rows(y_true, self.prediction)
        if weighted is not None:
            weights = Input(weighted.shape[1:])
            feeds[weights] = weighted.astype(dtype)
            self.loss = ops.multiply(self.loss, weights)
        outputs = [self.loss] if self.prediction is self.x else [self.prediction, self.loss]
        self.step = compiled(outputs, feeds, dtype, True, loss=self.loss, by=[self.x])

    def run(self):
        return start(self.step).value(self.loss).copy()

    def predicted(self):
        return self.logits if self.prediction is self.x else self.step.value(self.prediction)

    def gradient(self):
        self.run()
        return self.step.gradient(self.x).copy()

    def differences(self, step=1e-6):
        """The gradient by central differences."""
        numeric = np.zeros_like(self.logits)
        for place in np.ndindex(*self.logits.shape):
            at, sides = self.logits[place], []
            for side in (step, -step):
                self.logits[place] = at + side
                sides.append(self.run().mean())
            self.logits[place] = at
            numeric[place] = (sides[0] - sides[1]) / (2 * step)
        return numeric
