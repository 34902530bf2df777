"""What all optimizers have, in a model: gradients of several batches, averages of weights, weights without decay."""

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


OPTIONS = [
    dict(gradient_accumulation_steps=4),
    dict(AVERAGES, ema_overwrite_frequency=5),
    dict(gradient_accumulation_steps=2, global_clipnorm=0.5, **AVERAGES),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("step", [6, 9, 22])
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(tmp_path, options, step):
    whole = network(nn.Adam(1e-2, **options))
    whole.fit(X, Y, **FIT)
    with pytest.raises(Stop):
        network(nn.Adam(1e-2, **options)).fit(X, Y, callbacks=[BackupAndRestore(tmp_path, 1), StopAt(step)], **FIT)
    again = network(nn.Adam(1e-2, **options))
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


def test_swapping_needs_averages():
    with pytest.raises(ValueError, match="SwapEMAWeights: expected an optimizer with use_ema=True, got SGD"):
        network("sgd").fit(X, Y, callbacks=nn.SwapEMAWeights(), **FIT)
