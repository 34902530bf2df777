"""The compiler: fusion, memory, specialisation, and what it does with whole models."""

import numpy as np
import pytest

import nncore
import nnpy as nn
from nncore.kernels.signatures import SIGNATURES
from nncore.memory import SLOTS
from nncore.steps import TEMPORARIES
from nnpy import ops
from nnpy.compiler import SWITCHES, compile_step, differentiate, specialise
from nnpy.compiler.memory import Buffer, plan
from nnpy.graph import Parameter, Tensor, Variable
from nnpy.insight.explain import lines
from nnpy.ops import effects

RNG = np.random.default_rng(0)
X = RNG.standard_normal((96, 40)).astype("f")
Y = RNG.integers(0, 5, 96)


def _records(model):
    """The ops of the model's training Programs."""
    return [op for key, ready in model._engine._programs.items() if key[0] == "train" for op in ready.program.records]


def _trained(optimizer, shared=False, epochs=3):
    nn.set_seed(3)
    x = nn.Input((40,))
    layer = nn.Dense(40, activation="tanh")
    h = layer(layer(x)) if shared else layer(x)
    model = nn.Model(x, nn.Dense(32)(h))
    model.compile(optimizer=optimizer, loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, batch_size=32, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda **clip: nn.Adam(0.01, **clip),
        lambda **clip: nn.AdamW(0.01, weight_decay=0.1, **clip),
        lambda **clip: nn.Adagrad(0.1, **clip),
        lambda **clip: nn.SGD(0.1, **clip),
        lambda **clip: nn.SGD(0.1, momentum=0.9, **clip),
        lambda **clip: nn.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01, **clip),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_update_behind_the_gemm_is_the_update_at_the_end(make, shared):
    fused, whole = _trained(make(), shared), _trained(make(global_clipnorm=1e9), shared)
    count = SIGNATURES["update"].sizes.index("count")
    at_the_end = [sum(op.sizes[count] for op in _records(m) if op.name == "update") for m in (fused, whole)]
    assert at_the_end[0] < at_the_end[1] >= sum(weight.size for weight in whole.get_weights())
    for a, b in zip(fused.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_dense_forward_is_one_gemm_with_bias_and_activation_inside():
    names = [op.name for op in _records(_trained(nn.SGD(0.1)))]
    assert "chain" not in names  # nothing is left of bias, tanh and its gradient
    assert names.count("reduce") == 2  # the bias gradients
    assert names.count("gemm") == 5  # two forward, two weight gradients, one input gradient


def test_buffers_that_do_not_live_at_once_share_memory():
    for nbytes, shared in ((200_001, True), (1000, False)):  # what is small altogether shares nothing
        a, b, c = (Buffer(nbytes) for _ in range(3))
        for buffer, (first, last) in zip((a, b, c), ((0, 1), (1, 2), (2, 3)), strict=True):
            buffer.touch(first)
            buffer.touch(last)
        size = plan([a, b, c], 4)
        assert (a.offset == c.offset) == shared and a.offset != b.offset
        assert size < (2 if shared else 3) * (nbytes + 64)
        assert all(buffer.offset % 64 == 0 for buffer in (a, b, c))


def test_held_buffers_are_never_reused():
    buffers = [Buffer(100, held=i == 0) for i in range(5)]
    for position, buffer in enumerate(buffers):
        buffer.touch(position)
    plan(buffers, 5)
    assert all(buffer.offset >= 100 for buffer in buffers[1:])


def _random_plan(rng):
    buffers = []
    for _ in range(40):
        buffer = Buffer(int(rng.integers(1, 5000)))
        first = int(rng.integers(0, 50))
        buffer.touch(first)
        buffer.touch(first + int(rng.integers(0, 10)))
        buffers.append(buffer)
    return buffers


@pytest.mark.parametrize("seed", range(5))
def test_no_two_live_buffers_overlap(seed):
    buffers = _random_plan(np.random.default_rng(seed))
    size = plan(buffers, 60)
    for i, a in enumerate(buffers):
        assert a.offset + a.nbytes <= size
        for b in buffers[:i]:
            together = a.first <= b.last and b.first <= a.last
            assert not together or a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset


def test_deep_network_memory_grows_slower_than_its_depth():
    """Gradients of activations die as soon as they are used: a step needs the activations and little more."""
    x = nn.Input((64,))
    h = x
    for _ in range(40):
        h = nn.Dense(64, activation="relu")(h)
    model = nn.Model(x, nn.Dense(3)(h))
    model.compile(optimizer="sgd", loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(RNG.standard_normal((128, 64)).astype("f"), RNG.integers(0, 3, 128), batch_size=128, verbose=0)
    activations = 41 * 128 * 64 * 4
    (ready,) = model._engine._programs.values()
    assert ready.executable.arena_bytes < 1.25 * activations


def test_inference_has_no_dropout_and_folds_normalization():
    nn.set_seed(0)
    model = nn.Sequential([nn.Dense(16), nn.BatchNormalization(), nn.Activation("relu"), nn.Dropout(0.5), nn.Dense(5)])
    model.compile(optimizer="adam", loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, batch_size=32, epochs=2, verbose=0)
    got = model.predict(X)
    (ready,) = (r for key, r in model._engine._programs.items() if key[0] == "predict" and key[1] == 32)
    assert [op.name for op in ready.program.records] == ["gather", "batch_norm_fold", "gemm", "gemm", "scatter"]
    w, b, gamma, beta, mean, variance, w2, b2 = (a.astype(np.float64) for a in model.get_weights())
    hidden = np.maximum((X @ w + b - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
    np.testing.assert_allclose(got, hidden @ w2 + b2, rtol=1e-4, atol=1e-5)


def test_frozen_normalization_is_inference_while_training():
    model = nn.Sequential([nn.Dense(8), nn.BatchNormalization(trainable=False), nn.Dense(5)])
    model.compile(optimizer="sgd", loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.build((None, 40))
    before = [w.copy() for w in model.layers[-2].get_weights()]
    model.fit(X, Y, batch_size=32, verbose=0)
    for a, b in zip(before, model.layers[-2].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def run(given, arrays, batch, keep=(), dtype="float32", **options):
    """One step on arrays at the slots."""
    state = nncore.new_state(batch)
    executable = compile_step(given, batch, state, dtype, keep=list(keep), **options)
    for slot, array in enumerate(arrays):
        state[SLOTS + slot] = array.ctypes.data
    executable.program.run()
    return executable


def test_gathers_any_dtype_and_any_stride():
    x, w = Tensor((None, 3)), Parameter(np.eye(3, dtype="f"), "w")
    out = ops.matmul(x, w)
    for source in (
        np.arange(24, dtype=np.uint8).reshape(8, 3),
        np.arange(48.0).reshape(8, 6)[:, :3],
        np.arange(24, dtype=np.int64).reshape(8, 3)[::2],
    ):
        rows = len(source)
        result = np.empty((rows, 3), "f")
        run(
            [effects.feed(x, 0, source.dtype.name, source.strides[0]), effects.emit(out, 1)], [source, result], rows
        )  # fmt: skip
        np.testing.assert_array_equal(result, source)


def test_only_a_scalar_is_differentiated():
    w = Parameter(np.ones((2, 2), "f"), "w")
    with pytest.raises(ValueError, match=r"differentiate: expected a scalar, got <Tensor .*: take the mean or the sum"):
        differentiate(ops.square(w), [w])


def test_what_a_scalar_does_not_depend_on_has_no_gradient():
    w, v = (Parameter(np.ones((2, 2), "f"), name) for name in "wv")
    found = differentiate(ops.sum(ops.square(w)), [w, v])
    assert w in found and v not in found


def test_variables_change_at_the_end_of_a_step():
    """Who reads them in the step sees what they were at its beginning."""
    state = Variable(np.array([1.0, 2.0], "f"), "state")
    double, sums = ops.multiply(state, 2.0), Variable(np.zeros(2), "sums", "accumulator")
    executable = run([effects.assign(state, double), effects.accumulate(sums, double)], [], 1, keep=[double])
    np.testing.assert_array_equal(state.value, [2, 4])
    np.testing.assert_array_equal(executable.value(double), [2, 4])
    np.testing.assert_array_equal(sums.value, [6, 2])
    executable.program.run()
    np.testing.assert_array_equal(state.value, [4, 8])
    np.testing.assert_array_equal(sums.value, [18, 4])


def test_two_variables_change_places():
    a, b = (Variable(np.full(3, number, "f"), name) for name, number in (("a", 1), ("b", 2)))
    run([effects.assign(a, b), effects.assign(b, a)], [], 1)
    np.testing.assert_array_equal(a.value, [2] * 3)
    np.testing.assert_array_equal(b.value, [1] * 3)


def test_effects_read_variables_before_they_change():
    """A variable turned round in its own memory, and one that is summed and changed."""
    state, sums = Variable(np.arange(4, dtype="f"), "state"), Variable(np.zeros(2), "sums", "accumulator")
    run([effects.assign(state, ops.flip(state, 0)), effects.accumulate(sums, state)], [], 1)
    np.testing.assert_array_equal(state.value, [3, 2, 1, 0])
    np.testing.assert_array_equal(sums.value, [6, 4])


def test_a_product_with_a_variable_that_changes_is_of_each_step():
    """What does not change is packed once a run, and this is not."""
    x, state = Tensor((None, 300)), Variable(np.ones((300, 900), "f"), "state")
    y = ops.matmul(x, state)
    source, total = np.ones((400, 300), "f"), Variable(np.zeros(2), "total", "accumulator")
    given = [effects.feed(x, 0, "float32", source.strides[0]), effects.accumulate(total, ops.mean(y, keepdims=True))]
    twice = effects.assign(state, ops.multiply(state, 2.0))
    nn_state = nncore.new_state(200)
    executable = compile_step([*given, twice], 200, nn_state)
    nn_state[SLOTS] = source.ctypes.data
    executable.program.run(2)
    np.testing.assert_allclose(total.value, [300 + 600, 2])


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda v: effects.assign(Tensor((3,)), v), TypeError, "assign: expected a variable, got"),
        (lambda v: effects.assign(v, Tensor((2,))), ValueError, r"expected a value of shape \(3,\) for v, got \(2,\)"),
        (lambda v: effects.accumulate(v, v), ValueError, r"expected a variable of shape \(2,\) and dtype float64"),
    ],
)
def test_effects_that_do_not_fit(make, error, text):
    with pytest.raises(error, match=text):
        make(Variable(np.zeros(3, "f"), "v"))


def _step(without=()):
    """The weights, and the loss, after three steps of a network with most kinds of layers."""
    nn.set_seed(1)
    layers = [
        nn.Conv2D(4, 3, padding="same"), nn.BatchNormalization(), nn.Activation("relu"), nn.MaxPooling2D(2),
        nn.Flatten(), nn.Dense(12, activation="tanh"), nn.LayerNormalization(), nn.Dense(5),
    ]  # fmt: skip
    model = nn.Sequential([nn.Input((8, 8, 3)), *layers])
    model.compile(nn.SGD(0.1, momentum=0.9), nn.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    compile_one = model.engine._compile
    model.engine._compile = lambda *arguments, **options: compile_one(*arguments, without=without, **options)
    x = np.random.default_rng(2).standard_normal((32, 8, 8, 3)).astype("f")
    logs = [model.train_on_batch(x, Y[:32], return_dict=True) for _ in range(3)]
    return model.get_weights(), [tuple(log.values()) for log in logs], len(_records(model))


@pytest.mark.parametrize("switch", SWITCHES)
def test_passes_can_be_left_out(switch):
    weights, logs, count = _step()
    other, others, more = _step([switch])
    np.testing.assert_allclose(others, logs, rtol=1e-5)
    for a, b in zip(weights, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    if switch in ("fuse", "share_losses"):
        assert more > count


def _kernels(executable):
    """(kernel, kinds of its steps) of a compiled step."""
    return [(call.name, [spec.kind for spec, _ in call.steps]) for call in executable.calls]


_A, _B, _R, _C = (RNG.standard_normal(shape).astype("f") for shape in ((24, 40), (24, 40), (40,), (24, 1)))
# What is computed of the parameters a and b (24, 40), r (40,) and c (24, 1); the steps of the first reduction that has
# any; how many reductions have none.
_REDUCED = {
    "everything": (lambda a, b, r, c: ops.sum(ops.abs(a - b)), ["sub", "abs"], 0),
    "rows": (lambda a, b, r, c: ops.mean(ops.abs(a * c + r), -1), ["mul", "add", "abs"], 0),
    "columns": (lambda a, b, r, c: ops.max(ops.tanh(a) * c, 0), ["tanh", "mul"], 0),
    "branches": (
        lambda a, b, r, c: ops.min((a - b) * (a + b), 1), ["load", "sub", "save", "load", "add", "mul"], 0,
    ),
    "variance": (lambda a, b, r, c: ops.var(a, 0), ["sub", "square"], 1),
    "norm": (lambda a, b, r, c: ops.norm(a, axis=1), ["square"], 0),
    "behind a reshape": (lambda a, b, r, c: ops.sum(ops.reshape(ops.exp(a), (12, 80)), 0), ["exponential"], 0),
    "rows of other steps": (lambda a, b, r, c: ops.sum(ops.reshape(a * r, (12, 80)), 0), [], 1),
    "in twos": (lambda a, b, r, c: ops.sum(ops.reshape(ops.exp(a), (12, 2, 40)), (0, 1)), ["exponential"], 0),
    "axes apart": (lambda a, b, r, c: ops.prod(ops.reshape(1.0 + 0.01 * a, (4, 6, 40)), (0, 2)), [], 1),
    "logsumexp": (lambda a, b, r, c: ops.logsumexp(a + b, -1), [], 1),
}  # fmt: skip


@pytest.mark.parametrize("name", _REDUCED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reductions_do_the_steps_of_the_chain_before(name, dtype, teams):
    """Element-wise nodes become part of the reduction of their result, where its order of elements allows."""
    build, steps, bare = _REDUCED[name]
    result = build(*(Parameter(x.astype(dtype), n) for n, x in zip("abrc", (_A, _B, _R, _C), strict=True)))
    fused, apart = (
        compile_step([], 24, nncore.new_state(), dtype, keep=[result], without=without)
        for without in ([], ["fuse_reductions"])
    )
    found = [kinds for kernel, kinds in _kernels(fused) if kernel == "reduce"]
    assert [kinds for kinds in found if kinds][:1] == ([steps] if steps else [])
    assert found.count([]) == bare
    assert not any(kinds for kernel, kinds in _kernels(apart) if kernel == "reduce")
    assert len(fused.calls) + (1 if steps else 0) == len(apart.calls)
    fused.run()
    apart.run()
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(fused.value(result), apart.value(result), rtol=tolerance, atol=tolerance)


def test_what_is_reduced_and_read_elsewhere_stays_in_memory():
    a, b = Parameter(_A, "a"), Parameter(_B, "b")
    z = ops.multiply(a, b)
    total, other, square = ops.sum(z, 0), ops.max(z, 1), ops.matmul(ops.transpose(z), z)
    executable = compile_step([], 24, nncore.new_state(), keep=[total, other, square])
    assert [kinds for kernel, kinds in _kernels(executable) if kernel == "reduce"] == [["mul"], []]
    assert "chain" not in [kernel for kernel, _ in _kernels(executable)]
    executable.run()
    np.testing.assert_allclose(executable.value(total), (_A * _B).sum(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(executable.value(other), (_A * _B).max(1))
    np.testing.assert_allclose(executable.value(square), (_A * _B).T @ (_A * _B), rtol=1e-4, atol=1e-4)


def test_a_reduction_of_what_a_chain_stores_on_the_way_is_apart():
    """The sum of the upstream of a product, whose chain goes on to the product's gradient."""
    a, b = Parameter(_A, "a"), Parameter(_B, "b")
    upstream = ops.exp(a)
    onward, total = ops.max(upstream * b, 0), ops.sum(upstream, 0)
    executable = compile_step([], 24, nncore.new_state(), keep=[onward, total])
    assert _kernels(executable) == [("reduce", ["exponential", "store", "mul"]), ("reduce", [])]
    executable.run()
    np.testing.assert_allclose(executable.value(total), np.exp(_A).sum(0), rtol=1e-5)
    np.testing.assert_allclose(executable.value(onward), (np.exp(_A) * _B).max(0), rtol=1e-5)


_W = (RNG.standard_normal((256, 256)) / 16).astype("f")
# What is computed of the parameters x (256, 256), w (256, 256) and r (256,), and what its product sums.
_SUMMED = {
    "columns": (lambda x, w, r: ops.sum(ops.relu(x @ w + r), 0), ("add", "relu", "sums")),
    "their mean": (lambda x, w, r: ops.mean(x @ w, 0, keepdims=True), ("sums",)),
    "pixels": (lambda x, w, r: ops.sum(ops.reshape(x, (4, 8, 8, 256)) @ w, (0, 1, 2)), ("sums",)),
    "rows": (lambda x, w, r: ops.sum(x @ w, 1), ()),
    "half of the columns": (lambda x, w, r: ops.sum((x @ w)[:, :128], 0), ()),
    "other columns": (lambda x, w, r: ops.sum(ops.reshape(x @ w, (512, 128)), 0), ()),
    "few rows": (lambda x, w, r: ops.sum(x[:100] @ w, 0), ()),
    "little work": (lambda x, w, r: ops.sum(x[:, :8] @ w[:8], 0), ()),
}  # fmt: skip


@pytest.mark.parametrize("name", _SUMMED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_sum_the_columns_of_their_result(name, dtype):
    """Where they are large, and something asks for the sums of all of their result."""
    build, fused = _SUMMED[name]
    x, w, r = (Parameter(a.astype(dtype), n) for n, a in (("x", _W), ("w", _W[::-1]), ("r", _W[3])))
    result = build(x, w, r)
    found, apart = (
        compile_step([], 256, nncore.new_state(), dtype, keep=[result], without=without)
        for without in ([], ["gather_sums"])
    )
    assert [line.fused for line in lines(found) if line.kernel == "gemm"] == [fused]
    assert not any("sums" in line.fused for line in lines(apart))
    found.run()
    apart.run()
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found.value(result), apart.value(result), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("count", [1, 3])
def test_products_sum_what_batch_normalization_begins_with(count, teams):
    """Dense layers and windows of one pixel, forward and backward."""

    def trained(count, *without):
        nncore.set_num_threads(count)
        nn.set_seed(1)
        layers = [
            nn.Conv2D(24, 1), nn.BatchNormalization(), nn.Activation("relu"), nn.Conv2D(20, 1), nn.Flatten(),
            nn.Dense(70), nn.BatchNormalization(), nn.Activation("relu"), nn.Dense(33),
        ]  # fmt: skip
        model = nn.Sequential([nn.Input((3, 3, 17)), *layers])
        model.compile(nn.SGD(0.1), "mse")
        step = nn.explain(model, "train", 200, without=without)
        sums = [line.fused[-1] for line in step if line.kernel == "gemm" and line.fused]
        compile_one = model.engine._compile
        model.engine._compile = lambda *arguments, **options: compile_one(*arguments, without=without, **options)
        x = 5 + np.random.default_rng(2).standard_normal((200, 3, 3, 17)).astype("f")
        losses = [model.train_on_batch(x, x[:, 0, :2].reshape(200, -1)[:, :33]) for _ in range(3)]
        return losses, model.get_weights(), sums

    losses, weights, sums = trained(count)
    others, apart, none = trained(count, "gather_sums")
    assert (sums.count("moments"), sums.count("slopes")) == (2, 2)
    assert not {"moments", "slopes"} & set(none)
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    for one, two in zip(weights, apart, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    for one, two in zip(weights, trained(1)[1], strict=True):
        np.testing.assert_array_equal(one, two)


def _absolute(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


def _huber(y_true, y_pred):
    error = ops.abs(y_true - y_pred)
    return ops.mean(ops.where(error <= 1.0, 0.5 * ops.square(error), error - 0.5), axis=-1)


@pytest.mark.parametrize("loss, last", [(_absolute, "abs"), (_huber, "select")])
def test_losses_and_penalties_are_one_pass(loss, last):
    def trained(*without):
        nn.set_seed(1)
        layers = [nn.Input((40,)), nn.Dense(12, kernel_regularizer=nn.regularizers.L1L2(0.01, 0.02))]
        model = nn.Sequential(layers)
        model.compile("sgd", loss, metrics=[_absolute])
        ops_of_step = nn.explain(model, "train", 96, without=without)
        compile_one = model.engine._compile
        model.engine._compile = lambda *arguments, **options: compile_one(*arguments, without=without, **options)
        weights = np.linspace(0, 2, 96)
        history = model.fit(X, X[:, :12], sample_weight=weights, batch_size=96, epochs=2, verbose=0)
        return ops_of_step, history.history, model.get_weights()

    (fewer, history, weights), (others, same, other) = trained(), trained("fuse_reductions")
    fused = [line.fused[-1] for line in fewer if line.kernel == "reduce" and line.fused]
    assert {"abs", "square", last} <= set(fused)
    assert not any(line.fused for line in others if line.kernel == "reduce")
    assert len(fewer) < len(others)
    for name, values in history.items():
        np.testing.assert_allclose(values, same[name], rtol=1e-5)
    for one, two in zip(weights, other, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_unknown_passes_are_refused():
    with pytest.raises(ValueError, match=r"compile_step: unknown passes \['fusing'\]; there are share_losses, fuse"):
        compile_step([], 1, nncore.new_state(), without=["fusing"])


def test_specialise_leaves_the_graph_as_it_was():
    x = Tensor((None, 3))
    y = ops.dropout(x, 0.5)
    tensors, _ = specialise([y], training=False)
    assert tensors[y] is x and y.node.inputs == (x,)
    assert specialise([y], training=True)[0][y] is y


def test_row_steps_do_not_fuse_across_a_reshape(rng):
    """Steps by column work on the rows of the kernel, not on those that a reshape makes of them."""

    def scaled(norm, x):
        gamma, beta, mean, variance = norm.get_weights()
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def with_statistics(features):
        norm = nn.BatchNormalization()
        norm.build((None, features))
        norm.built = True
        for parameter, low in zip(norm.weights, (0.5, -1, -1, 0.5), strict=True):
            parameter.assign(rng.uniform(low, 2, features))
        return norm

    x = rng.normal(size=(6, 5)).astype("float32")
    dense, norm = nn.Dense(12), with_statistics(4)
    net = nn.Sequential([nn.Input((5,)), dense, nn.Reshape((3, 4)), nn.Activation("relu"), norm])
    kernel, bias = dense.get_weights()
    expected = scaled(norm, np.maximum(x @ kernel + bias, 0).reshape(-1, 3, 4))
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-4, atol=1e-5)

    first, last = with_statistics(4), with_statistics(12)
    net = nn.Sequential([nn.Input((3, 4)), first, nn.Flatten(), nn.Activation("relu"), last])
    x = rng.normal(size=(6, 3, 4)).astype("float32")
    expected = scaled(last, np.maximum(scaled(first, x).reshape(6, 12), 0))
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-4, atol=1e-5)


def test_inference_packs_weights_once_a_run(rng):
    """Many steps in one call read the same packed weights; a later call sees what has changed since."""
    net = nn.Sequential([nn.Input((400,)), nn.Dense(512), nn.BatchNormalization(), nn.Dense(400, activation="relu")])
    x = rng.normal(size=(1000, 400)).astype("float32")
    net.predict(x, batch_size=250)
    records = next(ready.program.records for key, ready in net.engine._programs.items() if key[0] == "predict")
    once = [op.name for op in records if op.once]
    assert once.count("pack_b") == 2 and once.count("batch_norm_fold") == 1
    for _ in range(2):
        first, norm, last = net.layers[-3:]
        kernel, bias = first.get_weights()
        gamma, beta, mean, variance = norm.get_weights()
        hidden = (x @ kernel + bias - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        expected = np.maximum(hidden @ last.get_weights()[0] + last.get_weights()[1], 0)
        np.testing.assert_allclose(net.predict(x, batch_size=250), expected, rtol=1e-3, atol=1e-3)
        net.set_weights([rng.uniform(0.01, 0.1, w.shape) for w in net.get_weights()])


def test_convolutions_sum_what_batch_normalization_needs():
    def layers(filters, name, size):
        return [
            nn.Conv2D(filters, size, padding="same", name=f"conv_{name}"),
            nn.BatchNormalization(name=name),
            nn.Activation("relu"),
        ]

    x = RNG.standard_normal((32, 8, 8, 3)).astype("f")
    model = nn.Sequential(
        [nn.Input((8, 8, 3)), *layers(4, "a", 3), *layers(5, "b", 3), *layers(6, "c", 1), nn.Flatten(), nn.Dense(5)]
    )
    model.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, Y[:32], batch_size=32, epochs=1, verbose=0)
    names = [op.name for op in _records(model)]
    assert names.count("batch_norm_scale") + names.count("batch_norm") == 3
    assert names.count("moments") == 0
    assert names.count("gradient_moments") == 1  # at the end: the others come with a gradient


def test_slower_instruction_sets_are_given_more_threads(monkeypatch):
    """What a product costs is asked of nncore."""
    from nncore import costs

    threads = {}
    for name, speed in (("fast", 1e6), ("slow", 1e-2)):
        monkeypatch.setattr(costs, "COSTS", dict.fromkeys(costs.COSTS, costs.Costs(speed, speed)))
        model = nn.Sequential([nn.Input((40,)), nn.Dense(64)])
        model.compile("sgd", "mse")
        model.fit(X, X[:, :1].repeat(64, 1), batch_size=32, verbose=0)
        threads[name] = max(record.threads for record in _records(model) if record.name == "gemm")
    assert threads["fast"] == 1 < threads["slow"]


@pytest.mark.parametrize("dtype, other", [("float32", "float64"), ("float64", "float32")])
def test_a_variable_of_another_dtype_is_refused(dtype, other):
    """Its memory would be read as numbers that it does not hold."""
    scalar = ops.sum(Parameter(np.ones(3, other), "w"))
    with pytest.raises(TypeError, match=f"variable w: expected dtype {dtype} in this step, got {other}"):
        compile_step([], 1, nncore.new_state(), dtype, keep=[scalar])


@pytest.mark.parametrize("in_pairs", [False, True])
def test_chains_are_joined_as_long_as_there_are_temporary_tiles(in_pairs):
    """A sum of more terms than a chain has tiles for: they are all used, and none beyond."""
    x = nn.Input((64,))
    terms = [ops.sin(x * (i + 1.0)) for i in range(20)]
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False) if in_pairs else [terms[:2]]
        added = [a + b for a, b in pairs]
        terms = added + terms[2 * len(added) :]
    model = nn.Model(x, terms[0])
    data = RNG.standard_normal((8, 64)).astype("f")
    expected = sum(np.sin(data * (i + 1)) for i in range(20))
    np.testing.assert_allclose(model.predict(data), expected, rtol=1e-5, atol=1e-5)
    saves = [line.split().count("save") for line in str(nn.explain(model, "predict", 8)).splitlines()]
    assert max(saves) == TEMPORARIES
