"""Initializers: their distributions, their seeds, and what they refuse."""

import math

import numpy as np
import pytest

import nnpy as nn
from nnpy import initializers, seeds
from nnpy.initializers import get
from nnpy.layers import Dense, Input
from nnpy.registry import from_json, to_json

SHAPE = (300, 200)
FAN_IN, FAN_AVG = 300, 250
# name, variance, bound of the values (None: none)
NORMAL_CUT = 2 / 0.87962566103423978
TABLE = [
    ("glorot_normal", 1 / FAN_AVG, NORMAL_CUT),
    ("glorot_uniform", 1 / FAN_AVG, math.sqrt(3)),
    ("he_normal", 2 / FAN_IN, NORMAL_CUT),
    ("he_uniform", 2 / FAN_IN, math.sqrt(3)),
    ("lecun_normal", 1 / FAN_IN, NORMAL_CUT),
    ("lecun_uniform", 1 / FAN_IN, math.sqrt(3)),
    ("random_normal", 0.05**2, None),
    ("random_uniform", 0.05**2 / 3, math.sqrt(3)),
    ("truncated_normal", (0.05 * 0.87962566103423978) ** 2, NORMAL_CUT),
    (initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal"), 3 / 200, None),
    (initializers.VarianceScaling(3.0, "fan_out", "uniform"), 3 / 200, math.sqrt(3)),
    ("auto", 1 / FAN_AVG, math.sqrt(3)),
]


@pytest.fixture(autouse=True)
def seed():
    seeds.set_seed(0)
    yield
    seeds.set_seed(0)


@pytest.mark.parametrize("name, variance, bound", TABLE, ids=lambda value: str(value)[:25])
def test_distribution(name, variance, bound):
    values = get(name)(SHAPE, "float64")
    deviation = math.sqrt(variance)
    assert abs(values.mean()) < 5 * deviation / math.sqrt(values.size)
    assert values.var() == pytest.approx(variance, rel=0.03)  # 60,000 values: five standard deviations
    if bound is not None:
        assert 0.98 * bound * deviation < np.abs(values).max() <= bound * deviation * (1 + 1e-12)


@pytest.mark.parametrize(
    "name, expected",
    [("zeros", np.zeros((2, 3))), ("ones", np.ones((2, 3))), ("identity", np.eye(2, 3)),
     (initializers.Constant(2.5), np.full((2, 3), 2.5)), (initializers.Identity(3.0), 3 * np.eye(2, 3))],
)  # fmt: skip
def test_fixed(name, expected):
    values = get(name)((2, 3))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (5, 5), (2, 3, 4)])
def test_orthogonal(shape):
    matrix = get(initializers.Orthogonal(2.0))(shape, "float64").reshape(-1, shape[-1])
    rows, cols = matrix.shape
    product = matrix.T @ matrix if rows >= cols else matrix @ matrix.T
    np.testing.assert_allclose(product, 4 * np.eye(min(rows, cols)), atol=1e-12)


def test_fans():
    assert initializers.fans((3, 4)) == (3, 4)
    assert initializers.fans((5,)) == (5, 5)
    assert initializers.fans((3, 3, 8, 16)) == (72, 144)


def test_seeds():
    first, second = get("he_normal")((4, 4)), get("he_normal")((4, 4))
    assert not np.array_equal(first, second)
    seeds.set_seed(0)
    np.testing.assert_array_equal(get("he_normal")((4, 4)), first)
    np.testing.assert_array_equal(get("he_normal")((4, 4)), second)
    seeds.set_seed(1)
    assert not np.array_equal(get("he_normal")((4, 4)), first)
    own = initializers.HeNormal(seed=7)
    np.testing.assert_array_equal(own((4, 4)), own((4, 4)))
    seeds.set_seed(0)
    get("zeros")((4, 4)), own((4, 4))  # these take no stream
    np.testing.assert_array_equal(get("he_normal")((4, 4)), first)


def test_purposes_have_streams_of_their_own():
    first = seeds.stream("shuffle").random(3)
    seeds.set_seed(0)
    seeds.stream("initializer"), seeds.stream("dropout")
    np.testing.assert_array_equal(seeds.stream("shuffle").random(3), first)
    assert not np.array_equal(seeds.stream("a").random(3), seeds.stream("b").random(3))


@pytest.mark.parametrize("bad, error", [(-1, ValueError), (2**63, ValueError), (1.5, TypeError), (True, TypeError)])
def test_bad_seed(bad, error):
    with pytest.raises(error, match="set_seed: expected seed to be"):
        seeds.set_seed(bad)


@pytest.mark.parametrize(
    "activation, shallow, deep",
    [
        ("relu", 2 / 500, 2 / 400), ("gelu", 2 / 500, 2 / 400), ("selu", 1 / 400, 1 / 400),
        ("tanh", 2 / 500, 2 / 500), (None, 2 / 500, 2 / 500), ("softmax", 2 / 500, 2 / 500),
    ],
)  # fmt: skip
def test_auto_suits_the_activation_and_the_place(activation, shallow, deep):
    for before, variance in ((0, shallow), (3, shallow), (4, deep), (9, deep)):
        h = Input((400,))
        for _ in range(before):
            h = nn.Dropout(0.1)(Dense(400)(h) + 1)
        layer = Dense(100, activation)
        layer(h)
        kernel, bias = layer.get_weights()
        assert kernel.var() == pytest.approx(variance, rel=0.05)
        assert not bias.any()


def test_auto_counts_the_layers_on_the_longest_way():
    def variance(h):
        layer = Dense(100, "relu")
        layer(h)
        return layer.get_weights()[0].var()

    source = Input((400,))
    long, short = source, Dense(400)(source)
    for _ in range(2):
        long = nn.Sequential([Dense(400, kernel_initializer="he_normal"), nn.Activation("relu"), Dense(400)])(long)
    assert variance(nn.Concatenate()([short, short])[:, :400]) == pytest.approx(2 / 500, rel=0.05)
    assert variance(long + short) == pytest.approx(2 / 400, rel=0.05)
    image = Input((9, 9, 40))
    h = image
    for place in range(6):
        layer = nn.Conv2D(40, 3, padding="same", activation="relu")
        h = layer(h)
        expected = 2 / 360 if place >= 4 else 2 / 720
        assert layer.get_weights()[0].var() == pytest.approx(expected, rel=0.05)
    alone = Dense(100, "relu")
    alone.build((None, 400))
    assert alone.get_weights()[0].var() == pytest.approx(2 / 500, rel=0.05)


@pytest.mark.parametrize("name", ["he_normal", "orthogonal", "variance_scaling", "constant", "identity", "auto"])
def test_configuration_round_trip(name):
    one = get(name)
    assert to_json(from_json(to_json(one))) == to_json(one)
    assert type(get(to_json(one))) is type(one)


BAD = [
    (lambda: initializers.VarianceScaling(0.0), ValueError, "VarianceScaling: expected scale to be a finite number >"),
    (lambda: initializers.VarianceScaling(mode="fan"), ValueError, "expected mode to be one of fan_in, fan_out, fan_"),
    (lambda: initializers.VarianceScaling(distribution="x"), ValueError, "expected distribution to be one of"),
    (lambda: initializers.RandomNormal(stddev=-1), ValueError, "RandomNormal: expected stddev"),
    (lambda: initializers.RandomUniform(1, 0), ValueError, "RandomUniform: expected maxval to be a finite number >= 1"),
    (lambda: initializers.Orthogonal()((3,)), ValueError, r"Orthogonal: expected a shape of rank 2 .*got \(3,\)"),
    (lambda: initializers.Identity()((3,)), ValueError, r"Identity: expected a shape of rank 2, got \(3,\)"),
    (lambda: initializers.HeNormal(seed=1.5), TypeError, "HeNormal: expected seed"),
    (lambda: get("glorot"), ValueError, "unknown initializer 'glorot'"),
    (lambda: get(3), TypeError, "expected initializer to be"),
]


@pytest.mark.parametrize("make, error, text", BAD)
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()


# depth


def deep(initializer, layers=30, width=64):
    nn.set_seed(0)
    stack = [nn.Dense(width, activation="relu", kernel_initializer=initializer) for _ in range(layers)]
    return nn.Sequential([nn.Input((width,)), *stack])


def test_variance_by_depth_tells_good_weights_from_bad(rng, tmp_path):
    x = rng.normal(size=(256, 64)).astype("f4")
    he, glorot = (nn.initializers.variance_by_depth(deep(name), x) for name in ("he_normal", "glorot_uniform"))
    for found in (he, glorot):
        assert len(found.names) == len(found.signal) == len(found.gradient) == 30
    assert 0.1 < he.signal[-1] / he.signal[0] < 10 and 0.1 < he.gradient[0] / he.gradient[-1] < 10
    # a factor of about 2 a layer (He et al. 2015)
    assert 15 < np.log2(glorot.signal[0] / glorot.signal[-1]) < 45
    assert 15 < np.log2(glorot.gradient[-1] / glorot.gradient[0]) < 45
    text = str(glorot).splitlines()
    assert len(text) == 31 and text[1].split()[0] == glorot.names[0]
    pytest.importorskip("matplotlib")
    picture = glorot.plot(tmp_path / "depth.png")
    assert [list(axis.lines[0].get_ydata()) for axis in picture.axes] == [glorot.signal, glorot.gradient]
    assert (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")


def test_variance_by_depth_of_several_outputs_and_of_what_nothing_depends_on(rng):
    source = nn.Input((8,))
    hidden = nn.Dense(4, name="hidden")(source)
    side = nn.Dense(4, name="side")(source)
    model = nn.Model(source, {"a": hidden, "b": nn.ops.stop_gradient(side)})
    found = nn.initializers.variance_by_depth(model, rng.normal(size=(64, 8)))
    slopes = dict(zip(found.names, found.gradient, strict=True))
    assert slopes["hidden"] == pytest.approx(1.0, rel=0.3) and np.isnan(slopes["side"])
