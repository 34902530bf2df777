"""scikit-learn's MLPClassifier.partial_fit: dense relu networks, Adam or SGD with momentum."""

from __future__ import annotations

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from bench.peers import Unavailable
from bench.workloads import Workload


def trainer(w: Workload, threads: int, framework: str):
    if w.family != "mlp":
        raise Unavailable("scikit-learn has dense networks only")
    if w.batch_norm:
        raise Unavailable("scikit-learn has no BatchNormalization")
    x, y = w.data()
    solver = {"adam": "adam", "momentum": "sgd"}[w.optimizer]
    model = MLPClassifier(
        w.sizes[1:-1], activation="relu", solver=solver, alpha=0.0, batch_size=w.batch, shuffle=False, random_state=0,
        learning_rate_init=w.learning_rate, momentum=0.9, nesterovs_momentum=False,
    )  # fmt: skip
    classes = np.arange(w.outputs)

    def train(steps: int) -> None:
        # One call goes through all it is given, a batch a step.
        while steps > 0:
            rows = min(steps * w.batch, len(x))
            model.partial_fit(x[:rows], y[:rows], classes=classes)
            steps -= rows // w.batch

    return train, sklearn.__version__
