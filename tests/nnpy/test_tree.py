"""Trees of arguments: leaves, replacing, what may be in them, JSON."""

from collections import namedtuple

import numpy as np
import pytest

from nnpy import tree
from nnpy.graph import Tensor

A, B = Tensor((None, 2), name="a"), Tensor((None, 3), name="b")
Pair = namedtuple("Pair", "first second")


def test_leaves_come_in_order():
    value = {"x": [A, 1, (B, None)], "y": "text"}
    assert list(tree.leaves(value)) == [A, 1, B, None, "text"]
    assert tree.tensors(value) == [A, B] and tree.tensors(3) == []


def test_replace_keeps_the_form():
    value = ([A, 2], {"k": Pair(B, 3)})
    found = tree.replace(value, lambda tensor: tensor.name)
    assert found == (["a", 2], {"k": Pair("b", 3)}) and isinstance(found[1]["k"], Pair)
    assert tree.replace(value, lambda leaf: 0, every=True) == ([0, 0], {"k": Pair(0, 0)})


@pytest.mark.parametrize("value", [object(), np.zeros(5000), [1, {"k": print}], np.array(["a"])])
def test_other_leaves_are_refused(value):
    with pytest.raises(TypeError, match="Dense 'd': argument 'x': expected tensors and constants"):
        tree.check(value, "Dense 'd': argument 'x'")
    tree.check([A, 1, 2.5, "s", None, True, np.zeros(4096), np.float32(2)], "x")


def test_json_round_trip():
    value = {"x": (A, [B, 1.5]), 3: None, "a": np.arange(6, dtype="int8").reshape(2, 3), "n": np.float64(0.25)}
    places = {A: [0, 0], B: [1, 0]}
    text = tree.to_json(value, places.get)
    again = tree.from_json(text, lambda place: A if place == [0, 0] else B)
    assert list(again) == ["x", 3, "a", "n"] and again["x"] == (A, [B, 1.5]) and again[3] is None
    np.testing.assert_array_equal(again["a"], value["a"])
    assert again["a"].dtype == "int8" and again["n"] == 0.25 and isinstance(again["n"], np.float64)
    empty = np.zeros((0, 3))
    assert tree.from_json(tree.to_json(empty, None), None).shape == (0, 3)
    with pytest.raises(ValueError, match="expected an argument of a call, got an object of odd"):
        tree.from_json({"odd": 1}, None)
