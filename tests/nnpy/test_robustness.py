"""The runtime under stress: signals, threads, forks, other libraries' pools, many fits."""

import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import nncore
import nnpy as nn
from nnpy.training import programs


@pytest.fixture(autouse=True)
def _team():
    """Two threads in every step, whatever a Program would find faster."""
    nncore.set_num_threads(2)


def data(rng, n=512, features=64):
    return rng.normal(size=(n, features)).astype("f4"), rng.integers(0, 8, n)


def network(seed=0, width=128, features=64):
    nn.set_seed(seed)
    net = nn.Sequential([nn.Input((features,)), nn.Dense(width, activation="relu"), nn.Dropout(0.2), nn.Dense(8)])
    net.compile("adam", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    return net


def works_in_a_team(net):
    return any(ready.program.threads > 1 for key, ready in net.engine._programs.items() if key[0] == "train")


def bits(net):
    return b"".join(w.tobytes() for w in net.get_weights())


def run(code, timeout=120, **environment):
    """Run Python in a process of its own; its output."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@contextmanager
def control_c(net):
    """Ctrl-C comes when the model has trained 20 steps more."""
    goal, stop = net.training.update + 20, threading.Event()

    def interrupt():
        while net.training.update < goal and not stop.is_set():
            time.sleep(0.01)
        if not stop.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_control_c_stops_at_once_and_leaves_a_usable_model(rng):
    x, y = data(rng, 4096, 64)
    for _ in range(3):
        net = network(width=256)
        net.fit(x, y, batch_size=32, verbose=0)
        with pytest.raises(KeyboardInterrupt), control_c(net):
            net.fit(x, y, batch_size=32, epochs=10**9, verbose=0)
        assert not net.training.thread and len(net.history.epoch) == len(net.history.history.get("loss", []))
        assert np.isfinite(net.evaluate(x, y, verbose=0))
        net.fit(x, y, epochs=1, verbose=0)


def test_control_c_within_one_long_epoch(rng):
    """An epoch of seconds is one call of compiled code, and yet it stops; training goes on after it."""
    x, y = data(rng, 20000, 256)
    net = network(width=512, features=256)
    net.train_on_batch(x[:1], y[:1])
    before = bits(net)
    with pytest.raises(KeyboardInterrupt), control_c(net):
        net.fit(x, y, batch_size=1, epochs=10**9, verbose=0)
    assert bits(net) != before and np.isfinite(net.predict(x[:100])).all()
    step = net.training.update
    net.fit(x[:64], y[:64], batch_size=32, verbose=0)
    assert net.training.update == step + 2


def test_two_threads_give_the_same_bits_as_one_after_the_other(rng):
    x, y = data(rng)
    alone = []
    for seed in (1, 2):
        net = network(seed)
        net.fit(x, y, epochs=4, verbose=0)
        alone.append(bits(net))
    nets = [network(seed) for seed in (1, 2)]
    threads = [threading.Thread(target=net.fit, args=(x, y), kwargs={"epochs": 4, "verbose": 0}) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [bits(net) for net in nets] == alone
    assert all(works_in_a_team(net) for net in nets)


def test_predictions_while_another_thread_trains(rng):
    x, y = data(rng)
    net, trained = network(1), network(2)
    expected = net.predict(x)
    stop = threading.Event()
    wrong = []

    def train():
        while not stop.is_set():
            trained.fit(x, y, verbose=0)

    thread = threading.Thread(target=train)
    thread.start()
    for _ in range(50):
        if not np.array_equal(net.predict(x), expected):
            wrong.append(1)
        trained.predict(x[:3])
    stop.set()
    thread.join(60)
    assert not wrong


def test_threads_share_one_model_for_predictions(rng):
    x, _ = data(rng)
    net = network()
    rows = [x[i : i + 1] for i in range(20)]
    expected = [net.predict(row).tobytes() for row in rows]
    wrong = []

    def use():
        for _ in range(30):
            for row, want in zip(rows, expected, strict=True):
                if net.predict(row).tobytes() != want:
                    wrong.append(row)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_a_second_fit_of_the_same_model_is_refused(rng):
    x, y = data(rng)
    net = network()

    def again(epoch, logs):
        net.fit(x, y, verbose=0)

    with pytest.raises(RuntimeError, match="fit is running already"):
        net.fit(x, y, callbacks=nn.LambdaCallback(on_epoch_end=again), verbose=0)
    net.fit(x, y, verbose=0)


def test_training_inside_a_callback_leaves_the_epochs_values(rng):
    x, y = data(rng)
    results = []
    for inside in (False, True):
        net, other = network(1), network(2)
        callback = nn.LambdaCallback(on_train_batch_end=lambda *_, other=other: other.train_on_batch(x[:8], y[:8]))
        results.append(net.fit(x, y, callbacks=[callback] if inside else None, verbose=0).history)
    assert results[0] == results[1]


def resident():
    """Bytes of memory that the process has now; its peak would hide what grows below an earlier one."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc: the system does not tell")
def test_200_fits_do_not_grow(rng):
    x, y = data(rng, 200)
    net = network()

    def fits(count):
        for number in range(count):
            n = 150 + number % 50  # a last batch of another size each time
            net.fit(x[:n], y[:n], batch_size=32, validation_data=(x[: n // 2], y[: n // 2]), verbose=0)
            net.predict(x[: 1 + number % 40])
        gc.collect()
        return resident(), len(gc.get_objects())

    fits(100)
    memory, objects = fits(50)
    more_memory, more_objects = fits(200)
    assert more_memory - memory < 4 << 20
    assert more_objects - objects < 200
    assert len(net.engine._programs) <= programs._MOST_PROGRAMS and len(net._fast) <= 64


def test_users_arrays_are_let_go(rng):
    net = network()

    class Watched(np.ndarray):
        pass

    x, y = data(rng)
    mine = x.copy()
    before = sys.getrefcount(mine)
    net.fit(mine, y, verbose=0)
    net.evaluate(mine, y, verbose=0)
    net.predict(mine[:5])
    net.probe(mine[:5])
    gc.collect()
    assert sys.getrefcount(mine) == before


def test_models_are_let_go(rng):
    import weakref

    x, y = data(rng)
    net = network()
    net.fit(x, y, verbose=0)
    net.predict(x[:1])
    watch = weakref.ref(net)
    del net
    gc.collect()
    assert watch() is None


def forked(queue, net, x, y):
    net.fit(x, y, epochs=2, verbose=0)
    queue.put((bits(net), nncore.get_num_threads()))


def test_a_forked_child_trains_on_one_thread(rng):
    x, y = data(rng)
    net = network(3)
    net.fit(x, y, verbose=0)
    assert works_in_a_team(net)  # in the parent
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=forked, args=(queue, net, x, y))
    child.start()
    child.join(60)
    alive = child.is_alive()
    if alive:
        child.kill()
    assert not alive, "the child hangs"
    assert child.exitcode == 0
    weights, threads = queue.get()
    net.fit(x, y, epochs=2, verbose=0)
    assert threads == 1 and weights == bits(net)


def test_a_fork_while_another_thread_trains(rng):
    """That thread holds the team's turn and the model's locks at the moment of the fork; the child must not wait."""
    x, y = data(rng)
    busy = network(1, width=512)
    stop = threading.Event()

    def train():
        while not stop.is_set():
            busy.fit(x, y, verbose=0)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                try:
                    busy.predict(x)
                    busy.fit(x[:64], y[:64], verbose=0)
                    os._exit(7)
                finally:
                    os._exit(1)
            deadline = time.monotonic() + 60
            status = (0, 0)
            while status[0] == 0 and time.monotonic() < deadline:
                status = os.waitpid(pid, os.WNOHANG)
                time.sleep(0.01)
            if status[0] == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                pytest.fail("the child hangs")
            assert os.waitstatus_to_exitcode(status[1]) == 7
    finally:
        stop.set()
        thread.join(60)


PROGRAM = """
import numpy as np, nnpy as nn, nncore
rng = np.random.default_rng(0)
x, y = rng.normal(size=(300, 20)), rng.integers(0, 3, 300)
net = nn.Sequential([nn.Dense(512, activation="relu"), nn.Dense(3)])
net.compile("adam", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
{before}
net.fit(x, y, epochs=2, verbose=0)
assert any(ready.program.threads > 1 for ready in net.engine._programs.values()), "no team to disturb"
import hashlib
print(nncore.get_num_threads(), hashlib.sha1(b"".join(w.tobytes() for w in net.get_weights())).hexdigest())
"""


def test_thread_settings_of_others_are_honoured():
    threads, reference = run(PROGRAM.format(before=""), OMP_NUM_THREADS="1").split()
    assert threads == "1"
    assert run(PROGRAM.format(before=""), OMP_NUM_THREADS="3").split() == ["3", reference]
    many = str(4 * (os.cpu_count() or 1))
    assert run(PROGRAM.format(before=f"nn.set_num_threads({many})")).split() == [many, reference]


def test_threadpoolctl():
    pytest.importorskip("threadpoolctl")
    before = "import threadpoolctl; threadpoolctl.threadpool_limits(1, user_api='openmp')"
    assert run(PROGRAM.format(before=before), OMP_NUM_THREADS="2").split()[0] == "1"


OTHERS = {
    "torch": "import torch; torch.nn.Linear(64, 64)(torch.ones(512, 64)).sum().backward()",
    "sklearn": "import sklearn.neural_network as s; s.MLPClassifier(max_iter=2).fit(np.eye(64), np.arange(64) % 2)",
}


@pytest.mark.parametrize("library", OTHERS)
def test_other_libraries_in_the_same_process_do_not_break_a_step(library):
    pytest.importorskip(library)
    alone = run(PROGRAM.format(before="")).split()[1]
    use = f"import warnings, numpy as np; warnings.simplefilter('ignore'); {OTHERS[library]}\n"
    team = "nn.set_num_threads(2)\n"
    assert run(use + PROGRAM.format(before=team)).split()[1] == alone
    assert run(PROGRAM.format(before=team + use)).split()[1] == alone


def test_five_epochs_of_mlp_mnist_have_the_same_bits_at_any_thread_count():
    (x, y), _ = nn.data.load_mnist()
    x = x.reshape(len(x), -1).astype("float32") / 255

    def trained(threads):
        nn.set_num_threads(threads)
        nn.set_seed(0)
        hidden = [nn.Dense(512, activation="relu"), nn.BatchNormalization(), nn.Dense(256, activation="relu")]
        model = nn.Sequential([*hidden, nn.Dense(10)])
        model.compile(nn.Adam(1e-3), loss=nn.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(x, y, batch_size=128, epochs=5, verbose=0)
        return b"".join(weight.tobytes() for weight in model.get_weights())

    alone = trained(1)
    assert trained(2) == alone
    assert trained(3) == alone
