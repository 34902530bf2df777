"""Kernels of Python functions on disk: a second process takes them from there, and only where nothing has changed."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from nncore import jit_cache

CODE = """
import math, sys
import numpy as np
from nncore import Op, Program, new_state
from nncore.jit import gradient_kernel, scalar_kernel
slope = {slope}
def f(x): return slope * x / (1 + math.exp(-x))
def g(t, x): return slope * x * math.exp(-t * t)
x = np.linspace(-3, 3, 101).astype("{dtype}")
for make, inputs in ((scalar_kernel, [x]), (gradient_kernel, [x + 1, x]), (gradient_kernel, [x + 1, x, x - 1])):
    arity = len(inputs) - (make is gradient_kernel)
    kernel, y = make(f if arity == 1 else g, arity, "{dtype}"), np.zeros_like(x)
    Program([Op.custom("f", kernel.address, writes=[y], reads=inputs, sizes=[101], keep=kernel)], new_state()).run()
    print(y.tobytes().hex())
print("numba" in sys.modules)
"""


@pytest.fixture
def run(tmp_path):
    """run(slope, dtype): what a process prints that compiles f."""

    def run(slope=1.5, dtype="float32", where=str(tmp_path / "kernels")):
        result = subprocess.run(
            [sys.executable, "-c", CODE.format(slope=slope, dtype=dtype)],
            env=os.environ | {"NNCORE_CACHE_DIR": where},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    return run


def test_a_second_process_does_without_numba(run, tmp_path):
    *values, numba = run()
    assert numba == "True"
    *again, numba = run()
    assert again == values and numba == "False"
    other = run(slope=2.5)  # what f refers to has changed
    assert other[-1] == "True" and other[:-1] != values
    assert run(dtype="float64")[-1] == "True"
    for file in (tmp_path / "kernels").iterdir():  # cut short, as by a full disk
        file.write_bytes(file.read_bytes()[:-100])
    *values_of_a_third, numba = run()
    assert values_of_a_third == values and numba == "True"


def test_without_a_folder_nothing_is_kept(run, tmp_path):
    assert run(where="")[-1] == run(where="")[-1] == "True"
    (tmp_path / "file").write_text("not a folder")
    assert run(where=str(tmp_path / "file"))[-1] == "True"


scale = 2.0


def scaled(x):
    return x * scale


def test_what_a_function_refers_to_is_part_of_its_key(monkeypatch):
    def made(factor):
        return lambda x: x * factor

    assert jit_cache.key(made(1.0)) == jit_cache.key(made(1.0)) != jit_cache.key(made(2.0))
    assert jit_cache.key(made(1)) != jit_cache.key(made(1.0)) != jit_cache.key(made(np.float32(1)))
    assert jit_cache.key(made(1.0), "float32") != jit_cache.key(made(1.0), "float64")
    before = jit_cache.key(scaled)
    monkeypatch.setitem(globals(), "scale", 3.0)
    assert jit_cache.key(scaled) != before
    assert jit_cache.key(lambda x: scaled(x)) != jit_cache.key(lambda x: made(1.0)(x))
    assert jit_cache.key(lambda x: math.exp(x)) != jit_cache.key(lambda x: math.sin(x))


def test_what_may_change_unseen_has_no_key():
    table = np.ones(3)

    class Settings:
        rate = 1.0

    for f in (lambda x: x * table[0], lambda x: x * Settings.rate, lambda x: x + os.getpid()):
        assert jit_cache.key(f) is None


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("NNCORE_CACHE_DIR", str(tmp_path))
    assert jit_cache.folder() == tmp_path
    monkeypatch.setenv("NNCORE_CACHE_DIR", "")
    assert jit_cache.folder() is None
    monkeypatch.delenv("NNCORE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jit_cache.folder() == tmp_path / "nnpy" / "jit"
