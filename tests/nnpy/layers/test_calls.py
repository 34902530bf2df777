"""Calls of layers: trees of arguments, ``training``, masks, losses and effects, what is refused."""

import functools
import sys

import numpy as np
import pytest
from running import value

import nnpy as nn
from nnpy import graph, layers, ops
from nnpy.graph import Tensor

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)


class Mixed(nn.Layer):
    """Takes and gives trees; constants of all kinds."""

    def __init__(self, name=None):
        super().__init__(name=name)
        self.inner = nn.Dense(4, kernel_initializer="identity", name="inner")

    def call(self, x, other, scale=1.0, shift=None, how="plus", *, flip=False):
        a, b = self.inner(x), other["pair"][0]
        if flip:
            a, b = b, a
        y = a * scale + b if how == "plus" else a * scale - b
        if shift is not None:
            y = y + float(shift.sum())
        return {"sum": y, "parts": (a, [b])}


def test_trees_go_in_and_out():
    x, y = nn.Input((4,)), nn.Input((4,))
    layer = Mixed()
    result = layer(x, other={"pair": (y, None)}, scale=2, shift=np.ones(3))
    assert list(result) == ["sum", "parts"] and isinstance(result["parts"], tuple)
    np.testing.assert_allclose(value(result["sum"], {x: X, y: Y}), 2 * X + Y + 3, rtol=1e-5, atol=1e-5)
    call = result["sum"].call
    assert call.inputs == (x, y) and call.outputs == (result["sum"], result["parts"][0], result["parts"][1][0])
    assert layer.input is x and layer.output is result
    flipped = layer(x, {"pair": [y]}, 2.0, how="minus", flip=True)["sum"]
    np.testing.assert_allclose(value(flipped, {x: X, y: Y}), 2 * Y - X, rtol=1e-5, atol=1e-5)


def test_calls_with_trees_are_replayed_and_saved(tmp_path):
    a, b = nn.Input((4,), name="a"), nn.Input((4,), name="b")
    result = Mixed(name="mixed")(a, {"pair": (b, None)}, scale=np.float32(0.5), shift=np.arange(3), how="minus")
    net = nn.Model([a, b], [result["sum"], result["parts"][1][0]], name="net")
    expected = net.predict([X, Y])
    np.testing.assert_allclose(expected[0], 0.5 * X - Y + 3, rtol=1e-5, atol=1e-5)
    c, d = nn.Input((4,)), nn.Input((4,))
    outer = nn.Model([c, d], net([c, d]))
    net.save(tmp_path / "net.safetensors")
    for again in (outer, nn.load_model(tmp_path / "net.safetensors")):
        for one, other in zip(again.predict([X, Y]), expected, strict=True):
            np.testing.assert_array_equal(one, other)


class Never(nn.Layer):
    def call(self, x, y=None):
        return x


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda n, x: n(), r"Never 'n': missing a required argument: 'x'; it is called as call\(x, y=None\)"),
        (lambda n, x: n(x, z=1), r"Never 'n': got an unexpected keyword argument 'z'"),
        (lambda n, x: n(x, 1, 2), r"Never 'n': too many positional arguments"),
        (lambda n, x: n(3), r"Never 'n': expected a Tensor \(from Input or a layer\), got 3; for numbers make a Model"),
        (lambda n, x: n(x, object), r"Never 'n': argument 'y': expected tensors and constants .*, got type <"),
        (lambda n, x: n(x, [1, {"k": np.zeros(9999)}]), r"argument 'y': expected .*arrays of at most 4096 .*got nd"),
        (lambda n, x: n(x, training="yes"), r"Never 'n': expected training to be True or False, got 'yes'"),
    ],
)  # fmt: skip
def test_refused(call, text):
    with pytest.raises(TypeError, match=text):
        call(Never(name="n"), nn.Input((4,)))


class Both(nn.Layer):
    """Doubles while training, and only then has a scale."""

    def call(self, x, training=False):
        if training:
            if not hasattr(self, "scale"):
                self.scale = self.add_weight((4,), "ones", "scale")
            return x * 2.0 + ops.add(x * 0.0, self.scale)
        return x


def test_training_is_given_in_both_kinds_of_program():
    source = nn.Input((4,))
    net = nn.Model(source, Both()(source))
    assert net.structure.asks and net.structure.for_training is net.structure.for_training is not net.structure
    assert net.structure.for_training.for_training is net.structure.for_training
    assert [w.shape for w in net.weights] == [(4,)]  # that only training uses
    net.compile(nn.SGD(0.0), "mse")
    np.testing.assert_array_equal(net.predict(X), X)
    zero = np.zeros_like(X)
    assert net.evaluate(X, zero, verbose=0) == pytest.approx((X**2).mean(), rel=1e-5)
    assert net.train_on_batch(X, zero) == pytest.approx(((2 * X + 1) ** 2).mean(), rel=1e-5)
    np.testing.assert_allclose(net.probe(X, training=True)[net.layers[1].name], 2 * X + 1, rtol=1e-5, atol=1e-6)


def test_training_that_is_said_wins_and_reaches_inner_layers():
    class Outer(nn.Layer):
        def __init__(self):
            super().__init__()
            self.inner, self.plain = Both(), nn.Sequential([nn.Input((4,)), Both()])

        def call(self, x):
            return self.inner(x) + self.plain(x)

    source = nn.Input((4,))
    outer = Outer()
    for said, factor, shift in ((None, 2, 0), (False, 2, 0), (True, 4, 2)):
        y = outer(source, training=said)
        assert y.call.asks is (said is None)
        np.testing.assert_allclose(value(y, {source: X}), factor * X + shift, rtol=1e-5, atol=1e-5)
    net = nn.Model(source, [outer(source, training=False), outer(source, training=True), outer(source)])
    training = net.structure.for_training
    for tensor, factor in zip(training.outputs, (2, 4, 4), strict=True):
        expected = factor * X + (factor - 2)
        np.testing.assert_allclose(value(tensor, {source: X}, training=True), expected, rtol=1e-5, atol=1e-5)


def test_no_layer_that_asks_no_second_structure():
    source = nn.Input((4,))
    net = nn.Model(source, nn.Dropout(0.5)(nn.BatchNormalization()(nn.Dense(3)(source))))
    assert not net.structure.asks and net.structure.for_training is net.structure


def test_keywords_are_passed_on():
    class Passes(nn.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Both()

        def call(self, x, **options):
            self.seen = options
            return self.inner(x, **options)

    x = nn.Input((4,))
    layer = Passes()
    np.testing.assert_allclose(value(layer(x, training=True), {x: X}), 2 * X + 1, rtol=1e-5, atol=1e-6)
    assert layer.seen == {"training": True}
    layer(x)
    assert layer.seen == {"training": False}


@pytest.mark.parametrize("kind", [nn.Dropout, nn.SpatialDropout1D])
def test_dropout_at_all_times_or_never(kind):
    x = nn.Input((10, 4))
    data = np.ones((50, 10, 4), np.float32)
    layer = kind(0.5)
    for training in (False, True):
        assert (value(layer(x, training=True), {x: data}, training=training) == 0).any()
        assert (value(layer(x, training=False), {x: data}, training=training) == 1).all()


def test_normalization_as_it_is_told():
    x = nn.Input((4,))
    layer = nn.BatchNormalization(epsilon=1e-5)
    batch = (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-5)
    for training in (False, True):
        got = value(layer(x, training=True), {x: X}, training=training)
        np.testing.assert_allclose(got, batch, rtol=1e-4, atol=1e-5)
        layer.moving_mean.assign(np.zeros(4))
        layer.moving_variance.assign(np.ones(4))
        np.testing.assert_allclose(value(layer(x, training=False), {x: X}, training=training), X, rtol=1e-4, atol=1e-5)


# masks


class Masking(nn.Layer):
    """What Embedding and Masking do: the mask says which steps are not zero."""

    supports_masking = True

    def call(self, x):
        return x * 2.0

    def compute_mask(self, inputs, previous_mask):
        return ops.sign(ops.reshape(ops.abs(inputs), (None, *inputs.shape[1:])))


class Reader(nn.Layer):
    def call(self, x, mask=None):
        self.mask = mask
        return x * 3.0


class Attends(nn.Layer):
    def call(self, query, value, query_mask=None, value_mask=None):
        self.masks = (query_mask, value_mask)
        return query + value


def test_masks_travel_through_layers_that_carry_them(recwarn):
    x = nn.Input((6, 4))
    masked = Masking()(x)
    mask = masked.mask
    assert isinstance(mask, Tensor) and x.mask is None
    y = masked
    for layer in (
        nn.Activation("relu"), nn.Activation("linear"), nn.Dropout(0.1), nn.Dense(4), nn.LayerNormalization(),
        nn.BatchNormalization(), nn.SpatialDropout1D(0.1), nn.Residual([nn.Dense(4)]),
    ):  # fmt: skip
        y = layer(y)
        assert y.mask is mask, layer
    reader, attends = Reader(), Attends()
    reader(y)
    assert reader.mask is mask
    reader(x, mask=mask)
    assert reader.mask is mask
    reader(x)
    assert reader.mask is None
    attends(y, x)
    assert attends.masks == (mask, None)
    attends(x, value=y)
    assert attends.masks == (None, mask)
    assert nn.Add()([y, x]).mask is mask and nn.Multiply()([x, x]).mask is None
    assert not recwarn.list


def test_masks_of_several_inputs_are_joined():
    x = nn.Input((6, 4))
    a, b = Masking()(x), Masking()(x)
    both = nn.Add()([a, b]).mask
    assert both.node.inputs == (a.mask, b.mask)
    longer = nn.Concatenate(axis=1)([a, b])
    assert longer.mask.shape == (None, 12, 4)
    with pytest.raises(ValueError, match="expected a mask of each input, or of none, got 1 of 2"):
        nn.Concatenate(axis=1)([a, x])


def test_a_mask_that_ends_is_told():
    class Deaf(nn.Layer):
        def call(self, x):
            return x * 1.5

    with pytest.warns(nn.AdviceWarning, match="^Deaf 'deaf': does not support masking: the mask of its input ends"):
        y = Deaf(name="deaf")(Masking()(nn.Input((6, 4))))
    assert y.mask is None


def test_masks_travel_in_models_and_replays():
    x = nn.Input((6, 4))
    inner = nn.Model(x, nn.Dense(4)(Masking()(x)))
    assert inner.outputs[0].mask is not None
    source = nn.Input((6, 4))
    y = inner(source)
    reader = Reader()
    net = nn.Model(source, reader(y))
    assert y.mask is not None is not inner.outputs[0].mask and y.mask is not inner.outputs[0].mask
    assert reader.mask is y.mask
    given = Tensor((None, 6, 4))
    seen = nn.Sequential([nn.Input((6, 4)), nn.Activation("relu"), reader])
    assert seen(source, mask=given) is not None and reader.mask is given
    fixed = net.structure.with_shapes([(None, 6, 4)])
    assert fixed is net.structure


# losses and effects


class Busy(nn.Layer):
    """Adds a loss, and has an effect (any node stands for one here)."""

    def call(self, x):
        y = x * 2.0
        self.add_loss(nn.losses.MeanSquaredError()(x, y))
        graph.record(ops.square(y).node)
        return y


def test_losses_and_effects_are_found_in_the_structure():
    class Outer(nn.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Busy()

        def call(self, x):
            return self.inner(x) + 1.0

    source = nn.Input((4,))
    y = Outer()(Busy()(source))
    net = nn.Model(source, y)
    assert [loss.shape for loss in net.structure.losses] == [()] * 2 and len(net.structure.effects) == 2
    assert len(y.call.losses) == len(y.call.effects) == 1
    assert y.call.losses[0].node.scope.startswith("outer") and "/busy" in y.call.losses[0].node.scope
    outer = nn.Model(source, net(source))
    assert len(outer.structure.losses) == 2 and not set(outer.structure.losses) & set(net.structure.losses)

    class Coded(nn.Model):
        def __init__(self):
            super().__init__()
            self.busy = Busy()

        def call(self, x):
            self.busy(x)  # for its loss alone
            y = x * 3.0
            self.add_loss(nn.losses.MeanSquaredError()(x, y))
            return y

    coded = Coded()
    coded.build((None, 4))
    assert len(coded.structure.losses) == 2 and len(coded.structure.effects) == 1
    assert len(coded(nn.Input((4,))).call.losses) == 2
    lazy = nn.Sequential([Busy()])
    assert len(lazy(source).call.losses) == 1  # not those of its own structure


def test_add_loss_and_add_variable_refuse():
    layer = Busy(name="busy")
    with pytest.raises(RuntimeError, match=r"Busy 'busy': add_loss: expected to be called inside of a layer's call"):
        layer.add_loss(Tensor(()))
    with pytest.raises(TypeError, match="add_loss: expected a Tensor, got 3"):
        layer.add_loss(3)
    with pytest.raises(ValueError, match=r"add_loss: expected shape \(\) or \(None, \.\.\.\), of each .*got \(2,\)"):
        layer.add_loss(Tensor((2,)))
    with pytest.raises(ValueError, match="expected role to be 'statistic' or 'state', got 'slot'"):
        layer.add_variable((2,), role="slot")
    state = layer.add_variable((2,), "ones", "state", "carried")
    assert state.role == "state" and state.name == "busy/carried" and layer.non_trainable_weights == [state]
    layer.trainable = True
    assert layer.trainable_weights == []


# build


def test_build_alone_and_by_names():
    class Named(nn.Layer):
        def build(self, a_shape, b_shape):
            self.shapes = (a_shape, b_shape)

        def call(self, a, b):
            return a + b

    layer = Named()
    layer(nn.Input((4,)), b=nn.Input((4,)))
    assert layer.shapes == ((None, 4), (None, 4))
    dense = nn.Dense(3)
    dense.build((None, 4))
    kernel = dense.kernel
    dense(nn.Input((4,)))
    assert dense.built and dense.kernel is kernel and len(dense.weights) == 2


def test_a_build_that_fails_leaves_nothing():
    class Fails(nn.Layer):
        ready = False

        def build(self, shape):
            self.w = self.add_weight((4,), "ones")
            if not self.ready:
                raise ValueError("not yet")

        def call(self, x):
            return ops.add(x, self.w)

    layer = Fails()
    with pytest.raises(ValueError, match="not yet"):
        layer(nn.Input((4,)))
    assert not layer.built and layer.weights == []
    layer.ready = True
    layer(nn.Input((4,)))
    assert len(layer.weights) == 1


def test_errors_of_operations_give_the_path():
    class Bad(nn.Layer):
        def call(self, x):
            return ops.add(x, nn.Input((9,)))

    class Outer(nn.Model):
        def __init__(self):
            super().__init__(name="model")
            self.block = nn.Sequential([Bad(name="bad")], name="block")

        def call(self, x):
            return self.block(x)

    with pytest.raises(ValueError, match=r"^model/block/bad \(add\): expected shapes that broadcast together"):
        Outer().build((None, 4))


@pytest.mark.parametrize(
    "make, text",
    [
        (
            lambda: nn.Dense(3, activaton="relu"),
            r"^Dense: unexpected argument 'activaton'; did you mean 'activation'\?",
        ),
        (lambda: nn.Dense(3, zzz=1), "^Dense: unexpected argument 'zzz'$"),
        (lambda: Mine(3, nmae="x"), r"^Mine: unexpected argument 'nmae'; did you mean 'name'\?$"),
        (lambda: nn.Sequential([], nmae="x"), r"^Sequential: unexpected argument 'nmae'; did you mean 'name'\?$"),
    ],
)
def test_unknown_arguments(make, text):
    with pytest.raises(TypeError, match=text):
        make()


class Mine(nn.Layer):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units


def test_dense_of_any_rank():
    x = nn.Input((2, 3, 4))
    layer = nn.Dense(5, "tanh")
    y = layer(x)
    data = np.random.default_rng(2).standard_normal((6, 2, 3, 4)).astype("f4")
    kernel, bias = layer.get_weights()
    assert y.shape == (None, 2, 3, 5)
    np.testing.assert_allclose(value(y, {x: data}), np.tanh(data @ kernel + bias), rtol=1e-5, atol=1e-5)


def test_layers_may_be_called_through_a_subclass_of_call():
    class Loud(nn.Dense):
        def __call__(self, *args, **kwargs):
            self.calls = getattr(self, "calls", 0) + 1
            return super().__call__(*args, **kwargs)

    layer = Loud(3)
    source = nn.Input((4,))
    net = nn.Model(source, layer(source))
    net(source)
    assert layer.calls == 2 and layers.Dense in type(layer).__mro__


def calls_of_python(build):
    """How many functions of Python are called by ``build``: the same in each run, however busy the machine is."""
    count = 0

    def see(frame, event, argument):
        nonlocal count
        count += event == "call"

    build()  # loads and caches
    sys.setprofile(see)
    try:
        build()
    finally:
        sys.setprofile(None)
    return count


def test_building_a_layer_is_light():
    """A deep network is built in about the time of these calls: 225 for a Dense layer, 488 for Conv2D and
    BatchNormalization at first."""

    def dense(number):
        x = source = nn.Input((8,))
        for _ in range(number):
            x = nn.Dense(8, "relu")(x)
        nn.Model(source, x)

    def images(number):
        x = source = nn.Input((4, 4, 2))
        for _ in range(number):
            x = nn.BatchNormalization()(nn.Conv2D(2, 3, padding="same", use_bias=False)(x))
        nn.Model(source, x)

    for network, most in ((dense, 240), (images, 535)):
        ten, thirty = (calls_of_python(functools.partial(network, number)) for number in (10, 30))
        assert (thirty - ten) / 20 <= most
