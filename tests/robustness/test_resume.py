"""What goes on from a file, or from a copy, has the bits of what never stopped, however the graph was made."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnpy as nn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 64, 6)).astype("f4")
Y = X[0, :, :2] * 2


def parallel():
    """Random layers side by side, made in another order than the graph is traversed in."""
    x = nn.Input((6,))
    branches = [nn.Dropout(0.5)(nn.Dense(6)(x)), nn.Dropout(0.1)(nn.Dense(6)(x)), nn.Dropout(0.3)(nn.Dense(6)(x))]
    return nn.Model(x, nn.Dense(2)(nn.Concatenate()(branches[::-1]))), X[0]


def thrice():
    """A layer that is called three times, in another order than the results are used in: gradients are summed."""
    inputs = [nn.Input((6,), name=f"i{number}") for number in range(3)]
    shared = nn.Dense(6, activation="relu")
    c, b, a = shared(inputs[2]), shared(inputs[1]), shared(inputs[0])
    return nn.Model(inputs, nn.Dense(2)(nn.Concatenate()([nn.Dropout(0.2)(a), b, c]))), list(X)


def nested():
    """A model in a model, called twice, beside code that makes its layers when it is called."""
    inner = nn.Sequential([nn.Dense(6, activation="relu"), nn.Dropout(0.4), nn.BatchNormalization()])
    x = nn.Input((6,))
    later, first = inner(nn.Dense(6)(x)), inner(x)
    return nn.Model(x, nn.Dense(2)(nn.Add()([first, later]))), X[0]


@pytest.mark.parametrize("make", [parallel, thrice, nested])
@pytest.mark.parametrize("way", ["file", "deepcopy"])
def test_the_same_bits(make, way, tmp_path):
    nn.set_seed(4)
    model, x = make()
    model.compile("adam", "mse")
    model.fit(x, Y, batch_size=16, verbose=0)
    if way == "file":
        model.save(tmp_path / "model.safetensors")
        again = nn.load_model(tmp_path / "model.safetensors")
    else:
        again = copy.deepcopy(model)
    for trained in (model, again):
        nn.set_seed(11)  # and something else is made meanwhile
        nn.Sequential([nn.Input((3,)), nn.Dropout(0.5), nn.Dense(3)])
        trained.fit(x, Y, batch_size=16, epochs=2, verbose=0)
    nn.set_seed(0)
    assert again.history.history == model.history.history
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_run_that_is_killed_again_and_again(long, tmp_path):
    kills = long(200, 1000)
    script = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run([sys.executable, script, tmp_path, str(kills)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["killed"] >= kills and counts["same"] > 5 and counts["resumed"] > kills / 4
