"""Data frames: numbers, truth values and missing values, column by column; errors name the column."""

import numpy as np
import pytest

import nnpy as nn
from nnpy.data import frames

pytest.importorskip("narwhals")


@pytest.fixture
def net():
    net = nn.Sequential([nn.Input((4,), name="input"), nn.Dense(2)])
    net.compile("sgd", "mse")
    return net


def predicted(net, x):
    kernel, bias = net.get_weights()
    return np.asarray(x, np.float64) @ kernel + bias


def columns(library):
    """A frame of the library whose columns are of different kinds, and its numbers."""
    a, b = np.linspace(-1, 1, 6), np.array([True, False, True, True, False, False])
    c, d = np.arange(6), np.arange(6, dtype=np.uint8)
    if library == "pandas":
        pandas = pytest.importorskip("pandas")
        b, c = pandas.array(b, dtype="boolean"), pandas.array(c, dtype="Int64")
    made = pytest.importorskip(library).DataFrame({"a": a, "b": b, "c": c, "d": d})
    return made, np.stack([np.asarray(v, np.float64) for v in (a, b, c, d)], axis=1)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_different_kinds(net, library):
    frame, expected = columns(library)
    np.testing.assert_allclose(net.predict(frame), predicted(net, expected), rtol=1e-5, atol=1e-6)
    net.fit(frame, frame[["a", "b"]], verbose=0)


def test_dummies(net):
    pandas = pytest.importorskip("pandas")
    frame = pandas.get_dummies(pandas.DataFrame({"size": [1.5, 2.0, 3.0], "kind": ["x", "y", "z"]}))
    assert sorted({kind.kind for kind in frame.dtypes}) == ["b", "f"]
    expected = np.concatenate([[[1.5], [2], [3]], np.eye(3)], axis=1)
    np.testing.assert_allclose(net.predict(frame), predicted(net, expected), rtol=1e-5, atol=1e-6)


def test_no_copy_of_columns_of_one_kind():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(np.zeros((5, 3)))
    assert np.shares_memory(frames.to_numbers(frame, "x"), frame[0].to_numpy())
    flags = pandas.DataFrame({"a": [True, False], "b": [False, True]})
    assert frames.to_numbers(flags, "x").dtype == bool


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_missing_and_infinite_values_are_told_by_column(net, library):
    frame, expected = columns(library)
    module = pytest.importorskip(library)
    for name, values in (("b", [True, None] * 3), ("c", [1, None] * 3), ("a", [1.0, np.inf] * 3)):
        if library == "pandas" and name != "a":
            values = module.array(values, dtype={"b": "boolean", "c": "Int64"}[name])
        column = module.Series(name, values) if library == "polars" else module.Series(values, name=name)
        bad = frame.with_columns(column) if library == "polars" else frame.assign(**{name: column})
        with pytest.raises(ValueError, match=rf"Input 'input': .* got (nan|inf) in row 1, column '{name}'; fill"):
            net.predict(bad)
        with pytest.raises(ValueError, match=rf"y: .* got (nan|inf) in row 1, column '{name}'; fill"):
            net.fit(expected, bad[["d", name]], verbose=0)


def test_columns_that_are_no_numbers_are_named(net):
    pandas = pytest.importorskip("pandas")
    frame, _ = columns("pandas")
    mixed = np.array([True, None, 1.5, "x", 2, 3], dtype=object)
    for values, text in (
        (list("uvwxyz"), "String"),
        (pandas.Categorical(list("uvuvuv")), "Categorical"),
        (pandas.to_datetime(["2024-01-01"] * 6), "Datetime"),
        (mixed, "Object holding bool"),
    ):
        with pytest.raises(TypeError, match=f"Input 'input': expected columns of numbers, got column 'b' of {text}"):
            net.predict(frame.assign(b=values))
    with pytest.raises(TypeError, match="y: expected columns of numbers, got column 'name' of String"):
        net.fit(frame, pandas.Series(list("uvwxyz"), name="name"), verbose=0)
    with pytest.raises(ValueError, match="Input 'input': Expected unique column names, got: - 'a' 2 times"):
        net.predict(pandas.concat([frame[["a"]], frame[["a", "b", "c"]]], axis=1))


def test_a_row_is_not_a_frame(net):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"got one of shape \(4,\)$"):
        net.predict(pandas.DataFrame(np.zeros((3, 4))).iloc[0])
