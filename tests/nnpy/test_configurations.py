"""Configurations that were changed: ``from_config`` makes an object of them, or says in which class what is wrong."""

import contextlib
import copy
import json
import random
import re

import numpy as np
import pytest

import nnpy as nn
from nnpy import registry

_X = nn.Input((4,), name="x")
_HIDDEN = nn.Dense(4, activation="leaky_relu")(_X)
_GRAPH = nn.Model({"x": _X}, {"y": nn.Add()([nn.Dense(4)(_X), nn.Dropout(0.5)(_HIDDEN) * 2.0 + np.ones(4, "f4")])})
_STACK = nn.Sequential(
    [
        nn.Input((4,)),
        nn.Dense(3, kernel_regularizer=nn.regularizers.L2(0.1), kernel_constraint="non_neg"),
        nn.Sequential([nn.Dense(2), nn.Residual([nn.Dense(2)])]),
    ],
    seed=3,
)
# What stands for a class whose constructor has to be given something: arguments, or an object.
_EXAMPLES = {
    "Conv1D": (3, 3), "Conv2D": (3, 3), "Conv3D": (3, 3), "Conv2DTranspose": (3, 3), "SeparableConv2D": (3, 3),
    "DepthwiseConv2D": (3,), "Dense": (3,), "Dropout": (0.5,), "SpatialDropout1D": (0.5,), "SpatialDropout2D": (0.5,),
    "SpatialDropout3D": (0.5,), "InputLayer": ((3,),), "Reshape": ((2, 2),), "Permute": ((2, 1),), "RepeatVector": (3,),
    "ExponentialDecay": (0.1, 10, 0.5), "InverseTimeDecay": (0.1, 10, 0.5), "PolynomialDecay": (0.1, 10),
    "PiecewiseConstantDecay": ([1, 2], [0.1, 0.2, 0.3]), "CosineDecay": (0.1, 10), "CosineDecayRestarts": (0.1, 10),
    "LinearWarmup": (0.1, 10), "OneCycle": (0.1, 10), "Residual": ([nn.Dense(2)],), "Model": _GRAPH,
    "Sequential": _STACK, "SumLoss": ([nn.losses.get("mse"), nn.losses.get("mae")],), "layer/Activation": ("relu",),
    "activation/Activation": nn.activations.leaky_relu,
}  # fmt: skip
_CODE = {"Lambda", "FunctionLoss", "FunctionMetric", "CustomActivation", "CustomLoss", "CustomMetric"}  # of functions
_VALUES = (
    None, 3, -1, "x", "", [], {}, 1e30, float("nan"), 10**400, [1, 2], {"a": 1}, "dense", True, [[[]]], (1, 2), set(),
    {"class": "layer/Dense", "config": {}}, {"class": "array", "config": 3}, {"class": "tuple", "config": None},
    {"class": 3, "config": 3}, {"class": "layer", "config": 99}, {"class": "dict", "config": [1]},
    {"class": "layer/Dense", "config": 3}, {"class": "dict", "config": [[[1], 2]]},
)  # fmt: skip
# Of Python's own errors, which say nothing to who has written a configuration.
_RAW = re.compile(r"object is not|unpack|zip\(\)|indices must|has no attribute|__init__|unhashable|out of range")


def example(group, name, cls):
    given = _EXAMPLES.get(f"{group}/{name}", _EXAMPLES.get(name))
    if given is not None:
        return cls(*given) if isinstance(given, tuple) else given
    needed = len(registry._required(cls.__init__))  # what is tried does for most
    for arguments in ([3] * needed, [0.5] * needed, [3, [0, 1]][:needed], [nn.SGD()], [nn.Dense(2)]):
        with contextlib.suppress(TypeError, ValueError):
            return cls(*arguments)
    raise AssertionError(f"{name}: expected arguments for one among _EXAMPLES")


def changed(config, rng):
    """A copy with a key dropped or added, or one value replaced or doubled, somewhere inside."""
    if rng.random() < 0.03:
        return rng.choice(_VALUES)
    node = config = copy.deepcopy(config)
    while isinstance(node, dict | list) and node:
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        if rng.random() < 0.6 and isinstance(node[key], dict | list) and node[key]:
            node = node[key]
            continue
        kind = rng.randrange(5)
        if kind == 0:
            del node[key]
        elif kind == 1 and isinstance(node, dict):
            node["extra"] = 3
        elif kind == 2:
            node[key] = [node[key], node[key]]
        else:
            node[key] = rng.choice(_VALUES)
        break
    return config


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("group", registry._classes)
def test_changed_configurations(group, long):
    made_of = refused = 0
    for name, cls in list(registry._classes[group].items()):
        if not cls.__module__.startswith("nnpy.") or name in _CODE:
            continue
        made = example(group, name, cls)
        config, rng = made.get_config(), random.Random(name)
        assert type(type(made).from_config(config)) is type(made)
        for _ in range(long(20, 2000) * (10 if name in ("Model", "Sequential") else 1)):
            given = changed(config, rng)
            try:
                type(made).from_config(given)
                made_of += 1
            except (TypeError, ValueError) as error:
                refused += 1
                known = [name, registry.snake(name), getattr(made, "name", name)]
                known += list(registry._classes[group]) if name in ("Model", "Sequential") else []
                named = any(each in str(error) for each in known)
                assert named and not _RAW.search(str(error)), f"{name} of {given}: {error}"
            except Exception as error:
                raise AssertionError(f"{name} of {given} raises {type(error).__name__}: {error}") from error
    assert refused and made_of


def graph(**changes):
    config = json.loads(json.dumps(_GRAPH.get_config()))
    config["graph"].update(changes)
    return config


_CALL = {"inputs": [], "operation": "no", "attributes": {}}
_DEEP = {"class": "schedule/OneCycle", "config": {}}


@pytest.mark.parametrize(
    "cls, config, error, text",
    [
        (nn.Sequential, {"name": "s"}, ValueError, "to have name, input, layers, seed, got no 'input' and no 'layers'"),
        (nn.Sequential, 3, TypeError, "expected its configuration to be a dict, got 3"),
        (nn.Model, {"name": "m"}, ValueError, "expected its configuration to have .*got no 'graph'"),
        (nn.Model, graph(inputs=[9]), ValueError, "expected inputs to be from 0 to 4, got 9"),
        (nn.Model, graph(inputs=[1]), ValueError, "expected inputs to be layers of Input, got Dense"),
        (nn.Model, graph(outputs=[[4, 1]]), ValueError, "outputs: tensor: expected number to be from 0 to 0, got 1"),
        (nn.Model, graph(outputs=[[44, 0]]), ValueError, "outputs: tensor: expected call to be from 0 to"),
        (nn.Model, graph(output_keys=[]), ValueError, "expected 1 output_keys, got 0"),
        (nn.Model, graph(calls=[{"layer": 1}]), ValueError, r"calls\[0\]: expected it to have .* got no 'args'"),
        (nn.Model, graph(calls=[_CALL]), ValueError, r"calls\[0\]: unknown operation 'no'"),
        (nn.Dense, {"unit": 3}, TypeError, "expected a configuration with units, got one of unit"),
        (nn.Dense, {"units": 3, "extra": 1}, TypeError, "unexpected argument 'extra'"),
        (nn.Dense, [3], TypeError, "expected its configuration, a dict of arguments by their names, got list"),
        (nn.Conv1D, {"filters": 3}, TypeError, "expected a configuration with kernel_size, got one of filters"),
        (nn.Residual, {"layers": [{"class": "layer/Dense", "config": {}}]}, TypeError, "layers: Dense: .*with units"),
        (nn.Adam, {"learning_rate": _DEEP}, TypeError, "learning_rate: OneCycle: .* with max_learning_rate"),
        (nn.Reshape, {"target_shape": {"class": "tuple", "config": 3}}, TypeError, "target_shape: tuple: expected its"),
        (nn.initializers.Constant, {"value": 10**400}, ValueError, "expected value to be a finite number"),
        (nn.activations.CustomActivation, {}, ValueError, "expected its configuration to have name, got no 'name'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(cls, config, error, text):
    with pytest.raises(error, match=f"^{cls.__name__}: .*{text}|^{cls.__name__}: {text}"):
        cls.from_config(config)


def nested(depth, around):
    made = nn.Sequential([nn.Dense(3)])
    for _ in range(depth):
        made = around(made)
    return made


def test_deep_nesting_is_no_bare_recursion_error():
    deep = nested(300, lambda inner: nn.Sequential([inner]))
    with pytest.raises(ValueError, match=r"nested too deep for a configuration, not for save"):
        deep.get_config()
    config = {"name": "s", "input": None, "layers": []}
    for _ in range(2000):
        config = {"name": "s", "input": None, "layers": [{"class": "layer/Sequential", "config": config}]}
    with pytest.raises(ValueError, match=r"^Sequential: .*nested too deep"):
        nn.Sequential.from_config(config)
    with pytest.raises(ValueError, match=r"^Residual 'residual.*': layers whose call.* nested too deep"):
        nested(300, lambda inner: nn.Residual([inner]))(nn.Input((3,)))


def test_models_that_hold_a_model_each_are_loaded_however_deep(tmp_path):
    """Calls of a layer are counted once each, not doubled by every model around it."""

    def around(inner):
        source = nn.Input((3,))
        return nn.Model(source, inner(source))

    deep, x = nested(40, around), np.ones((2, 3), "f4")
    np.testing.assert_array_equal(nn.load_model(deep.save(tmp_path / "deep.safetensors")).predict(x), deep.predict(x))
