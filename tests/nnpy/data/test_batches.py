"""Batches of files that are mapped, of sparse matrices, of Keras' sequences; splits into training and validation."""

import numpy as np
import pytest

import nnpy as nn

X, Y = np.random.default_rng(0).normal(size=(50, 6)), np.random.default_rng(1).normal(size=(50, 2))
OPTIONS = {"epochs": 3, "verbose": 0}


def network():
    nn.set_seed(1)
    net = nn.Sequential([nn.Input((6,)), nn.Dense(8, activation="relu"), nn.Dropout(0.2), nn.Dense(2)])
    net.compile("adam", "mse")
    return net


def same(one, other):
    assert one.history.history == other.history.history
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


@pytest.fixture
def mapped(tmp_path):
    for name, array in (("x", X), ("y", Y)):
        np.save(tmp_path / f"{name}.npy", array)
    return [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy"]


@pytest.mark.parametrize("wrap", [lambda batches: batches, nn.data.prefetch])
@pytest.mark.parametrize("shuffle", [True, False])
def test_mapped_files_train_as_arrays_do(mapped, wrap, shuffle):
    whole, other = network(), network()
    whole.fit(X, Y, batch_size=16, shuffle=shuffle, **OPTIONS)
    other.fit(wrap(nn.data.Batches(*mapped, batch_size=16)), shuffle=shuffle, **OPTIONS)
    same(whole, other)
    np.testing.assert_array_equal(whole.predict(X), other.predict(nn.data.Batches(mapped[0], batch_size=7)))
    assert whole.evaluate(X, Y, verbose=0) == pytest.approx(
        other.evaluate(nn.data.Batches(*mapped, batch_size=32), verbose=0), rel=1e-12
    )


def test_weights_and_remainders():
    whole, other, weights = network(), network(), np.linspace(0, 2, 50)
    whole.fit(X, Y, batch_size=16, sample_weight=weights, **OPTIONS)
    other.fit(nn.data.Batches(X, Y, 16, weights), **OPTIONS)
    same(whole, other)
    batches = nn.data.Batches(X, Y, 16, drop_remainder=True)
    assert len(batches) == 3 and [len(x) for x, _ in batches] == [16] * 3
    assert len(nn.data.Batches(X, Y, 16)) == 4 and len(list(nn.data.Batches(X, Y, 16))) == 4


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_array"])
def test_sparse_matrices_are_made_dense_a_batch_at_a_time(kind):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(np.abs(X) > 1, X, 0)
    matrix = getattr(sparse, kind)(dense)
    whole, other = network(), network()
    whole.fit(dense, Y, batch_size=16, **OPTIONS)
    other.fit(nn.data.Batches(matrix, Y, batch_size=16), **OPTIONS)
    same(whole, other)


def test_what_batches_refuse():
    for call, error, text in (
        (lambda: nn.data.Batches(X, Y[:9]), ValueError, "y: expected as many samples as x, 50, got 9"),
        (lambda: nn.data.Batches(X[:0]), ValueError, "x: expected at least one sample"),
        (lambda: nn.data.Batches(X, batch_size=0), ValueError, "Batches: expected batch_size"),
        (lambda: nn.data.Batches(X, sample_weight=np.ones(50)), ValueError, "expected y beside sample_weight"),
        (lambda: nn.data.Batches("x.npy"), TypeError, "x: expected an array"),
    ):
        with pytest.raises(error, match=text):
            call()


class Sequence:
    """As Keras' PyDataset."""

    def __init__(self):
        self.calls = []

    def __len__(self):
        return 5

    def __getitem__(self, number):
        if not 0 <= number < 5:
            raise IndexError(number)
        self.calls.append(number)
        return X[number * 10 : number * 10 + 10], Y[number * 10 : number * 10 + 10]

    def on_epoch_begin(self):
        self.calls.append("begin")

    def on_epoch_end(self):
        self.calls.append("end")


class Bare:
    def __len__(self):
        return 5

    def __getitem__(self, number):
        return X[number * 10 : number * 10 + 10], Y[number * 10 : number * 10 + 10]


def test_sequences_of_batches():
    data, net = Sequence(), network()
    net.fit(data, **OPTIONS)
    passes = [data.calls[start : start + 7] for start in range(0, 21, 7)]
    assert all(p[0] == "begin" and p[-1] == "end" and sorted(p[1:-1]) == [0, 1, 2, 3, 4] for p in passes)
    assert len({tuple(p) for p in passes}) == 3  # each in an order of its own
    other = network()
    other.fit(Bare(), **OPTIONS)
    same(net, other)
    data.calls.clear()
    network().fit(data, shuffle=False, **OPTIONS)
    assert data.calls == ["begin", 0, 1, 2, 3, 4, "end"] * 3
    data.calls.clear()
    assert net.evaluate(data, verbose=0) == pytest.approx(net.evaluate(X, Y, batch_size=10, verbose=0))
    np.testing.assert_array_equal(net.predict(data), net.predict(X, batch_size=10))
    assert data.calls == ["begin", 0, 1, 2, 3, 4, "end"] * 2
    net.fit(nn.data.prefetch(Bare()), validation_data=Bare(), **OPTIONS)
    assert len(net.history.history["val_loss"]) == 3 and net.history.params["steps"] == 5


def test_a_sequence_goes_on_in_the_midst_of_a_pass(tmp_path):
    def fail(batch, logs):
        if batch == 2:
            raise RuntimeError

    whole, again = network(), network()
    whole.fit(Bare(), steps_per_epoch=4, **OPTIONS)
    backup = nn.BackupAndRestore(tmp_path, save_freq=1)
    with pytest.raises(RuntimeError):
        network().fit(
            Bare(), steps_per_epoch=4, callbacks=[backup, nn.LambdaCallback(on_train_batch_end=fail)], **OPTIONS
        )
    again.fit(Bare(), steps_per_epoch=4, callbacks=backup, **OPTIONS)
    same(whole, again)


# splits


def parts(**options):
    return nn.data.split(np.arange(100), seed=3, **options)


def test_a_random_split_takes_every_sample_once():
    x, x_val, y, y_val = nn.data.split(X, Y, fraction=0.3)
    assert len(x_val) == 15 and len(x) == 35
    for part, whole in ((np.concatenate([x, x_val]), X), (np.concatenate([y, y_val]), Y)):
        np.testing.assert_array_equal(np.sort(part, axis=0), np.sort(whole, axis=0))
    assert all((X[np.flatnonzero((row == X).all(1))[0]] == row).all() for row in x_val)
    assert not np.array_equal(nn.data.split(X, seed=1)[1], nn.data.split(X, seed=2)[1])
    np.testing.assert_array_equal(nn.data.split(X, seed=1)[1], nn.data.split(X, seed=1)[1])


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_a_stratified_split_keeps_the_shares(fraction):
    labels = np.repeat(["a", "b", "c"], [70, 27, 3])
    train, held = parts(stratify=labels, fraction=fraction)
    assert len(held) == round(100 * fraction) and len(train) + len(held) == 100
    for label, count in (("a", 70), ("b", 27), ("c", 3)):
        assert abs((labels[held] == label).sum() - fraction * count) <= 1 and (labels[train] == label).any()


def test_groups_stay_together():
    groups = np.arange(100) % 13
    train, held = parts(groups=groups)
    assert not set(groups[train]) & set(groups[held]) and 12 <= len(held) <= 28


def test_the_latest_are_held_out_in_their_order():
    time = np.random.default_rng(0).permutation(100).astype("datetime64[D]")
    train, held = parts(time=time)
    assert len(held) == 20 and time[held].min() > time[train].max()
    assert (np.diff(time[train]) > np.timedelta64(0)).all() and (np.diff(time[held]) > np.timedelta64(0)).all()
    coarse = np.arange(100) // 30
    train, held = parts(time=coarse)
    assert set(coarse[train]) == {0, 1, 2} and set(coarse[held]) == {3}


def test_what_splits_refuse():
    for options, error, text in (
        ({"fraction": 1.0}, ValueError, "split: expected fraction"),
        ({"stratify": np.zeros(100), "time": np.arange(100)}, ValueError, "at most one of stratify, groups and time"),
        ({"stratify": np.zeros(99)}, ValueError, r"expected stratify of shape \(100,\), got \(99,\)"),
        ({"groups": np.zeros(100)}, ValueError, "expected samples for both parts"),
        ({"time": ["a"] * 100}, TypeError, "expected time to be numbers or dates"),
        ({"fraction": 0.001}, ValueError, "expected samples for both parts, got 0 of 100"),
    ):
        with pytest.raises(error, match=text):
            parts(**options)
    with pytest.raises(TypeError, match="split: expected at least one array"):
        nn.data.split()
