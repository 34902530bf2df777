"""Threads and signal handlers: nothing hangs, is half of two steps, or is changed by what another thread does.

Programs that could hang run in a process of their own, which is killed after a time.
"""

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import nnpy as nn
from nnpy import locks
from nnpy.compiler import Executable
from nnpy.training import engine

SECONDS = 60
BEFORE = """
import os, signal, sys, threading, time
import numpy as np
import nnpy as nn
"""


def run(program, *arguments):
    """What the program prints; it is killed, and the test fails, after SECONDS."""
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + textwrap.dedent(program), *arguments], capture_output=True, text=True,
        timeout=SECONDS, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def in_threads(*functions):
    """Runs them side by side; raises what one raised, and fails if one does not end."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


def test_callbacks_of_an_evaluation_run_under_no_lock():
    """Two models, each evaluated by a thread whose callback predicts with the other."""
    assert run("""
        x = np.ones((400, 4), "f4")
        nets = [nn.Sequential([nn.Input((4,)), nn.Dense(1)]) for _ in range(2)]
        for net in nets:
            net.compile("adam", "mse")
            net.predict(x)
        def work(net, other):
            ask = nn.LambdaCallback(on_test_batch_end=lambda batch, logs: other.predict(x))
            net.evaluate(x, x[:, :1], batch_size=4, verbose=0, callbacks=ask)
        threads = [threading.Thread(target=work, args=pair) for pair in (nets, nets[::-1])]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print("done")
    """) == ["done"]


def test_a_callback_may_wait_for_another_thread_that_predicts():
    assert run("""
        x = np.ones((8, 4), "f4")
        net = nn.Sequential([nn.Input((4,)), nn.Dense(1)])
        net.compile("adam", "mse")
        def ask(batch, logs):
            thread = threading.Thread(target=net.predict, args=(x,))
            thread.start()
            thread.join()
        hooks = nn.LambdaCallback(on_test_batch_end=ask, on_train_batch_end=ask, on_predict_batch_end=ask)
        net.evaluate(x, x[:, :1], batch_size=4, verbose=0, callbacks=hooks)
        net.predict(x, batch_size=4, callbacks=hooks)
        net.fit(x, x[:, :1], batch_size=4, verbose=0, callbacks=hooks)
        print("done")
    """) == ["done"]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_signal_handler_predicts_while_fit_runs(threads):
    """It neither hangs nor changes what is trained."""
    assert run("""
        nn.set_num_threads(int(sys.argv[1]))
        x = np.random.default_rng(0).normal(size=(4000, 50)).astype("f4")
        few = x[:8]
        def network():
            nn.set_seed(1)
            net = nn.Sequential([nn.Input((50,)), nn.Dense(60, activation="relu"), nn.Dense(1)])
            net.compile("adam", "mse")
            net.predict(few)
            return net
        calls = []
        def handler(*_):
            calls.append(net.predict(few).shape)
            if len(calls) % 3 == 0: net.evaluate(few, few[:, :1], verbose=0)
            signal.setitimer(signal.ITIMER_REAL, .001)
        alone = network()
        alone.fit(x, x[:, :1], epochs=20, verbose=0)
        net = network()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, .001)
        net.fit(x, x[:, :1], epochs=20, verbose=0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        same = all(np.array_equal(a, b) for a, b in zip(alone.get_weights(), net.get_weights()))
        print(same and alone.history.history == net.history.history, len(calls) > 3, set(calls) == {(8, 1)})
    """, threads) == ["True"] * 3  # fmt: skip


@pytest.mark.parametrize("kind", ["same", "other", "evaluate"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_signal_handler_does_not_disturb_what_it_interrupts(kind, threads):
    assert run("""
        nn.set_num_threads(int(sys.argv[1]))
        kind = sys.argv[2]
        rng = np.random.default_rng(0)
        net = nn.Sequential([nn.Input((10,)), nn.Dense(30, activation="relu"), nn.Dense(3)])
        net.compile("adam", "mse")
        a, b, c = (rng.normal(size=(n, 10)).astype("f4") for n in (16, 16, 5))
        of_a, of_b, of_c = net.predict(a), net.predict(b), net.predict(c)
        loss, other = net.evaluate(a, of_a * 0, verbose=0), net.evaluate(c, of_c * 0, verbose=0)
        wrong, signals = [], []
        def handler(*_):
            signals.append(1)
            if kind == "evaluate":
                if net.evaluate(c, of_c * 0, verbose=0) != other: wrong.append("handler")
            elif not np.array_equal(net.predict(b if kind == "same" else c), of_b if kind == "same" else of_c):
                wrong.append("handler")
            signal.setitimer(signal.ITIMER_REAL, .0005)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, .0005)
        while len(signals) < 200:
            for _ in range(50):
                if not np.array_equal(net.predict(a), of_a): wrong.append("predict")
            if net.evaluate(a, of_a * 0, verbose=0) != loss: wrong.append("evaluate")
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        print(wrong)
    """, threads, kind) == ["[]"]  # fmt: skip


def equal_columns(units=16):
    """A network all of whose weights of a kernel are equal, and stay so after every whole step: so are its outputs."""
    net = nn.Sequential(
        [
            nn.Input((units,)),
            nn.Dense(units, kernel_initializer="ones", use_bias=False),
            nn.Dense(units, kernel_initializer="ones", use_bias=False),
        ]
    )
    net.compile(nn.SGD(1e-7), "mse")
    return net


def beside_fit(net, work, times=20):
    """``work`` in two threads, ``times`` each or more, while another trains; how many steps."""
    x = np.ones((500, net.inputs[0].shape[-1]), "f4")
    done, stop, before = [0, 0], threading.Event(), net.training.update

    def fit():
        while min(done) < times and not stop.is_set():
            net.fit(x, x * 1e4, epochs=5, verbose=0)

    def ask(number):
        try:
            while thread.is_alive():
                work()
                done[number] += 1
        finally:
            stop.set()

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    in_threads(lambda: ask(0), lambda: ask(1))
    assert min(done) >= times
    return net.training.update - before


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_read_beside_fit_is_of_whole_steps(tmp_path, threads):
    before = nn.get_num_threads()
    nn.set_num_threads(threads)
    try:
        net, few = equal_columns(), np.ones((3, 16), "f4")
        kernels = [np.full(w.shape, 1.0, "f4") for w in net.weights]
        paths = {}

        def predict():
            for given in (few, few.astype("f8")):
                result = net.predict(given)
                assert len(np.unique(result)) == 1, result

        def copy():
            for kernel in net.get_weights():
                assert len(np.unique(kernel)) == 1, kernel

        def save():
            path = paths.setdefault(threading.get_ident(), tmp_path / f"{threading.get_ident()}.safetensors")
            net.save(path)
            for kernel in nn.load_model(path).get_weights():
                assert len(np.unique(kernel)) == 1, kernel

        def set_weights():
            net.set_weights(kernels)
            predict()

        for work in (predict, copy, save, set_weights):
            assert beside_fit(net, work) % 80 == 0  # whole runs of 5 epochs
    finally:
        nn.set_num_threads(before)


def test_layers_and_models_that_share_weights_are_read_at_rest_too():
    net = equal_columns()
    inner = nn.Model(net.inputs, net.layers[0].output)
    joined = nn.Model(net.inputs, nn.Concatenate()([net.layers[0].output, net.outputs[0]]))
    few = np.ones((2, 16), "f4")

    def ask():
        assert len(np.unique(net.layers[1].get_weights()[0])) == 1
        assert len(np.unique(inner.predict(few))) == 1
        assert len(np.unique(joined.predict(few))) <= 2

    assert beside_fit(net, ask) > 0


@pytest.mark.parametrize("kind", ["evaluate", "predict", "fit"])
def test_a_long_run_lets_others_have_their_turn(kind, monkeypatch):
    """A lock alone would be taken again by the thread that released it. Here the other thread comes in the run's
    first stretch, and the run has as much patience as a loaded machine needs."""
    x = np.ones((64, 4), "f4")
    net = nn.Sequential([nn.Input((4,)), nn.Dense(1)])
    net.compile("adam", "mse")
    few, asked, waited, came = x[:2], threading.Event(), [], []
    net.predict(few)
    run, give_way = Executable.run, locks.Guard.give_way

    def run_and_wait(executable, *arguments):
        if not asked.is_set():  # the first stretch of the long run: the other thread comes in its midst
            asked.set()
            while not net.engine.guard.waiting:
                time.sleep(1e-3)
            waited.append((threading.get_ident(), net.engine.guard.turns))
        return run(executable, *arguments)

    def look(guard):
        give_way(guard)
        if not came and (threading.get_ident(), guard.turns - 1) in waited:
            came.append(True)

    def run_long():
        if kind == "predict":
            net.predict(x, batch_size=1)
        elif kind == "evaluate":
            net.evaluate(x, x[:, :1], batch_size=1, verbose=0)
        else:
            net.fit(x, x[:, :1], batch_size=1, verbose=0)

    def ask():
        assert asked.wait(SECONDS)
        net.predict(few)

    monkeypatch.setattr(locks, "_PATIENCE", SECONDS)
    monkeypatch.setattr(engine, "SLICE", 1e-9)  # a step a stretch
    monkeypatch.setattr(Executable, "run", run_and_wait)
    monkeypatch.setattr(locks.Guard, "give_way", look)
    in_threads(run_long, ask)
    assert came, "a prediction waited for the whole run"


def test_who_waits_comes_before_the_next_stretch(monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", SECONDS)
    guard, order = locks.Guard(), []

    def wait():
        with guard.turn():
            order.append("other")

    other = threading.Thread(target=wait, daemon=True)
    for stretch in range(1000):
        guard.give_way()
        with guard.turn() as nested:
            order.append(stretch)
            assert not nested
            if stretch == 2:
                other.start()
                while not guard.waiting:
                    pass
    other.join(SECONDS)
    assert order[:4] == [0, 1, 2, "other"] and not guard.waiting


def test_two_threads_that_save_to_one_path_leave_whole_files(tmp_path):
    path = tmp_path / "net.safetensors"
    nets = [nn.Sequential([nn.Input((50,)), nn.Dense(200)]) for _ in range(3)]
    nets[0].save(path)
    known = [net.get_weights()[0] for net in nets]

    def load():
        for _ in range(60):
            found = nn.load_model(path).get_weights()[0]
            assert any(np.array_equal(found, kernel) for kernel in known)

    in_threads(load, *[lambda net=net: [net.save(path) for _ in range(60)] for net in nets])
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_model_is_built_once_by_threads_that_begin_together():
    x = np.ones((4, 3), "f4")
    for _ in range(5):
        layers = [nn.Dense(4, activation="relu") for _ in range(3)]
        net = nn.Sequential([*layers, nn.Dense(2)])
        other = nn.Sequential([layers[0], nn.Dense(2)])
        start, results = threading.Barrier(6), []

        def work(net=net, start=start, results=results):
            start.wait()
            results.append(net.predict(x))

        in_threads(*[work] * 4, *[lambda other=other: work(other, results=[])] * 2)
        assert len(net.weights) == 8 and len(other.weights) == 4
        assert all(np.array_equal(result, results[0]) for result in results)


def test_evaluations_of_one_model_in_threads_do_not_mix():
    rng = np.random.default_rng(0)
    net = nn.Sequential([nn.Input((8,)), nn.Dense(4)])
    net.compile("sgd", "mse", metrics=["mse"])
    sets = [(rng.normal(size=(n, 8)), rng.normal(size=(n, 4))) for n in (300, 200)]
    expected = [net.evaluate(x, y, batch_size=8, verbose=0) for x, y in sets]
    each = nn.LambdaCallback(on_test_batch_end=lambda batch, logs: None)

    def work(number):
        for callbacks in (None, each) * 5:
            assert net.evaluate(*sets[number], batch_size=8, verbose=0, callbacks=callbacks) == expected[number]

    in_threads(lambda: work(0), lambda: work(1), lambda: work(0))


def test_training_in_the_midst_of_a_step_is_refused():
    """As a signal handler that comes there would: the thread is inside already."""
    net = equal_columns()
    x = np.ones((4, 16), "f4")
    expected = net.predict(x)
    with net.engine.guard.turn() as nested:
        assert not nested
        state = net.engine.infer_state.copy()
        assert np.array_equal(net.predict(x), expected) and np.array_equal(net.engine.infer_state, state)
        with pytest.raises(RuntimeError, match="expected no training in the midst of a step"):
            net.train_on_batch(x, x)
    assert np.isfinite(net.train_on_batch(x, x))


def test_guards_are_shared_where_parameters_are():
    a, b = nn.Dense(3), nn.Dense(3)
    one = nn.Sequential([nn.Input((3,)), a])
    two = nn.Sequential([nn.Input((3,)), b])
    assert one.engine.guard is not two.engine.guard
    more = nn.Sequential([nn.Input((3,)), a, nn.Dense(2)])
    assert more.engine.guard is one.engine.guard
    both = nn.Sequential([nn.Input((3,)), b, a])
    x = np.ones((2, 3), "f4")
    assert isinstance(both.engine.guard, locks.Guards) and np.allclose(both.predict(x), one.predict(two.predict(x)))
    both.compile("sgd", "mse")
    one.compile("sgd", "mse")
    in_threads(lambda: both.fit(x, x, epochs=30, verbose=0), lambda: one.fit(x, x, epochs=30, verbose=0),
               lambda: [two.predict(x) for _ in range(100)])  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_runs_leaves_the_child_free():
    assert (
        run("""
        x = np.ones((4000, 100), "f4")
        net = nn.Sequential([nn.Input((100,)), nn.Dense(400), nn.Dense(1)])
        net.compile("adam", "mse")
        net.predict(x[:4])
        thread = threading.Thread(target=net.fit, args=(x, x[:, :1]), kwargs={"epochs": 40, "verbose": 0})
        thread.start()
        time.sleep(.1)
        good = []
        for _ in range(5):
            child = os.fork()
            if child == 0:
                net.predict(x[:4])
                net.fit(x[:64], x[:64, :1], verbose=0)
                os._exit(0 if net.training.update > 0 else 1)
            good.append(os.waitpid(child, 0)[1])
        thread.join()
        print(*good)
    """)
        == ["0"] * 5
    )


def test_seeds_of_a_pool_do_not_mix():
    """``set_seed`` in a thread seeds what follows there: fits of a pool are those of one after the other."""
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("f4")

    def fit(seed):
        nn.set_seed(seed)
        together.wait()
        net = nn.Sequential([nn.Input((3,)), nn.Dense(4, activation="relu"), nn.Dropout(0.5), nn.Dense(1)])
        net.compile("sgd", "mse")
        assert nn.get_seed() == seed == net.settings.seed
        net.fit(nn.data.prefetch([(x, x[:, :1])]), verbose=0)
        net.fit(x, x[:, :1], batch_size=8, verbose=0)
        return net.get_weights()

    together = threading.Barrier(1)
    expected = [fit(seed) for seed in range(24)]
    nn.set_seed(7)
    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fit, range(24)))
    assert nn.get_seed() == 7
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    nn.set_seed(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_draws_and_names():
    """Neither seeds nor automatic names have a lock that the child could find taken."""
    assert run("""
        sys.setswitchinterval(1e-4)
        nn.layers, nn.seeds.stream("initializer")  # imports: a fork in the midst of one is Python's own matter
        stop = threading.Event()
        def make():
            while not stop.is_set():
                nn.layers.module.unique_name("dense")
                nn.seeds.stream("initializer")
        threads = [threading.Thread(target=make) for _ in range(2)]
        for thread in threads: thread.start()
        codes = set()
        for _ in range(100):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                nn.seeds.stream("initializer")
                os._exit(7 if nn.layers.module.unique_name("dense").startswith("dense_") else 1)
            codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        for thread in threads: thread.join()
        print(codes)
    """) == ["{7}"]  # fmt: skip


def test_a_signal_handler_makes_models_while_models_are_made():
    """It finds no lock taken, takes no number twice, and does not disturb what it interrupts."""
    assert run("""
        drawn, times, x = [], [], np.ones((2, 3), "f4")
        def make():
            drawn.append(nn.seeds._global.next("initializer"))
            net = nn.Sequential([nn.Input((3,)), nn.Dense(2)])
            assert net.predict(x).shape == (2, 2)
        def handler(*_):
            times.append(1)
            make()
        make()
        signal.signal(signal.SIGALRM, handler)
        while len(times) < 100:
            signal.setitimer(signal.ITIMER_REAL, 1e-4 * (1 + len(drawn) % 20))  # once, somewhere in what follows
            make()
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(len(drawn) == len(set(drawn)))
    """) == ["True"]


def test_models_with_seeds_of_their_own_have_the_same_bits_in_any_threads():
    """Without one they draw from the seed of the process, in whatever order they come."""
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("f4")

    def fit(seed):
        together.wait()
        hidden = [nn.Dense(4, activation="relu"), nn.Dropout(0.5), nn.Dense(1)]
        net = nn.Sequential([nn.Input((3,)), *hidden] if seed % 2 else hidden, seed=seed)  # built now, or by fit
        net.compile("sgd", "mse")
        net.fit(x, x[:, :1], batch_size=8, verbose=0)
        return net.get_weights()

    together = threading.Barrier(1)
    expected = [fit(seed) for seed in range(16)]
    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fit, range(16)))
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("known", [True, False])
def test_a_first_prediction_of_six_threads_builds_once(known):
    """An unbuilt model, or one that is built and was not compiled to Programs: one set of weights, one result."""
    x = np.ones((4, 3), "f4")
    for _ in range(5):
        layers = [nn.Dense(4, activation="relu"), nn.BatchNormalization(), nn.Dense(4, activation="relu"), nn.Dense(2)]
        net = nn.Sequential([nn.Input((3,)), *layers] if known else layers)
        start, results = threading.Barrier(6), []

        def work(net=net, start=start, results=results):
            start.wait()
            results.append(net.predict(x))

        in_threads(*[work] * 6)
        assert len(net.weights) == 10 and len(results) == 6
        assert all(np.array_equal(result, results[0]) for result in results)
