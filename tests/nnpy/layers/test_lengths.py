"""Inputs whose samples may have any number of steps: a Program for each; and indices that are out of range."""

import numpy as np
import pytest

import nnpy as nn

RNG = np.random.default_rng(7)
SPARSE = nn.losses.SparseCategoricalCrossentropy


def network(*layers):
    nn.set_seed(0)
    net = nn.Sequential([nn.Input((None, 4)), *layers])
    net.compile("sgd", SPARSE(from_logits=True), metrics=["accuracy"])
    return net


def test_a_program_for_each_length_gives_what_one_of_that_length_gives():
    net = network(
        nn.Dense(8, activation="relu"), nn.Conv1D(6, 3, padding="same"), nn.GlobalAveragePooling1D(), nn.Dense(3)
    )
    for steps in (5, 9, 5, 12):
        x, y = RNG.standard_normal((20, steps, 4)).astype("f"), RNG.integers(0, 3, 20)
        same = nn.Sequential([nn.Input((steps, 4)), *type(net).from_config(net.get_config()).layers])
        same.set_weights(net.get_weights())
        np.testing.assert_array_equal(net.predict(x), same.predict(x))
        same.compile("sgd", SPARSE(from_logits=True), metrics=["accuracy"])
        assert net.evaluate(x, y, verbose=0) == same.evaluate(x, y, verbose=0)
        for model in (net, same):
            model.fit(x, y, shuffle=False, verbose=0)
        for a, b in zip(net.get_weights(), same.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert net.probe(x)["conv1d"].shape == (20, 12, 6)


def test_batches_of_different_lengths_and_a_label_a_step():
    net = network(nn.Dense(16, activation="relu"), nn.Dense(3))
    data = [(RNG.standard_normal((4, n, 4)).astype("f"), RNG.integers(0, 3, (4, n))) for n in (3, 6, 9)]
    before = net.evaluate(iter(data), verbose=0)[0]
    for _ in range(30):
        net.fit(iter(data), verbose=0)
    assert net.evaluate(iter(data), verbose=0)[0] < before
    assert net.predict(data[1][0]).shape == (4, 6, 3)


def test_no_more_programs_are_kept_than_the_bound():
    net = network(nn.Dense(3))
    for n in range(1, 60):
        assert net.predict(np.ones((2, n, 4), "f")).shape == (2, n, 3)
    assert len(net.engine._programs) <= 24


class Lookup(nn.Layer):
    """Rows of a table."""

    def build(self, input_shape):
        self.table = self.add_weight((10, 3), "glorot_uniform", "table")

    def call(self, x):
        return nn.ops.take(self.table, x, axis=0)


@pytest.mark.parametrize("bad", [10, -1, 2**31 - 1])
def test_an_index_out_of_range_stops_the_run_and_names_layer_row_and_value(bad):
    x = nn.Input((4,), dtype="int32")
    net = nn.Model(x, nn.Dense(2)(nn.Flatten()(Lookup(name="words")(x))))
    net.compile("sgd", SPARSE(from_logits=True))
    good, y = RNG.integers(0, 10, (8, 4)), np.zeros(8, int)
    wrong = good.copy()
    wrong[1, 2] = bad
    text = rf"words \(take\): expected indices from 0 to 9, got {bad} in row 6 of a batch"
    expected = net.predict(good)
    for run in (
        net.predict,
        lambda x: net.evaluate(x, y, verbose=0),
        lambda x: net.fit(x, y, shuffle=False, verbose=0),
    ):
        with pytest.raises(IndexError, match=text):
            run(wrong)
    assert net.predict(good).shape == expected.shape  # and it goes on
    net.fit(good, y, verbose=0)
