"""Processes that are killed while they save: a whole file is there, and what they left goes with the next save."""

import os
import random
import signal
import time

import numpy as np
import pytest

import nnpy as nn


def network(value):
    net = nn.Sequential([nn.Input((64,)), nn.Dense(500, kernel_initializer="ones"), nn.Dense(1)])
    net.compile("adam", "mse")
    x = np.full((8, 64), value, "f4")
    net.fit(x, x[:, :1], verbose=0)
    return net


def killed_while(work, seconds):
    """A forked child does ``work`` again and again, and is killed so long after it has done it once."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(write, b".")
            while True:
                work()
        finally:
            os._exit(1)
    os.close(write)
    try:
        assert os.read(read, 1) == b".", "the child has failed"
        time.sleep(seconds)
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_kills_while_saving(long, tmp_path):
    nets = [network(1.0), network(2.0)]
    known = [net.get_weights()[0] for net in nets]
    histories = [nn.History() for _ in range(2)]
    for number, history in enumerate(histories):
        history.history = {"loss": [float(number)] * 2000}
    model, log = tmp_path / "model.safetensors", tmp_path / "history.json"
    texts = [history.save(log).read_bytes() for history in histories]
    rng, left = random.Random(0), 0

    def save():
        for net, history in zip(nets, histories, strict=True):
            net.save(model)
            history.save(log)

    for _ in range(long(200, 480)):
        killed_while(save, rng.random() * 0.01)
        left += len(list(tmp_path.iterdir())) > 2
        found = nn.load_model(model).get_weights()[0]
        assert any(np.array_equal(found, weights) for weights in known)
        assert log.read_bytes() in texts
        assert len(list(tmp_path.iterdir())) <= 4  # those of one kill: the next save has removed the others
    assert left  # or no kill came while a file was written
    save()
    assert {path.name for path in tmp_path.iterdir()} == {model.name, log.name}
