"""EarlyStopping and ModelCheckpoint: which value, which direction, which epoch, and which files."""

import warnings

import numpy as np
import pytest
from regression import drive, regression

import nnpy as nn


@pytest.mark.parametrize(
    ("options", "values", "last"),
    [
        ({"patience": 2}, [3, 2, 2, 2, 1], 3),
        ({"patience": 2}, [3, 2, 2.5, 1, 2, 2, 2], 5),
        ({"patience": 0}, [3, 2, 2.5, 1], 2),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.8, 1], 1),
        ({"patience": 2, "start_from_epoch": 3}, [1, 1, 1, 1, 1, 1, 1], 5),
        ({"patience": 2, "baseline": 0.5}, [3, 2, 2.5, 2.4], 2),
        ({"patience": 1, "mode": "max"}, [1, 2, 1, 5], 2),
        ({"patience": 1, "monitor": "val_accuracy"}, [3, 2, 2.5, 1], 2),
    ],
)
def test_early_stopping(options, values, last):
    assert drive(nn.EarlyStopping(**options), values) == last


def test_early_stopping_restores_the_best(rng):
    net = regression(nn.SGD(0.1))
    x, y = rng.normal(size=(30, 5)), rng.normal(size=(30, 2))
    stop = nn.EarlyStopping(patience=2, restore_best_weights=True)
    rate = nn.LearningRateScheduler(lambda epoch, rate: 0.05 if epoch < 3 else 5.0)
    net.fit(x, y, epochs=20, validation_data=(x, y), callbacks=[rate, stop], verbose=0)
    values = net.history.history["val_loss"]
    assert len(values) < 20 and net.evaluate(x, y, verbose=0) == pytest.approx(min(values), rel=1e-6)
    assert net.history.history["learning_rate"][:4] == [0.05, 0.05, 0.05, 5.0]


def test_model_checkpoint(rng, tmp_path):
    net = regression()
    best = nn.ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    every = nn.ModelCheckpoint(tmp_path / "at-{epoch:02d}-{val_loss:.1f}.safetensors", save_weights_only=True)
    for number, value in enumerate([3.0, 1.0, 2.0]):
        for weight in net.weights:
            weight.assign(np.full(weight.shape, float(number)))
        for callback in (best, every):
            callback.set_model(net)
            callback.on_epoch_end(number, {"val_loss": value})
    assert nn.load_model(tmp_path / "best.safetensors").get_weights()[0][0, 0] == 1.0
    assert sorted(p.name for p in tmp_path.glob("at*")) == [
        f"at-0{n}-{v}.safetensors" for n, v in ((1, 3.0), (2, 1.0), (3, 2.0))
    ]
    with pytest.raises(ValueError, match=r"ends in .safetensors"):
        nn.ModelCheckpoint("net.h5")


def test_a_checkpoint_of_code_is_refused_before_training(data, tmp_path):
    class Coded(nn.Model):
        def __init__(self, units):
            super().__init__(name="coded")
            self.out = nn.Dense(units)

        def call(self, x):
            return self.out(x)

    net = Coded(2)
    net.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"ModelCheckpoint: .*coded.* no config.*\['units'\].*save_weights_only=True"):
        net.fit(*data, callbacks=nn.ModelCheckpoint(tmp_path / "a.safetensors"), verbose=0)
    assert net.training.update == 0
    weights = nn.ModelCheckpoint(tmp_path / "{epoch}.safetensors", save_weights_only=True)
    net.fit(*data, callbacks=weights, verbose=0)
    assert [path.name for path in tmp_path.iterdir()] == ["1.safetensors"]


def test_files_that_cannot_be_written_are_told_before_training(data, tmp_path):
    net = regression()
    for make, who in ((nn.ModelCheckpoint, "ModelCheckpoint"), (nn.CSVLogger, "CSVLogger")):
        for folder in ("/proc/none", "/proc"):
            with pytest.raises(OSError, match=f"^{who}: cannot write {folder}/a.safetensors: ") as error:
                net.fit(*data, callbacks=make(f"{folder}/a.safetensors"), verbose=0)
            assert isinstance(error.value, FileNotFoundError)
    assert net.training.update == 0


class Undecided(nn.metrics.MeanSquaredError):
    direction = None


def two_heads():
    source = nn.Input((5,))
    net = nn.Model(source, {"a": nn.Dense(2)(source), "val_b": nn.Dense(2)(source)})
    net.compile("sgd", "mse", metrics={"a": [Undecided("score"), nn.metrics.MeanSquaredError("accuracy_error")],
                                       "val_b": ["accuracy"]})  # fmt: skip
    return net


@pytest.mark.parametrize(
    "monitor, direction",
    [
        ("loss", "min"), ("val_loss", "min"), ("a_loss", "min"), ("val_a_loss", "min"), ("val_b_loss", "min"),
        ("val_val_b_loss", "min"), ("val_b_accuracy", "max"), ("val_val_b_accuracy", "max"),
        ("a_accuracy_error", "min"), ("val_a_accuracy_error", "min"),
    ],
)  # fmt: skip
def test_which_direction_is_better_is_the_metrics_word(monitor, direction):
    stop = nn.EarlyStopping(monitor, patience=1)
    stop.set_model(two_heads())
    stop.on_train_begin()
    for epoch, value in enumerate([1.0, 2.0, 3.0]):
        stop.on_epoch_end(epoch, {monitor: value})
    assert stop.best == (3.0 if direction == "max" else 1.0)


@pytest.mark.parametrize(
    "monitor, why", [("val_a_score", "its metric does not say"), ("accuracy", "the model has loss, a_loss, val_b_loss")]
)
@pytest.mark.parametrize(
    "make", [nn.EarlyStopping, lambda **o: nn.ModelCheckpoint("a.safetensors", save_best_only=True, **o)]
)
def test_a_direction_that_is_not_known_is_refused_before_training(rng, make, monitor, why):
    net = two_heads()
    x, y = rng.normal(size=(8, 5)), rng.normal(size=(8, 2))
    with pytest.raises(ValueError, match=f"whether a larger '{monitor}' is better is not known .{why}.*give mode="):
        net.fit(x, {"a": y, "val_b": y}, callbacks=make(monitor=monitor), verbose=0)
    assert net.history.epoch == []
    callback = make(monitor=monitor, mode="max")
    callback.set_model(net)
    callback.on_train_begin()


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("name", ["best.safetensors", "[a]-{epoch}-{loss:.2f}.safetensors"])
def test_a_checkpoint_of_a_training_that_goes_on_keeps_its_best(rng, tmp_path, name, weights):
    x, path = rng.normal(size=(40, 5)), tmp_path / name
    y = x[:, :2]

    def checkpoint(**options):
        return nn.ModelCheckpoint(path, "loss", save_best_only=True, save_weights_only=weights, **options)

    def files():
        return {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    net = regression(nn.SGD(0.1))
    first = checkpoint()
    net.fit(x, y, epochs=4, callbacks=first, verbose=0)
    before = files()

    def again(epochs=1):
        if weights:
            made = regression(nn.SGD(0.1))
            made.load_weights(max(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns))
            return made, {"initial_epoch": 4, "epochs": 4 + epochs}
        return nn.load_model(max(tmp_path.iterdir(), key=lambda file: file.stat().st_mtime_ns)), {"epochs": epochs}

    worse, options = again()
    worse.optimizer.learning_rate = 0.0
    with pytest.warns(nn.AdviceWarning, match="^ModelCheckpoint: training goes on; the best loss so far is ") as told:
        worse.fit(x, y + 9, callbacks=checkpoint(), verbose=0, **options)
    assert f"{first.best:g}" in str(told[0].message) and files() == before
    better, options = again(30)
    with pytest.warns(nn.AdviceWarning, match="training goes on"):
        better.fit(x, y, callbacks=checkpoint(), verbose=0, **options)
    assert files() != before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anew = regression(nn.SGD(0.0))  # another training, which does not go on
        last = checkpoint()
        anew.fit(x, y + 9, callbacks=last, verbose=0)
        worse.fit(x, y + 9, callbacks=checkpoint(initial_value_threshold=1e9), verbose=0, **options)
    assert last.best == anew.history.history["loss"][0]


def test_foreign_and_other_files_hold_no_best(rng, tmp_path):
    x, net = rng.normal(size=(8, 5)), regression()
    net.fit(x, x[:, :2], verbose=0)
    (tmp_path / "a.safetensors").write_bytes(b"no tensors")
    net.save(tmp_path / "b.safetensors")
    checkpoint = nn.ModelCheckpoint(tmp_path / "c.safetensors", "loss", save_best_only=True)
    net.fit(x, x[:, :2], callbacks=checkpoint, verbose=0)
    for name, monitor in (("a", "loss"), ("b", "loss"), ("c", "val_loss")):
        best = nn.ModelCheckpoint(tmp_path / f"{name}.safetensors", monitor, save_best_only=True)
        net.fit(x, x[:, :2], callbacks=best, validation_data=(x, x[:, :2] + 99), verbose=0)
        assert best.best == net.history.history[monitor][0]
