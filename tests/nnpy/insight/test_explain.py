"""explain: the Program of a step, op by op."""

import numpy as np
import pytest

import nnpy as nn

X = np.zeros((64, 20), np.float32)
Y = np.arange(64) % 5


def network():
    dense, last = nn.Dense(40, "relu", name="first"), nn.Dense(5, name="last")
    model = nn.Sequential([nn.Input((20,)), dense, nn.Dropout(0.5), last])
    model.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def programs(model, mode):
    return [ready.program for key, ready in model.engine._programs.items() if key[0] == mode]


@pytest.mark.parametrize("mode", ["train", "test", "predict"])
def test_lines_are_the_ops_that_run(mode):
    model = network()
    lines = nn.explain(model, mode, batch_size=64)
    {"train": lambda: model.fit(X, Y, batch_size=64, verbose=0), "test": lambda: model.evaluate(X, Y, 64, verbose=0),
     "predict": lambda: model.predict(X, batch_size=64)}[mode]()  # fmt: skip
    (program,) = programs(model, mode)
    assert [line.kernel for line in lines] == [op.name for op in program.records]
    assert [line.number for line in lines] == list(range(len(lines)))


def test_what_a_line_says():
    model = network()
    lines = nn.explain(model, "predict", batch_size=32)
    first, last = (line for line in lines if line.kernel.startswith("gemm"))
    assert first.kernel == "gemm"
    assert (first.layer, first.operation, last.layer) == ("first", "matmul", "last")
    assert first.fused == ("add", "relu") and last.fused == ("add",)
    assert first.flops == 2 * 32 * 20 * 40 and last.flops == 2 * 32 * 40 * 5
    assert first.bytes >= 4 * (32 * 20 + 20 * 40 + 32 * 40)
    assert "m=32" in first.sizes and "n=40" in first.sizes and "k=20" in first.sizes
    assert first.threads == last.threads == 1 and not any(line.barrier for line in lines)  # so little work
    many = nn.explain(model, "predict", batch_size=1 << 14)
    assert many[0].threads > 1 and not many[0].barrier and any(line.barrier for line in many)
    assert lines.arena_bytes >= 4 * 32 * 40
    assert isinstance(lines[1:], list) and len(lines[1:]) == len(lines) - 1


def test_the_table():
    text = str(nn.explain(network(), "train", batch_size=32))
    head, columns, *rows, end = text.splitlines()
    assert head.endswith("train, batches of 32") and head.startswith("Sequential")
    assert columns.split() == ["kernel", "layer", "fused", "sizes", "MB", "MFLOP", "threads", "barrier"]
    assert end.startswith(f"{len(rows)} ops, ") and "arena" in end
    assert repr(nn.explain(network(), "train", batch_size=32)).splitlines()[1] == columns


def test_explaining_changes_nothing():
    model, other = network(), network()
    other.set_weights(model.get_weights())
    nn.explain(model, "train")
    assert not programs(model, "train")
    for net in (model, other):
        net.engine.train_state[:] = model.engine.train_state  # the same random numbers
        net.fit(X + 1, Y, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_fusion_there_are_more_ops():
    model = network()
    plain, fused = (nn.explain(model, "train", without=some) for some in (["fuse"], []))
    assert len(plain) > len(fused)
    assert all(not line.fused for line in plain if line.kernel == "gemm" and line.operation == "matmul")


def test_images_and_several_inputs():
    image, row = nn.Input((8, 8, 3), name="image"), nn.Input((4,), name="row")
    h = nn.Flatten()(nn.MaxPooling2D()(nn.Conv2D(4, 3, activation="relu", name="conv")(image)))
    model = nn.Model([image, row], nn.Dense(2)(nn.Concatenate()([h, row])))
    model.compile("adam", "mse")
    for mode in ("train", "test", "predict"):
        lines = nn.explain(model, mode, batch_size=16)
        assert [line.kernel for line in lines].count("gather") == (2 if mode == "predict" else 3)
        assert any(line.layer == "conv" and line.flops for line in lines)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.explain(network(), "fit"), ValueError, "mode to be one of train, test, predict, got 'fit'"),
        (lambda: nn.explain(network(), without=["fuze"]), ValueError, r"unknown passes \['fuze'\]; there are share_"),
        (lambda: nn.explain(nn.Sequential([nn.Dense(3)])), ValueError, "not built"),
        (lambda: nn.explain(nn.Sequential([nn.Input((3,)), nn.Dense(3)]), "train"), RuntimeError, "compile"),
        (lambda: nn.explain(network(), batch_size=0), ValueError, "batch_size"),
        (lambda: nn.explain(network(), batch_size="many"), TypeError, "batch_size"),
    ],
)  # fmt: skip
def test_refuses(make, error, text):
    with pytest.raises(error, match=text):
        make()


def trained():
    nn.set_seed(0)
    net = nn.Sequential(
        [nn.Input((20,)), nn.Dense(32, activation="relu"), nn.BatchNormalization(), nn.Dropout(0.2), nn.Dense(3)]
    )
    net.compile("adam", nn.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    x, y = np.random.default_rng(0).standard_normal((64, 20)).astype("f"), np.arange(64) % 3
    net.fit(x, y, verbose=0)
    return net, x, y


def test_profile_tells_what_each_op_takes_and_trains_nothing():
    net, x, y = trained()
    before, slots = net.get_weights(), {k: v.copy() for k, v in net.engine.optimizer_slots().items()}
    place = (net.training.draw, net.training.update, net.training.epoch)
    lines = net.profile(x, y, batch_size=32, steps=3)
    assert [line.kernel for line in lines] == [line.kernel for line in nn.explain(net, "train", 32)]
    assert all(line.microseconds > 0 for line in lines) and any("GFLOP/s" in line.rate for line in lines)
    assert any("GB/s" in line.rate for line in lines) and "us" in str(lines)
    assert (net.training.draw, net.training.update, net.training.epoch) == place
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, flat in net.engine.optimizer_slots().items():
        np.testing.assert_array_equal(flat, slots[name])
    assert "predict, batches of 64" in net.profile(x, steps=2).title
    with pytest.raises(ValueError, match="profile: expected at least 65 samples, a batch, got 64"):
        net.profile(x, y, batch_size=65)


def test_profile_leaves_the_next_epoch_as_it_would_have_been():
    (net, x, y), (same, _, _) = trained(), trained()
    net.profile(x, y)
    for model in (net, same):
        model.fit(x, y, verbose=0)
    for a, b in zip(net.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_summary_tells_the_memory_that_is_planned():
    net, _, _ = trained()
    lines = []
    net.summary(print_fn=lines.append, memory=True, batch_size=256)
    last = lines[0].splitlines()[-1]
    assert last.startswith("Memory for batches of 256: parameters ") and "optimizer" in last and "training" in last
    small, large = (nn.explain(net, "train", batch).arena_bytes for batch in (32, 256))
    assert large > 4 * small


def test_programs_of_a_model_share_one_arena():
    net, x, y = trained()
    net.evaluate(x, y, verbose=0)
    net.predict(x)
    arenas = set()
    for ready in net.engine._programs.values():
        (gemm, *_) = [op for op in ready.program.records if op.name.startswith("gemm")]
        arenas |= {id(owner) for owner in gemm.keep if owner is net.engine._arena}
    assert len(net.engine._programs) >= 2 and arenas == {id(net.engine._arena)}
    before = net.engine._arena
    expected = net.predict(x)
    net.predict(np.tile(x, (100, 1)), batch_size=6400)  # needs more: a larger one takes its place
    assert net.engine._arena is not before
    np.testing.assert_array_equal(net.predict(x), expected)
