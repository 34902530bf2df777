# ruff: noqa: E501 (tables of cases with the message expected)
"""What users pass in: every kind of array gives the same numbers; what is wrong is refused before any work, by name."""

import array
import collections
import math

import numpy as np
import pytest

import nnpy as nn
from nnpy.data import inputs as adapt

DTYPES = [
    "float32",
    "float64",
    "float16",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "bool",
]


def model(classes=3, features=4):
    net = nn.Sequential([nn.Input((features,), name="input"), nn.Dense(classes, name="out")], name="net")
    net.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return net


X = np.arange(40, dtype=np.float64).reshape(10, 4) % 7 / 7
Y = np.arange(10) % 3


@pytest.fixture
def net():
    return model()


def reference(net, x):
    kernel, bias = net.get_weights()
    return np.asarray(x, np.float64) @ kernel + bias


def steps_done(net):
    return net.training.update


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read_as_it_is(net, dtype):
    x = (np.arange(44).reshape(11, 4) % 2 if dtype == "bool" else np.arange(44).reshape(11, 4) % 90).astype(dtype)
    before = x.copy()
    np.testing.assert_allclose(net.predict(x, batch_size=4), reference(net, x), rtol=1e-4, atol=1e-4)
    assert np.array_equal(x, before)


class DLPackOnly:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class ArrayOnly:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


LAYOUTS = {
    "reversed": lambda x: x[::-1],
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "columns of a wider array": lambda x: np.concatenate([x, x], axis=1)[:, :4],
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "fortran": np.asfortranarray,
    "one row many times": lambda x: np.broadcast_to(x[3], x.shape),
    "big-endian": lambda x: x.astype(">f8"),
    "long double": lambda x: x.astype(np.longdouble),
    "unaligned": lambda x: np.frombuffer(b"0" + x.astype("f4").tobytes(), np.uint8)[1:].view("f4").reshape(x.shape),
    "list": lambda x: x.tolist(),
    "__array__": ArrayOnly,
    "__dlpack__": DLPackOnly,
    "in a list": lambda x: [x],
    "by name": lambda x: {"input": x},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_kind(net, layout):
    value = LAYOUTS[layout](X)
    plain = np.asarray(value.array if hasattr(value, "array") else value["input"] if layout == "by name" else value)
    plain = plain.astype("f8").reshape(10, 4)
    np.testing.assert_allclose(net.predict(value, batch_size=4), reference(net, plain), rtol=1e-5, atol=1e-6)
    weights = net.get_weights()
    net.fit(value, Y, batch_size=4, shuffle=False, verbose=0)
    got = net.get_weights()
    net.set_weights(weights)
    net.fit(plain.astype("f4"), Y, batch_size=4, shuffle=False, verbose=0)
    for a, b in zip(got, net.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_read_only_and_memory_mapped(net, tmp_path):
    frozen = X.astype("f4")
    frozen.flags.writeable = False
    np.save(tmp_path / "x.npy", frozen)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for x in (frozen, mapped):
        net.fit(x, Y, verbose=0)
        np.testing.assert_allclose(net.predict(x), reference(net, x), rtol=1e-5, atol=1e-6)


def test_no_copy_where_none_is_needed():
    for dtype in DTYPES[:-1]:
        array = np.zeros((6, 4), dtype)
        for view in (array, array[::2], array[::-1], array[:, 1:3]):
            read = adapt.readable(view)
            assert read is not view and read.__array_interface__ == view.__array_interface__
    flags = np.zeros((3, 2), bool)
    assert np.shares_memory(adapt.readable(flags), flags)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(net, library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({name: X[:, i] for i, name in enumerate("abcd")})
    labels = frames.Series("y", Y) if library == "polars" else frames.Series(Y, name="y")
    np.testing.assert_allclose(net.predict(frame), reference(net, X), rtol=1e-5, atol=1e-6)
    net.fit(frame, labels, verbose=0)
    words = frames.DataFrame({**{name: X[:, i] for i, name in enumerate("abc")}, "d": ["word"] * 10})
    with pytest.raises(TypeError, match=r"column 'd' of String|got dtype object"):
        net.predict(words)


class Batches:
    """Items without end, as Keras' PyDataset has them."""

    def __getitem__(self, index):
        return X, Y


BAD_X = {
    "rank": (np.zeros((10, 2, 2)), ValueError, r"Input 'input': expected samples of shape \(4,\), got \(2, 2\); reshape it: x.reshape\(-1, 4\)"),
    "features": (np.zeros((10, 5)), ValueError, r"Input 'input': expected samples of shape \(4,\), got \(5,\)"),
    "no batch axis": (np.zeros(4), ValueError, r"expected a batch of samples of shape \(4,\), got one of shape \(4,\)"),
    "a number": (3.0, ValueError, r"Input 'input': expected a batch of samples of shape \(4,\), got one of shape \(\)$"),
    "a list of numbers": ([1, 2, 3, 4], ValueError, r"got one of shape \(4,\); put it in a list: \[x\]$"),
    "a set": ({1, 2}, TypeError, r"expected an array, got a set; make it one: np.array\(sorted\(...\)\)"),
    "items of no number": (Batches(), TypeError, r"got a Batches; a sequence whose items are batches \(x, y\) has __len__ too"),
    "a function": (lambda: X, TypeError, r"expected an array, got the function itself; call it"),
    "a view of a dict": ({1: X}.values(), TypeError, r"expected an array, got a dict_values; make it one: np.array\(list"),
    "empty": (np.zeros((0, 4)), ValueError, r"expected at least one sample, got none"),
    "object": (np.array([[None] * 4] * 10), TypeError, r"expected real numbers, got dtype object holding NoneType"),
    "strings": (np.array([["a"] * 4] * 10), TypeError, r"expected real numbers, got dtype <U1"),
    "complex": (X + 1j, TypeError, r"got dtype complex128; take the real part"),
    "dates": (np.zeros((10, 4), "M8[s]"), TypeError, r"got dtype datetime64"),
    "ragged": ([[1.0, 2.0], [1.0]], ValueError, r"cannot make an array of a list"),
    "masked": (np.ma.masked_array(X), TypeError, r"without a mask"),
    "none": (None, TypeError, r"expected an array, got None"),
    "wrong name": ({"inpt": X}, ValueError, r"x: expected keys \['input'\], got \['inpt'\]"),
    "nan": (np.where(np.arange(40).reshape(10, 4) == 30, np.nan, X), ValueError, r"Input 'input': expected finite numbers \(in float32\), got nan in row 7, column 2; fill such values"),
    "infinity": (np.where(np.arange(40).reshape(10, 4) == 13, -np.inf, X), ValueError, r"got -inf in row 3, column 1; fill"),
    "too large": (np.where(np.arange(40).reshape(10, 4) == 2, 1e39, X), ValueError, r"got 1e\+39 in row 0"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_X)
def test_bad_x_is_refused_before_work(net, what):
    x, error, message = BAD_X[what]
    before = net.get_weights()
    with pytest.raises(error, match=message):
        net.predict(x)
    for call in (net.fit, net.evaluate, net.train_on_batch):
        with pytest.raises(error, match=message):
            call(x, Y)
    assert steps_done(net) == 0 and net.history is None
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))
    net.fit(X, Y, verbose=0)  # and it is as usable as before


BAD_Y = {
    "length": (Y[:9], ValueError, r"y: expected as many samples as x, 10, got 9"),
    "one-hot": (np.eye(3)[Y], ValueError, r"expected y of shape \(n,\), class numbers, got \(10, 3\); for one-hot targets"),
    "too large": (np.where(np.arange(10) == 4, 3, Y), ValueError, r"expected y in 0 ... 2, the output has 3 classes, got 3 in row 4"),
    "negative": (np.where(np.arange(10) == 6, -1, Y), ValueError, r"got -1 in row 6"),
    "fraction": (np.where(np.arange(10) == 2, 0.5, Y), ValueError, r"whole class numbers, got 0.5 in row 2"),
    "nan": (np.where(np.arange(10) == 2, np.nan, Y), ValueError, r"got nan in row 2"),
    "strings": (np.array(list("abcabcabca")), TypeError, r"y: expected real numbers, got dtype <U1"),
    "none": (None, TypeError, r"y: expected an array, got None"),
    "generator": ((v for v in Y), TypeError, r"y: expected an array, got a generator; an iterable gives batches"),
    "set": ({0, 1, 2}, TypeError, r"y: expected an array, got a set"),
    "list of two": ([Y, Y], ValueError, r"y: expected as many samples as x, 10, got 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_Y)
def test_bad_y_is_refused_before_work(net, what):
    y, error, message = BAD_Y[what]
    for call in (net.fit, net.evaluate, net.train_on_batch, net.test_on_batch):
        with pytest.raises(error, match=message):
            call(X, y)
    with pytest.raises(error, match="validation_data: .*" + message if what != "none" else message):
        net.fit(X, Y, validation_data=(X, y))
    assert steps_done(net) == 0


BAD_OPTIONS = [
    ({"batch_size": 0}, ValueError, r"batch_size: expected a whole number of at least 1, got 0"),
    ({"batch_size": 2.0}, TypeError, r"batch_size: expected a whole number"),
    ({"batch_size": True}, TypeError, r"batch_size: expected a whole number"),
    ({"epochs": 0}, ValueError, r"epochs: expected a whole number of at least 1, got 0"),
    ({"epochs": "3"}, TypeError, r"epochs: .* got '3'"),
    ({"initial_epoch": -1}, ValueError, r"initial_epoch: .* at least 0, got -1"),
    ({"verbose": 3}, ValueError, r"verbose: expected 'auto', 0, 1 or 2, got 3"),
    ({"validation_split": 1.0}, ValueError, r"validation_split: expected a number from 0 to below 1, got 1.0"),
    ({"validation_split": -0.1}, ValueError, r"validation_split"),
    ({"validation_split": "a"}, TypeError, r"validation_split"),
    ({"validation_split": 0.99}, ValueError, r"leaves none to train on"),
    ({"validation_split": 0.2, "validation_data": (X, Y)}, ValueError, r"got both"),
    ({"validation_data": X}, TypeError, r"validation_data: expected \(x, y\)"),
    ({"validation_freq": 0}, ValueError, r"validation_freq"),
    ({"steps_per_epoch": 0}, ValueError, r"steps_per_epoch"),
    ({"steps_per_epoch": 2}, ValueError, r"steps_per_epoch: expected at most 1 \(10 samples in batches of 32\), got 2"),
    ({"validation_data": (X, Y), "validation_steps": 5}, ValueError, r"validation_steps: expected at most 1"),
    (
        {"sample_weight": np.ones(9)},
        ValueError,
        r"sample_weight: expected shape \(10,\), one weight a sample, got \(9,\)",
    ),
    ({"sample_weight": np.ones((10, 2))}, ValueError, r"sample_weight: expected shape \(10,\)"),
    (
        {"sample_weight": np.where(Y == 1, -1.0, 1.0)},
        ValueError,
        r"sample_weight: expected weights >= 0, got -1.0 in row 1",
    ),
    ({"sample_weight": np.where(Y == 2, np.nan, 1.0)}, ValueError, r"sample_weight: .* got nan in row 2"),
    ({"class_weight": {3: 1.0}}, ValueError, r"class_weight: expected classes 0 to 2 as keys, got 3"),
    ({"class_weight": {"1": 1.0}}, ValueError, r"class_weight: .* got '1'"),
    ({"class_weight": {1: -2}}, ValueError, r"class_weight: expected a finite weight >= 0 for class 1, got -2"),
    ({"class_weight": {0.5: 1}}, ValueError, r"class_weight: .* got 0.5"),
    ({"class_weight": {math.nan: 1}}, ValueError, r"class_weight: .* got nan"),
    ({"class_weight": [1, 2, 3]}, TypeError, r"class_weight: expected a dict"),
    ({"callbacks": [print]}, TypeError, r"callbacks: expected Callback objects"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS, ids=lambda value: str(value)[:40])
def test_bad_options_are_refused_before_work(net, options, error, message):
    with pytest.raises(error, match=message):
        net.fit(X, Y, **options)
    assert steps_done(net) == 0 and not net.training.thread
    net.fit(X, Y, verbose=0)


def test_a_lazy_model_survives_data_that_does_not_fit():
    net = nn.Sequential([nn.Conv1D(4, 3, name="hidden"), nn.Flatten()])
    with pytest.raises(ValueError, match=r"Conv1D 'hidden': expected input of shape .* got \(None, 28\)"):
        net.predict(np.zeros((3, 28)))
    assert net.predict(np.zeros((3, 5, 2))).shape == (3, 12)


def test_several_inputs_by_order_and_name():
    a, b = nn.Input((2,), name="a"), nn.Input((3,), name="b")
    net = nn.Model([a, b], nn.Dense(1)(nn.Concatenate()([a, b])))
    net.compile("sgd", "mse")
    one, two = np.ones((4, 2)), np.ones((4, 3))
    assert np.array_equal(net.predict([one, two]), net.predict({"b": two, "a": one}))
    cases = [
        (one, TypeError, r"x: expected a list of 2 arrays \(a, b\), got ndarray"),
        ([one], ValueError, r"x: expected 2 arrays \(a, b\), got 1"),
        ([two, one], ValueError, r"Input 'a': expected samples of shape \(2,\), got \(3,\)"),
        ([one, two[:3]], ValueError, r"Input 'b': expected as many samples as Input 'a', 4, got 3"),
        ({"a": one}, ValueError, r"expected keys \['a', 'b'\], got \['a'\]"),
        ([one, two * np.nan], ValueError, r"Input 'b': expected finite"),
    ]
    for x, error, message in cases:
        with pytest.raises(error, match=message):
            net.predict(x)


def test_ranges_and_arrays_of_the_standard_library_are_data():
    net = nn.Sequential([nn.Input((1,)), nn.Dense(1)])
    net.compile("sgd", "mse")
    plain = np.arange(7.0)[:, None]
    net.fit(plain, collections.deque(range(7)), verbose=0)
    for x in (range(7), array.array("d", range(7)), memoryview(plain)):
        assert np.array_equal(net.predict(x), net.predict(plain))
        net.fit(x, x, verbose=0)


def test_values_that_are_not_finite_are_told_by_position():
    net = nn.Sequential([nn.Input((3, 2)), nn.Flatten(), nn.Dense(2)])
    net.compile("sgd", "mse")
    x, y = np.zeros((5, 3, 2)), np.zeros((5, 2))
    bad_x, bad_y = x.copy(), y.copy()
    bad_x[4, 2, 1], bad_y[3, 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"got nan in row 4, position \(2, 1\); fill"):
        net.predict(bad_x)
    with pytest.raises(ValueError, match=r"got inf in row 3, column 1"):
        net.fit(x, bad_y, verbose=0)


def test_targets_of_one_column_may_be_flat():
    net = nn.Sequential([nn.Input((4,)), nn.Dense(1)])
    net.compile("sgd", "mse")
    flat = net.evaluate(X, X[:, 0], verbose=0)
    assert flat == net.evaluate(X, X[:, :1], verbose=0)
    sparse = model()
    assert sparse.evaluate(X, Y, verbose=0) == sparse.evaluate(X, Y[:, None].astype("f4"), verbose=0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_first_bad_row_in_large_arrays(dtype):
    array = np.full((5000, 200), 60000 if dtype == "float16" else 3e38, dtype)  # sums overflow, no element does
    assert adapt.first_bad_row(array, "float32") is None
    for row in (0, 1309, 1310, 4999):
        bad = array.copy()
        bad[row, 17] = np.nan
        assert adapt.first_bad_row(bad, "float32") == row
        assert adapt.first_bad_row(bad[:, ::-1], "float32") == row
    assert adapt.first_bad_row(np.zeros((0, 3), dtype), "float32") is None


def batches(size=4):
    return [(X[i : i + size], Y[i : i + size]) for i in range(0, 10, size)]


def test_iterables_of_batches(net):
    weights = net.get_weights()
    history = net.fit(Repeat(), epochs=2, verbose=0)
    assert steps_done(net) == 6 and len(history.history["loss"]) == 2
    streamed = net.get_weights()
    other = model()
    other.set_weights(weights)
    other.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(streamed, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, values in other.history.history.items():
        np.testing.assert_allclose(history.history[name], values, rtol=1e-6)
    np.testing.assert_allclose(
        net.evaluate(iter(batches()), verbose=0), net.evaluate(X, Y, batch_size=4, verbose=0), rtol=1e-6
    )
    np.testing.assert_array_equal(net.predict(x for x, _ in batches()), net.predict(X, batch_size=4))


def test_iterables_with_steps(net):
    net.fit((batch for batch in batches() * 10), epochs=2, steps_per_epoch=5, verbose=0)
    assert steps_done(net) == 10
    net.fit(Repeat(), epochs=2, steps_per_epoch=5, validation_data=Repeat(), validation_steps=1, verbose=0)
    assert steps_done(net) == 20 and len(net.history.history["val_loss"]) == 2


def test_class_weights_of_iterables(net):
    weights = net.get_weights()
    net.fit(iter(batches()), class_weight={0: 2.0, True: 0.5}, verbose=0)
    streamed = net.get_weights()
    net.set_weights(weights)
    net.fit(X, Y, batch_size=4, shuffle=False, class_weight={np.float64(0): 2, 1.0: 0.5}, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(streamed, net.get_weights(), strict=True))
    net.set_weights(weights)
    net.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    assert not np.array_equal(streamed[0], net.get_weights()[0])
    with pytest.raises(TypeError, match="class_weight: expected a dict"):
        net.fit(iter(batches()), class_weight=[1, 2], verbose=0)


class Repeat:
    def __iter__(self):
        return iter(batches())


def test_iterables_refused(net):
    with pytest.raises(ValueError, match=r"an iterator can be read once, which is one epoch, got epochs=2"):
        net.fit(iter(batches()), epochs=2)
    with pytest.raises(TypeError, match=r"expected an iterable of \(x, y\)"):
        net.fit((x for x in X), verbose=0)
    with pytest.raises(TypeError, match=r"expected an iterable of \(x, y\) or .*, got a tuple of 1$"):
        net.fit(iter([(X,)]), verbose=0)
    with pytest.raises(TypeError, match="expected neither y"):
        net.fit(iter(batches()), Y)
    for call in (net.fit, net.evaluate):
        for make in (list, tuple):
            text = rf"x: .* got a {make.__name__} of 3 batches; pass iter\(batches\), or .* itertools.cycle"
            with pytest.raises(TypeError, match=text):
                call(make(batches()))
    with pytest.raises(ValueError, match=r"batches \(x, y\) are given by an iterator"):
        net.predict(batches())
    with pytest.raises(TypeError, match=r"validation_data: .* got a list of 3 batches"):
        net.fit(X, Y, validation_data=batches())
    with pytest.raises(ValueError, match="at least one batch, got none"):
        net.fit(iter([]), verbose=0)
    with pytest.raises(ValueError, match=r"expected samples of shape \(4,\), got \(2,\)"):
        net.fit(iter([(X[:, :2], Y)]), verbose=0)
    assert not net.training.thread
