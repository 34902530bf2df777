"""Fixtures for all tests: every ISA that the CPU has, both dtypes, thread counts, random numbers."""

import os
import signal

import numpy as np
import pytest

os.environ["NNCORE_CACHE_DIR"] = ""  # what an earlier run has compiled is not what is tested

try:
    from nncore.cpu import x86_level
except ModuleNotFoundError as error:
    # Without the package, the folder tests/nncore is what Python finds under that name.
    if (error.name or "").partition(".")[0] != "nncore":
        raise
    pytest.exit(f'{error}: install nnpy first (pip install ".[test]"), or see CONTRIBUTING.md', returncode=4)

import nncore
from nncore import kernels

# A job in the background of a script ignores Ctrl-C, and so would all tests of it, and the processes that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

THREADS = (1, 2, 3, 7)
ISAS = [isa for isa in kernels.compiled() if isa == "native" or int(isa[1:]) <= x86_level()]
assert ISAS, "no compiled kernels that run here: every test by ISA would be skipped"
# Relative error allowed to a kernel of a few operations an element, against NumPy in the same dtype.
TOLERANCE = {"float32": 5e-6, "float64": 1e-13}


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="tests/robustness in full: hours in place of a minute")


@pytest.fixture
def long(request):
    """long(short, whole): how often a test tries."""
    return lambda short, whole: whole if request.config.getoption("--long") else short


@pytest.fixture(params=ISAS)
def isa(request):
    """Each ISA variant that runs here."""
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Each dtype that kernels are compiled for."""
    return request.param


@pytest.fixture
def rng():
    """Random numbers, the same in every run."""
    return np.random.default_rng(20240607)


@pytest.fixture(autouse=True)
def _restore_threads():
    yield
    nncore.set_num_threads(0)


@pytest.fixture
def teams(monkeypatch):
    """Programs compiled in the test give all threads of the team work, however small they are."""
    from nnpy.compiler import schedule

    for name, value in (("_NS_PER_THREAD", 1e-3), ("_NS_OF_ONE", 0), ("_LEAST_ROWS", 1)):
        monkeypatch.setattr(schedule, name, value)


@pytest.fixture
def run():
    """run(name, ..., threads=1, state=None): one kernel, once; arguments as ``nncore.Op``."""

    def run(name, *, threads=1, state=None, **arguments):
        nncore.set_num_threads(threads)
        nncore.Program([nncore.Op(name, **arguments)], nncore.new_state() if state is None else state).run()

    return run


@pytest.fixture
def every_thread_count():
    """every_thread_count(compute): compute(threads) -> arrays, which must have the same bits for all thread counts;
    returns those of one thread."""

    def check(compute):
        expected = compute(1)
        for threads in THREADS[1:]:
            for number, (one, many) in enumerate(zip(expected, compute(threads), strict=True)):
                assert one.tobytes() == many.tobytes(), f"output {number} differs between 1 and {threads} threads"
        return expected

    return check


@pytest.fixture
def assert_close():
    """assert_close(actual, expected, scale=1, factor=1): within ``factor`` times the dtype's TOLERANCE, relative to
    ``scale`` where values are smaller."""

    def check(actual, expected, scale=1.0, factor=1.0):
        expected = np.asarray(expected)
        assert actual.shape == expected.shape
        tolerance = TOLERANCE[actual.dtype.name] * factor
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)

    return check


@pytest.fixture
def close(dtype):
    def check(actual, expected, terms=1):
        """Within a few units in the last place of a sum of so many products of about 1."""
        assert actual.shape == expected.shape
        tolerance = (8 + np.sqrt(terms)) * np.finfo(dtype).eps
        np.testing.assert_allclose(actual, expected, rtol=4 * tolerance, atol=4 * tolerance * np.sqrt(terms))

    return check
