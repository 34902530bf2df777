"""What all optimizers have, in a model: gradients of several batches, averages of weights, weights without decay."""

import copy
import doctest
import importlib
import pickle
import warnings

import numpy as np
import pytest

import nnpy as nn
from nnpy.callbacks import BackupAndRestore

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(90, 6)), RNG.normal(size=(90, 2))
AVERAGES = dict(use_ema=True, ema_momentum=0.8)
FIT = dict(batch_size=10, epochs=3, verbose=0)


def network(optimizer, **options):
    nn.set_seed(3)
    net = nn.Sequential([nn.Input((6,)), nn.Dense(8, activation="relu", name="hidden"), nn.Dense(2, name="last")])
    net.compile(optimizer, "mse", **options)
    return net


def bits(arrays):
    return [np.array(array).tobytes() for array in arrays]


def averages(net):
    return [array.copy() for (slot, _), array in net.engine.slot_views().items() if slot == "moving_average"]


class Stop(Exception):
    pass


class StopAt(nn.Callback):
    """Ends a run as a crash would, after so many steps."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Stop


MADE = [
    lambda: nn.Adam(1e-2, gradient_accumulation_steps=4),
    lambda: nn.Adam(1e-2, **AVERAGES, ema_overwrite_frequency=5),
    lambda: nn.Adam(1e-2, gradient_accumulation_steps=2, global_clipnorm=0.5, **AVERAGES),
    lambda: nn.Lamb(1e-2),
    lambda: nn.Adafactor(1e-1, gradient_accumulation_steps=2),
    lambda: nn.Muon(1e-2, exclude_layers=["last"], **AVERAGES),
    lambda: nn.Lookahead(nn.SGD(0.1, 0.9, **AVERAGES), sync_period=4),
    lambda: nn.Lookahead("muon", sync_period=4),
]


@pytest.mark.parametrize("make", MADE, ids=lambda make: repr(make()))
@pytest.mark.parametrize("step", [6, 9, 22])
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(tmp_path, make, step):
    whole = network(make())
    whole.fit(X, Y, **FIT)
    assert whole.history.history["loss"][-1] < whole.history.history["loss"][0]
    with pytest.raises(Stop):
        network(make()).fit(X, Y, callbacks=[BackupAndRestore(tmp_path, 1), StopAt(step)], **FIT)
    again = network(make())
    again.fit(X, Y, callbacks=BackupAndRestore(tmp_path, 1), **FIT)
    assert bits(again.get_weights()) == bits(whole.get_weights()) and bits(averages(again)) == bits(averages(whole))


def test_a_saved_model_goes_on_in_the_midst_of_gradients(tmp_path):
    make = lambda: nn.AdamW(1e-2, weight_decay=0.1, gradient_accumulation_steps=4)  # noqa: E731
    net, whole = network(make()), network(make())
    for model in (net, whole):
        model.optimizer.exclude_from_weight_decay(var_names=["bias"])
    whole.fit(X, Y, **FIT)
    net.fit(X, Y, **{**FIT, "epochs": 1})  # nine steps: one gradient is waiting
    again = nn.load_model(net.save(tmp_path / "model.safetensors"))
    assert [weight.name for weight in again.weights if not again.optimizer.decays(weight)] == [
        weight.name for weight in again.weights if weight.name.endswith("bias")
    ]
    again.fit(X, Y, initial_epoch=1, **FIT)
    assert bits(again.get_weights()) == bits(whole.get_weights())


def test_steps_of_part_batches_are_steps_of_whole_ones():
    """The mean of the gradients of two halves is the gradient of the whole, and rates count updates."""
    schedule = nn.schedules.ExponentialDecay(0.1, 2, 0.5)
    halves = network(nn.SGD(schedule, momentum=0.9, gradient_accumulation_steps=2))
    whole = network(nn.SGD(schedule, momentum=0.9))
    halves.fit(X, Y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    whole.fit(X, Y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    assert halves.training.update == 36 and halves.optimizer.iterations == whole.optimizer.iterations == 18
    for a, b in zip(halves.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_weights_are_their_averages_when_fit_ends():
    net = network(nn.SGD(0.1, **AVERAGES))
    expected = []

    class Follow(nn.Callback):
        def on_train_batch_end(self, batch, logs=None):
            now = [np.float64(w) for w in self.model.get_weights()]
            keep = 0.8 if expected else 0.0
            expected[:] = [keep * a + (1 - keep) * w for a, w in zip(expected or now, now, strict=True)]

    net.fit(X, Y, callbacks=Follow(), **FIT)
    for a, b in zip(net.get_weights(), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    before = net.get_weights()
    net.fit(X, Y, initial_epoch=3, **FIT)  # nothing to do
    assert bits(net.get_weights()) == bits(before)


@pytest.mark.parametrize("on_epoch", [False, True])
def test_swapping_shows_averages_and_trains_weights(on_epoch):
    """Without the callback nothing is evaluated with averages, and the weights go the same way with it."""
    seen, saved = [], []

    class Look(nn.Callback):
        def on_test_begin(self, logs=None):
            seen.append((self.model.get_weights(), averages(self.model)))

        def on_epoch_end(self, epoch, logs=None):
            saved.append(self.model.get_weights())

    plain, swapped = network(nn.SGD(0.1, **AVERAGES)), network(nn.SGD(0.1, **AVERAGES))
    plain.fit(X, Y, validation_data=(X, Y), callbacks=Look(), **FIT)
    weights, seen[:] = seen[:], []
    ends, saved[:] = saved[:], []
    swapped.fit(X, Y, validation_data=(X, Y), callbacks=[nn.SwapEMAWeights(on_epoch), Look()], **FIT)
    assert bits(plain.get_weights()) == bits(swapped.get_weights())  # finalized
    for (w, a), (shown, put_aside), end, at_end in zip(weights, seen, ends, saved, strict=True):
        order = [0, 2, 1, 3]  # slots are kept matrices first
        assert bits(shown) == bits(a[i] for i in order) and bits(put_aside) == bits(w[i] for i in order)
        assert bits(end) == bits(w) and bits(at_end) == bits(shown if on_epoch else w)
    assert plain.history.history["loss"] == swapped.history.history["loss"]
    assert plain.history.history["val_loss"] != swapped.history.history["val_loss"]


def test_swapping_goes_on_after_an_interruption(tmp_path):
    def callbacks(*more):
        return [nn.SwapEMAWeights(True), BackupAndRestore(tmp_path), *more]

    whole = network(nn.SGD(0.1, **AVERAGES))
    whole.fit(X, Y, callbacks=nn.SwapEMAWeights(True), **FIT)
    with pytest.raises(Stop):
        network(nn.SGD(0.1, **AVERAGES)).fit(X, Y, callbacks=callbacks(StopAt(11)), **FIT)
    again = network(nn.SGD(0.1, **AVERAGES))
    again.fit(X, Y, callbacks=callbacks(), **FIT)
    assert bits(again.get_weights()) == bits(whole.get_weights())


def test_what_is_not_asked_for_costs_no_op():
    """The kernels of a step, and the columns that its updates read."""
    def calls(optimizer):
        net = network(optimizer)
        net.build((6,))
        from nnpy.training.samples import placeholders

        return [c.name for c in net.engine.compiled("train", 10, placeholders(net, 10, True)).calls]

    plain = calls(nn.Adam())
    assert nn.Adam().columns(0, 1).shape == (1, 5) and nn.Adam().kept == ("momentum", "velocity")
    assert plain.count("update") <= 2 and calls(nn.Adam(weight_decay=0.1)) == plain
    assert len(calls(nn.Adam(**AVERAGES))) == len(plain) + 1


BAD = [
    (dict(gradient_accumulation_steps=1), ValueError, "gradient_accumulation_steps to be an integer >= 2, got 1"),
    (dict(gradient_accumulation_steps=2.5), TypeError, "gradient_accumulation_steps to be an integer >= 2, got 2.5"),
    (dict(use_ema=1), TypeError, "use_ema to be True or False, got 1"),
    (dict(use_ema=True, ema_momentum=1.5), ValueError, "ema_momentum to be a finite number >= 0 and <= 1, got 1.5"),
    (dict(use_ema=True, ema_overwrite_frequency=0), ValueError, "ema_overwrite_frequency to be a positive integer"),
    (dict(ema_overwrite_frequency=5), ValueError, "expected use_ema=True beside ema_overwrite_frequency, got False"),
    (dict(weight_decay=-0.1), ValueError, "weight_decay to be a finite number >= 0, got -0.1"),
    (dict(clipnorm=1.0, global_clipnorm=1.0), ValueError, "at most one kind of clipping"),
    (dict(use_emma=True), TypeError, "unexpected argument 'use_emma'; did you mean 'use_ema'"),
]  # fmt: skip


@pytest.mark.parametrize("given, error, text", BAD, ids=str)
@pytest.mark.parametrize("kind", [nn.SGD, nn.AdamW], ids=lambda kind: kind.__name__)
def test_refuses(kind, given, error, text):
    with pytest.raises(error, match=f"{kind.__name__}: .*{text}"):
        kind(**given)


def test_what_cannot_change_once_training_has_begun():
    net = network(nn.Adam(**AVERAGES))
    net.optimizer.gradient_accumulation_steps = 2
    net.fit(X, Y, **FIT)
    net.optimizer.ema_momentum = 0.5  # the next step goes by it
    for name, value in (("use_ema", False), ("gradient_accumulation_steps", None)):
        with pytest.raises(AttributeError, match=f"Adam: {name} cannot be set once training has begun"):
            setattr(net.optimizer, name, value)
    with pytest.raises(AttributeError, match="iterations cannot be set"):
        net.optimizer.iterations = 3
    with pytest.raises(RuntimeError, match="Adam: exclude_from_weight_decay has to come before training"):
        net.optimizer.exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.parametrize(
    "given, error, text",
    [
        (dict(var_list=["bias"]), TypeError, r"AdamW: expected var_list to be a list of weights, got list \['bias'\]"),
        (dict(var_names="bias"), TypeError, "AdamW: expected var_names to be a list of strings, got 'bias'"),
        (dict(var_names=["("]), ValueError, "AdamW: expected var_names to be regular expressions"),
    ],
)
def test_what_decay_leaves_alone_has_to_be_told(given, error, text):
    with pytest.raises(error, match=text):
        nn.AdamW().exclude_from_weight_decay(**given)


def test_weights_are_left_undecayed_by_name_or_themselves():
    net = network(nn.SGD(0.1, weight_decay=1.0))
    net.optimizer.exclude_from_weight_decay([net.layers[0].kernel], ["last.*bias"])
    net.fit(np.zeros((10, 6)), np.zeros((10, 2)), sample_weight=np.zeros(10), batch_size=10, verbose=0)
    nn.set_seed(3)
    start = network("sgd").get_weights()
    for weight, before, decays in zip(net.get_weights(), start, [False, True, True, False], strict=True):
        np.testing.assert_allclose(weight, before * (0.9 if decays else 1.0), rtol=1e-6)


def test_training_goes_on_from_weights_after_an_evaluation_that_was_interrupted():
    class Fail(nn.Callback):
        def on_test_batch_begin(self, batch, logs=None):
            raise Stop

    net, plain = network(nn.SGD(0.1, **AVERAGES)), network(nn.SGD(0.1, **AVERAGES))
    for model in (net, plain):
        model.train_on_batch(X, Y)
        model.train_on_batch(X, Y)
    with pytest.raises(Stop):
        net.evaluate(X, Y, verbose=0, callbacks=[nn.SwapEMAWeights(), Fail()])
    assert bits(net.get_weights()) != bits(plain.get_weights())
    for model in (net, plain):
        model.train_on_batch(X, Y)
    assert bits(net.get_weights()) == bits(plain.get_weights()) and bits(averages(net)) == bits(averages(plain))


def test_swapping_needs_averages():
    with pytest.raises(ValueError, match="SwapEMAWeights: expected an optimizer with use_ema=True, got SGD"):
        network("sgd").fit(X, Y, callbacks=nn.SwapEMAWeights(), **FIT)


# Those that need whole weights


def test_what_adafactor_keeps_of_a_matrix_is_its_rows_and_columns(tmp_path):
    net = network(nn.Adafactor(0.1))
    net.fit(X, Y, **FIT)
    shapes = {(slot, weight.name): array.shape for (slot, weight), array in net.engine.slot_views().items()}
    assert {slot: shape for (slot, name), shape in shapes.items() if name == net.weights[0].name} == {
        "rows": (6,), "columns": (8,),
    }  # fmt: skip
    assert {slot for slot, name in shapes if name == net.weights[1].name} == {"velocity"}
    again = nn.load_model(net.save(tmp_path / "model.safetensors"))
    for model in (net, again):
        model.fit(X, Y, **{**FIT, "epochs": 4}, initial_epoch=3)
    assert bits(net.get_weights()) == bits(again.get_weights())


def test_muon_keeps_second_moments_of_what_adam_takes():
    net = network(nn.Muon(0.01, exclude_layers=["last"]))
    net.fit(X, Y, **FIT)
    kept = {(slot, weight.name.replace("hidden", "h")) for slot, weight in net.engine.slot_views()}
    assert ("velocity", net.weights[0].name.replace("hidden", "h")) not in kept and len(kept) == 7


def test_a_step_of_muon_has_singular_values_near_one():
    net = network(nn.Muon(1.0, rms_rate=None, weight_decay=None, momentum=0.0, exclude_layers=["last"]))
    before = net.get_weights()[0]
    net.fit(X, Y, batch_size=90, verbose=0)
    values = np.linalg.svd(net.get_weights()[0] - before, compute_uv=False)
    assert (values > 0.6).all() and (values < 1.25).all()


def test_lamb_without_a_norm_takes_adams_step():
    net = network(nn.Lamb(0.01))
    net.set_weights([np.zeros_like(w) for w in net.get_weights()])
    adam = network(nn.Adam(0.01))
    adam.set_weights(net.get_weights())
    for model in (net, adam):
        model.fit(X, Y, batch_size=90, verbose=0)
    for a, b in zip(net.get_weights(), adam.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert net.get_weights()[-1].any()


def test_settings_of_what_is_in_lookahead_are_its_own():
    ahead = nn.Lookahead(nn.SGD(0.1, 0.9), sync_period=3)
    ahead.learning_rate, ahead.weight_decay, ahead.use_ema = 0.2, 0.5, True
    inner = ahead.optimizer
    assert (inner.learning_rate, inner.weight_decay, inner.use_ema, ahead.kept) == (
        0.2, 0.5, True, ("momentum", "moving_average", "slow"),
    )  # fmt: skip
    changes = ahead.changes
    inner.momentum = 0.5
    assert ahead.changes > changes and ahead.compiled != nn.Lookahead(nn.SGD(0.1, 0.9), 3).compiled
    again = nn.optimizers.get(ahead.to_json())
    assert repr(again) == repr(ahead) and again.optimizer.weight_decay == 0.5
    net = network(ahead)
    net.fit(X, Y, **FIT)
    assert ahead.iterations == inner.iterations == 27
    with pytest.raises(AttributeError, match="Lookahead: sync_period cannot be set once training has begun"):
        ahead.sync_period = 5
    ahead.slow_step_size = 1.0  # the next step goes by it


def test_slow_weights_of_a_layer_that_thaws_in_the_midst_of_a_period_begin_there():
    net = network(nn.Lookahead(nn.SGD(1e-9), sync_period=4))
    start = net.get_weights()
    net.layers[0].trainable = False
    net.fit(X, Y, batch_size=45, verbose=0)
    net.layers[0].trainable = True
    net.fit(X, Y, batch_size=45, verbose=0)
    for a, b in zip(net.get_weights(), start, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: nn.Lookahead("sgdd"), ValueError, "unknown optimizer 'sgdd'"),
        (lambda: nn.Lookahead(nn.Lookahead("sgd")), ValueError, "Lookahead: expected an optimizer without weights of"),
        (lambda: nn.Lookahead("schedule_free_adamw"), ValueError, "Lookahead: expected an optimizer without weights"),
        (lambda: nn.Lookahead("sgd", 0), ValueError, "Lookahead: expected sync_period to be a positive integer, got 0"),
        (lambda: nn.Lookahead("sgd", 5, 1.5), ValueError, "Lookahead: expected slow_step_size to be .* got 1.5"),
        (lambda: nn.Muon(exclude_layers="last"), TypeError, "Muon: expected exclude_layers to be a list of strings"),
        (lambda: nn.Muon(exclude_layers=["["]), ValueError, "Muon: expected exclude_layers to be regular expressions"),
        (lambda: nn.Muon(ns_steps=0), ValueError, "Muon: expected ns_steps"),
        (lambda: nn.Muon(rms_rate=0), ValueError, "Muon: expected rms_rate"),
        (lambda: nn.Adafactor(beta_2_decay=0.8), ValueError, "Adafactor: expected beta_2_decay to be .* < 0, got 0.8"),
        (lambda: nn.Adafactor(clip_threshold=0), ValueError, "Adafactor: expected clip_threshold"),
        (lambda: nn.Lamb(beta_2=1), ValueError, "Lamb: expected beta_2"),
    ],
)
def test_refuses_of_its_own(make, error, text):
    with pytest.raises(error, match=text):
        make()


MODULES = ["base", "lamb", "adafactor", "muon", "lookahead", "adam", "adagrad", "sgd", "schedule_free"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"nnpy.optimizers.{name}"), extraglobs={"nn": nn, "np": np})
    assert found.attempted and not found.failed


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Adam(0.25, clipnorm=1.0),
        lambda: nn.SGD(nn.schedules.CosineDecay(0.1, 10), momentum=0.9),
        lambda: nn.optimizers.Lookahead(nn.SGD(0.5)),
    ],
)
def test_copies_and_pickles_have_the_same_arguments(make, copied):
    """What the optimizer knows of weights is in copies of the model."""
    optimizer = make()
    net = nn.Sequential([nn.Input((3,)), nn.Dense(1)])
    net.compile(optimizer, "mse")
    net.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0)
    again = copied(optimizer)
    assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config() and again is not optimizer
    net.compile(again, "mse")
    net.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0)


@pytest.mark.parametrize("make", [lambda: nn.AdamW(0.1), lambda: nn.Lookahead(nn.AdamW(0.1))])
def test_copies_leave_the_same_weights_undecayed(make):
    optimizer = make()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    weights = network("sgd").weights
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert [copied.decays(weight) for weight in weights] == [True, False, True, False]


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("make", [
    lambda: nn.SGD(1.0, gradient_accumulation_steps=2),
    lambda: nn.SGD(1.0, gradient_accumulation_steps=2, global_clipnorm=100.0),
    lambda: nn.Lookahead(nn.SGD(1.0, gradient_accumulation_steps=2), sync_period=100),
], ids=["sgd", "clipped", "lookahead"])  # fmt: skip
def test_what_a_layer_that_is_frozen_at_the_end_of_a_period_has_accumulated_is_forgotten(make, everything):
    first, second = (nn.Dense(1, use_bias=False, kernel_initializer="zeros") for _ in range(2))
    inputs = nn.Input((1,))
    net = nn.Model(inputs, nn.Add()([first(inputs), second(inputs)]))
    net.compile(make(), lambda y_true, y_pred: nn.ops.mean(y_pred, axis=-1))  # all gradients are 1
    one, seen = np.ones((1, 1), "f4"), []
    for step in range(6):
        first.trainable, second.trainable = step != 1, step != 1 or not everything
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nn.AdviceWarning)  # all weights are frozen
            net.train_on_batch(one, one)
        seen.append([float(layer.get_weights()[0].item()) for layer in (first, second)])
    assert [a for a, _ in seen] == [0, 0, 0, -1, -1, -2]
    assert [b for _, b in seen] == ([0, 0, 0, -1, -1, -2] if everything else [0, -1, -1, -2, -2, -3])
