"""A step that meets an index out of range changes nothing: weights, slots, statistics, accumulators, counters."""

import numpy as np
import pytest

import nnpy as nn
from nnpy import ops


class Rows(nn.layers.Layer):
    """Rows of a table, normalized; and one of a table that is not trained, by class numbers."""

    def build(self, input_shape):
        self.table = self.add_weight((7, 6), "glorot_uniform", "table")

    def call(self, x):
        return ops.take(self.table, x, axis=0)


def network(**options):
    nn.set_seed(3)
    layers = [nn.Input((2,), dtype="int32"), Rows(), nn.Flatten(), nn.BatchNormalization(), nn.Dense(5)]
    model = nn.Sequential(layers)
    model.compile(**options)
    return model


def state(model):
    """Everything that a step may change, as one list of arrays."""
    slots = model.engine.optimizer_slots()
    return [*model.get_weights(), *(slots[name].copy() for name in sorted(slots)), model.training.update,
            model.training.draw]  # fmt: skip


def picks(y_true, y_pred):
    """A metric with an index of its own, which is looked at after the loss."""
    return ops.sum(ops.one_hot(ops.cast(y_true, "int32"), 4), axis=-1)


SOFTMAX = nn.losses.SparseCategoricalCrossentropy(from_logits=True)
KINDS = {
    # name: (compile's arguments, what is wrong: an input of 7 and more, or a label of 4 for the metric)
    "table": (dict(optimizer="adam", loss=SOFTMAX), "x"),
    "clipped": (dict(optimizer=nn.Adam(clipnorm=1.0), loss=SOFTMAX), "x"),
    "sgd": (dict(optimizer=nn.SGD(0.1, momentum=0.9), loss=SOFTMAX), "x"),
    "metric": (dict(optimizer="adam", loss=SOFTMAX, metrics=[picks]), "metric"),
    "confusion": (dict(optimizer="adam", loss=SOFTMAX, metrics=[nn.metrics.ConfusionMatrix()]), "x"),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_step_changes_nothing(kind, threads, teams, rng):
    options, wrong = KINDS[kind]
    before = nn.get_num_threads()
    nn.set_num_threads(threads)
    try:
        model, alone = network(**options), network(**options)
        x, y = rng.integers(0, 7, (24, 2)), rng.integers(0, 4, 24)
        bad_x, bad_y = x.copy(), y.copy()
        (bad_x[20] if wrong == "x" else bad_y)[1 if wrong == "x" else 20] = {"x": 9, "metric": 4}[wrong]
        for each in (model, alone):
            each.train_on_batch(x[:8], y[:8])
        known = state(model)
        with pytest.raises(IndexError, match=r"got \d in row"):
            model.train_on_batch(bad_x[16:], bad_y[16:])
        for got, expected in zip(state(model), known, strict=True):
            np.testing.assert_array_equal(got, expected)
        assert not model.engine.totals["train"].any()  # as they were at the beginning of this call
        # In the midst of a run: the steps before it count, it does not.
        with pytest.raises(IndexError, match=r"in row \d of a batch"):
            model.fit(bad_x, bad_y, batch_size=8, shuffle=False, verbose=0)
        alone.fit(x[:16], y[:16], batch_size=8, shuffle=False, verbose=0)
        for got, expected in zip(model.get_weights(), alone.get_weights(), strict=True):
            np.testing.assert_array_equal(got, expected)
        assert model.training.update == alone.training.update == 3
        with pytest.raises(IndexError):
            model.evaluate(bad_x, bad_y, batch_size=8, verbose=0)
        assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(
            alone.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        )
    finally:
        nn.set_num_threads(before)


