"""Ctrl-C at any moment of training, evaluation, prediction and saving: it is not lost, steps are whole, locks are free,
and training goes on as if nothing had come."""

import random
import signal
import sys
import threading

import numpy as np

import nnpy as nn

X = np.ones((256, 16), "f4")
FEW = X[:8]


def network():
    """All weights of a kernel are equal, and stay so after every whole step."""
    plain = {"kernel_initializer": "ones", "use_bias": False}
    net = nn.Sequential([nn.Input((16,)), nn.Dense(16, **plain), nn.Dense(16, **plain)])
    net.compile(nn.Adam(1e-4), "mse")
    return net


def in_a_thread(function):
    """What another thread gets: it waits for no lock that an interrupted line has kept."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(60)
    assert results, "it hangs, or has failed"
    return results[0]


def test_interruptions(long, tmp_path, monkeypatch):
    rng, net, path = random.Random(0), network(), tmp_path / "net.safetensors"
    came, printed, before = [], [], sys.unraisablehook

    def note(unraisable):
        """Between two calls Python prints one that comes while a weak reference's callback runs."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            printed.append(unraisable)
        else:
            before(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", note)

    def interrupt(*_):
        came.append(1)
        raise KeyboardInterrupt

    def work():
        batches = [(X[i : i + 32], X[i : i + 32]) for i in range(0, 256, 32)]
        each = nn.LambdaCallback(on_train_batch_end=lambda batch, logs: net.predict(FEW))
        net.fit(X, X, epochs=3, verbose=0, validation_data=(FEW, FEW))
        net.fit(nn.data.prefetch(batches), epochs=2, verbose=0, callbacks=each)
        net.evaluate(X, X, verbose=0, callbacks=nn.LambdaCallback(on_test_batch_end=lambda batch, logs: None))
        net.predict(X)
        net.predict(FEW)
        net.save(path)
        net.train_on_batch(FEW, FEW)

    work()
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(long(200, 3600)):
            lost = False
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + rng.random() * 0.03)
                while not lost:
                    work()
                    lost = bool(came)
            except KeyboardInterrupt:
                pass
            assert len(came) == 1 and lost == bool(printed), f"interruption {number} is lost"
            came.clear()
            printed.clear()
            assert not net.training.thread
            for kernel in net.get_weights():
                assert len(np.unique(kernel)) == 1, f"interruption {number}: half a step"
            assert len(np.unique(in_a_thread(lambda: net.predict(FEW)))) == 1
            assert np.isfinite(net.evaluate(FEW, FEW, verbose=0))
            assert nn.load_model(path).get_weights()[0].shape == (16, 16)
    finally:
        signal.signal(signal.SIGALRM, handler)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    net.save(path)
    again = nn.load_model(path)
    for trained in (net, again):
        trained.fit(X, X, epochs=2, verbose=0)
    for one, other in zip(net.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
