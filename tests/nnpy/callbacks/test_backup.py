"""BackupAndRestore and fit(resume=): a run that was interrupted goes on, and nothing else is taken for it."""

import os

import numpy as np
import pytest

import nnpy as nn
from nnpy.callbacks import BackupAndRestore

X, Y = np.random.default_rng(0).normal(size=(100, 6)), np.random.default_rng(1).normal(size=(100, 2))
FIT = {"batch_size": 16, "epochs": 4, "verbose": 0}


class Stop(Exception):
    pass


class StopAt(nn.Callback):
    """Ends the run as a crash would, after so many steps."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Stop


def network(units=8, optimizer=None, inputs=True):
    nn.set_seed(3)
    net = nn.Sequential(
        [*[nn.Input((6,))] * inputs, nn.Dense(units, activation="relu"), nn.BatchNormalization(), nn.Dropout(0.3)]
    )
    net.add(nn.Dense(2))
    net.compile(optimizer or nn.Adam(1e-2), "mse")
    return net


def rate(epoch, rate):
    return rate * 0.9


def same(one, other):
    assert one.history.history == other.history.history and one.history.epoch == other.history.epoch
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def interrupted(folder, step, callbacks=(), net=None, **options):
    net = net or network()
    with pytest.raises(Stop):
        net.fit(X, Y, callbacks=[*callbacks, BackupAndRestore(folder, **options), StopAt(step)], **FIT)
    return net


@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize("step", [1, 6, 7, 8, 20, 28])
@pytest.mark.parametrize("freq", [1, 3, "epoch"])
def test_a_new_process_goes_on(tmp_path, freq, step, inputs):
    whole = network()
    whole.fit(X, Y, callbacks=nn.LearningRateScheduler(rate), **FIT)
    interrupted(tmp_path / "a" / "b", step, [nn.LearningRateScheduler(rate)], save_freq=freq)
    again = network(inputs=inputs)
    backup = BackupAndRestore(tmp_path / "a" / "b", save_freq=freq)
    again.fit(X, Y, callbacks=[backup, nn.LearningRateScheduler(rate)], **FIT)
    same(whole, again)
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Adam(nn.schedules.CosineDecay(0.01, 28)),
        lambda: nn.SGD(lambda step: 0.1 / (1 + step), momentum=0.9),
        lambda: nn.Adam(0.01, gradient_accumulation_steps=3, use_ema=True, ema_momentum=0.9),
        lambda: nn.optimizers.Lookahead(nn.Adam(0.01)),
        lambda: nn.optimizers.ScheduleFreeAdamW(0.01),
    ],
)
@pytest.mark.parametrize("step", [8, 20])
def test_optimizers_go_on_with_all_that_they_know(tmp_path, make, step):
    whole, again = network(optimizer=make()), network(optimizer=make())
    whole.fit(X, Y, **FIT)
    interrupted(tmp_path, step, net=network(optimizer=make()), save_freq=1)
    assert list(tmp_path.iterdir())
    again.fit(X, Y, callbacks=BackupAndRestore(tmp_path), **FIT)
    same(whole, again)


def test_an_optimizer_inside_of_another_goes_on_with_the_rate_that_it_was_given(tmp_path):
    def made():
        return network(optimizer=nn.optimizers.Lookahead(nn.Adam(0.01)))

    whole, again = made(), made()
    whole.fit(X, Y, callbacks=nn.LearningRateScheduler(rate), **FIT)
    interrupted(tmp_path, 17, [nn.LearningRateScheduler(rate)], net=made(), save_freq=1)
    again.fit(X, Y, callbacks=[BackupAndRestore(tmp_path), nn.LearningRateScheduler(rate)], **FIT)
    same(whole, again)


def test_the_same_process_goes_on(tmp_path):
    whole = network()
    whole.fit(X, Y, callbacks=nn.LearningRateScheduler(rate), **FIT)
    net = interrupted(tmp_path, 13, [nn.LearningRateScheduler(rate)], save_freq=1)
    net.fit(X, Y, callbacks=[BackupAndRestore(tmp_path), nn.LearningRateScheduler(rate)], **FIT)
    same(whole, net)


def test_an_iterator_with_steps_goes_on(tmp_path):
    class Batches:
        def __iter__(self):
            return ((X[i : i + 20], Y[i : i + 20]) for i in range(0, 100, 20))

    def fit(net, *callbacks):
        net.fit(Batches(), steps_per_epoch=3, epochs=4, verbose=0, callbacks=list(callbacks))

    whole, again = network(), network()
    fit(whole)
    with pytest.raises(Stop):
        fit(network(), BackupAndRestore(tmp_path, save_freq=2), StopAt(8))
    fit(again, BackupAndRestore(tmp_path))
    same(whole, again)


def test_resume_reads_a_file_and_writes_none(tmp_path):
    whole, again = network(), network()
    whole.fit(X, Y, **FIT)
    interrupted(tmp_path, 12, save_freq=5)
    content = (tmp_path / "run.safetensors").read_bytes()
    again.fit(X, Y, resume=tmp_path / "run.safetensors", **FIT)
    same(whole, again)
    assert (tmp_path / "run.safetensors").read_bytes() == content
    third = network()
    third.fit(X, Y, resume=tmp_path / "run.safetensors", callbacks=BackupAndRestore(tmp_path / "new"), **FIT)
    same(whole, third)


@pytest.mark.parametrize("stops", ["epoch", "batch"])
def test_a_run_that_had_stopped_is_over(tmp_path, stops):
    class Ending(nn.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training |= stops == "epoch" and epoch == 1

        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training |= stops == "batch" and self.model.training.draw == 9

    class Crash(nn.Callback):
        comes_last = True

        def on_train_end(self, logs=None):
            raise Stop

    whole, again = network(), network()
    whole.fit(X, Y, callbacks=Ending(), **FIT)
    with pytest.raises(Stop):
        backup = BackupAndRestore(tmp_path, save_freq="epoch" if stops == "epoch" else 1)
        network().fit(X, Y, callbacks=[Ending(), Crash(), backup], **FIT)
    again.fit(X, Y, callbacks=BackupAndRestore(tmp_path), **FIT)
    same(whole, again)


def test_weights_frozen_meanwhile_stay_so(tmp_path):
    class Freezing(nn.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.layers[0].trainable = epoch < 1

    whole, again = network(), network()
    whole.fit(X, Y, callbacks=Freezing(), **FIT)
    interrupted(tmp_path, 16, [Freezing()], save_freq=1)
    again.fit(X, Y, callbacks=[Freezing(), BackupAndRestore(tmp_path)], **FIT)
    same(whole, again)


def test_what_the_optimizer_learned_of_weights_since_is_forgotten(tmp_path):
    """Of those that were frozen when the file was written."""
    whole, net = network(), network()
    for each in (whole, net):
        each.layers[0].trainable = False
    whole.fit(X, Y, **FIT)
    interrupted(tmp_path, 13, net=net, save_freq=1)
    net.layers[0].trainable = True
    net.fit(X, Y, batch_size=16, epochs=1, verbose=0)
    net.fit(X, Y, callbacks=BackupAndRestore(tmp_path), **FIT)
    same(whole, net)
    for each in (whole, net):
        each.layers[0].trainable = True
        each.fit(X, Y, **FIT)
    same(whole, net)


def test_files_that_are_kept(tmp_path):
    network().fit(X, Y, callbacks=BackupAndRestore(tmp_path, double_checkpoint=True, delete_checkpoint=False), **FIT)
    assert sorted(os.listdir(tmp_path)) == ["run-before.safetensors", "run.safetensors"]
    whole, again = network(), network()
    whole.fit(X, Y, **FIT)
    (tmp_path / "run.safetensors").unlink()  # as if the machine had failed between the two
    again.fit(X, Y, callbacks=BackupAndRestore(tmp_path, double_checkpoint=True), **FIT)
    same(whole, again)
    assert os.listdir(tmp_path) == []


def test_what_is_another_run_is_refused(tmp_path):
    interrupted(tmp_path, 10, save_freq=1)
    path = tmp_path / "run.safetensors"
    for net, options, match in (
        (network(9), {}, "expected dense/kernel of shape"),
        (network(optimizer=nn.SGD(0.1)), {}, "its optimizer had class=Adam, this one has SGD"),
        (network(optimizer=nn.Adam(1e-3)), {}, "its optimizer had learning_rate=0.01, this one has 0.001"),
        (network(), {"batch_size": 8}, "its fit had batch_size=16, this one has 8"),
        (network(), {"shuffle": False}, "its fit had shuffle=True, this one has False"),
        (network(), {"initial_epoch": 3}, "expected initial_epoch=1"),
    ):
        before = net.get_weights()
        with pytest.raises(ValueError, match=match):
            net.fit(X, Y, resume=path, **{**FIT, **options})
        if "initial_epoch" not in options:
            assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))
            assert net.training.update == 0
    network().save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds no run that fit could go on with"):
        network().fit(X, Y, resume=tmp_path / "model.safetensors", **FIT)
    with pytest.raises(FileNotFoundError, match=r"nothing.safetensors"):
        network().fit(X, Y, resume=tmp_path / "nothing.safetensors", **FIT)
    with pytest.raises(ValueError, match="holds weights alone"):
        nn.load_model(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"run.safetensors"):
        network().fit(X, Y, callbacks=BackupAndRestore(tmp_path), **FIT)


def test_a_state_that_json_cannot_hold(tmp_path):
    class Keeping(nn.Callback):
        def get_state(self):
            return {"seen": {1, 2}}

    with pytest.raises(TypeError, match=r"expected get_state\(\) of callbacks to give JSON values"):
        network().fit(X, Y, callbacks=[Keeping(), BackupAndRestore(tmp_path)], **FIT)


def test_arguments():
    for wrong in ({"save_freq": "batch"}, {"save_freq": 0}, {"double_checkpoint": 1}):
        with pytest.raises((TypeError, ValueError), match=f"BackupAndRestore: expected {next(iter(wrong))}"):
            BackupAndRestore("folder", **wrong)
    with pytest.raises(TypeError, match="fit: expected resume to be a path, got 3"):
        network().fit(X, Y, resume=3, **FIT)


def test_a_checkpoint_makes_its_folder(tmp_path):
    net = network()
    net.fit(X, Y, callbacks=nn.ModelCheckpoint(tmp_path / "a" / "b" / "net.safetensors"), verbose=0)
    net.fit(X, Y, callbacks=nn.ModelCheckpoint(f"{tmp_path}/{{epoch}}/net.safetensors"), verbose=0)
    assert len(list(tmp_path.rglob("net.safetensors"))) == 2
