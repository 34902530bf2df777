"""Kernels that Numba makes of Python functions: values, shares of threads, and every way to get the function wrong."""

import gc
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from nncore import Op, Program, new_state, set_num_threads
from nncore.jit import gradient_kernel, scalar_kernel


def swish(x):
    return x / (1 + math.exp(-x))


def swish_derivative(x):
    s = 1 / (1 + math.exp(-x))
    return s + x * s * (1 - s)


def run(kernel, outputs, inputs, count, threads=1):
    set_num_threads(threads)
    op = Op.custom("f", kernel.address, writes=outputs, reads=inputs, sizes=[count], keep=kernel)
    Program([op], new_state()).run()


@pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 1009])
def test_values_at_every_size_and_thread_count(rng, dtype, count, every_thread_count, assert_close):
    x, dy = rng.standard_normal((2, count)).astype(dtype)

    def compute(threads):
        y, dx = np.full((2, count), 9, dtype)
        run(scalar_kernel(swish, 1, dtype), [y], [x], count, threads)
        run(gradient_kernel(swish_derivative, 1, dtype), [dx], [dy, x], count, threads)
        return [y, dx]

    y, dx = every_thread_count(compute)
    sigmoid = 1 / (1 + np.exp(-x))
    assert_close(y, x * sigmoid)
    assert_close(dx, dy * (sigmoid + x * sigmoid * (1 - sigmoid)))


def test_two_arguments(rng, dtype):
    x, y = rng.standard_normal((2, 31)).astype(dtype)
    out = np.zeros(31, dtype)
    run(scalar_kernel(lambda a, b: max(a, b) * 2, 2, dtype), [out], [x, y], 31, threads=3)
    np.testing.assert_array_equal(out, np.maximum(x, y) * 2)
    run(gradient_kernel(lambda a, b: a - b, 2, dtype), [out], [x, y, x], 31, threads=3)
    np.testing.assert_array_equal(out, x * (y - x))


def test_whole_numbers_and_truth_values_are_real_numbers(dtype):
    x = np.arange(-2, 3).astype(dtype)
    out = np.zeros(5, dtype)
    run(scalar_kernel(lambda a: a > 0, 1, dtype), [out], [x], 5)
    np.testing.assert_array_equal(out, [0, 0, 0, 1, 1])
    run(scalar_kernel(lambda a: 7, 1, dtype), [out], [x], 5)
    np.testing.assert_array_equal(out, [7] * 5)


def test_division_by_zero_is_infinity_and_not_an_exception(dtype):
    out = np.zeros(2, dtype)
    run(scalar_kernel(lambda a: 1 / a, 1, dtype), [out], [np.array([0, -4], dtype)], 2)
    np.testing.assert_array_equal(out, [np.inf, -0.25])


def test_a_step_among_compiled_kernels(rng):
    """The runtime cannot tell the two apart: order and barriers hold at any number of threads."""
    x = rng.standard_normal((33, 40)).astype(np.float32)
    y, z = np.zeros_like(x), np.zeros_like(x)
    kernel = scalar_kernel(swish)
    set_num_threads(3)
    ops = [
        Op("softmax", y=y, x=x, rows=33, cols=40),
        Op.custom("swish", kernel.address, writes=[z], reads=[y], sizes=[z.size], keep=kernel),
        Op("softmax", y=y, x=z, rows=33, cols=40),
    ]
    Program(ops, new_state()).run(50)
    once = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    again = np.exp(once / (1 + np.exp(-once)))
    np.testing.assert_allclose(y, again / again.sum(1, keepdims=True), rtol=1e-5)


def test_compiled_once_and_kept_alive(dtype):
    kernel = scalar_kernel(swish, 1, dtype)
    assert scalar_kernel(swish, 1, dtype) is kernel
    assert scalar_kernel(swish, 1, "float64" if dtype == "float32" else "float32") is not kernel

    kernel = scalar_kernel(lambda x: x + 3, 1, dtype)
    out, x = np.zeros(4, dtype), np.arange(4).astype(dtype)
    program = Program([Op.custom("f", kernel.address, writes=[out], reads=[x], sizes=[4], keep=kernel)], new_state())
    del kernel
    gc.collect()
    program.run()
    np.testing.assert_array_equal(out, x + 3)


def unknown_global(x):
    return no_such_function(x)  # noqa: F821


def no_result(x):
    x + 1


def sometimes_a_result(x):
    if x > 0:
        return 1.0


def text(x):
    return "a"


def number_and_text(x):
    return x + "a"


def pair(x):
    return x, x


def imaginary(x):
    return complex(x, 1)


def missing_attribute(x):
    return np.no_such_thing(x)


def opens_a_file(x):
    return len(open(x).read())


def defines_a_class(x):
    class A:
        pass

    return x


@pytest.mark.parametrize(
    "f, reason",
    [
        (unknown_global, "no_such_function"),
        (number_and_text, r"add\(float32"),
        (missing_attribute, "no_such_thing"),
        (opens_a_file, "open"),
        (defines_a_class, "LOAD_BUILD_CLASS"),
        (no_result, "returns a real number.* none"),
        (sometimes_a_result, "returns a real number"),
        (text, "returns a real number"),
        (pair, "returns a real number.*Tuple"),
        (imaginary, "returns a real number.*complex"),
    ],
)
def test_what_numba_cannot_compile_to_a_real_number(f, reason):
    with pytest.raises(TypeError, match=f"(?s)^{f.__name__}: .*{reason}") as error:
        scalar_kernel(f)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    "f",
    [lambda: 1, lambda a, b: a, lambda *a: 1, lambda a, *, b: a, lambda a, **k: a, lambda a, b=2: a, lambda a=1: a],
    ids=lambda f: "lambda",
)
def test_not_one_argument(f):
    for make in (scalar_kernel, gradient_kernel):
        with pytest.raises(TypeError, match=r"<lambda>: expected a function of one argument, got <lambda>\("):
            make(f)


@pytest.mark.parametrize("f", [3, "relu", None, math.exp, np.exp])
def test_not_a_function(f):
    with pytest.raises(TypeError, match="expected a function of one argument, got "):
        scalar_kernel(f)


def test_wrong_arity_and_dtype():
    with pytest.raises(TypeError, match="swish: expected a function of two arguments"):
        scalar_kernel(swish, 2)
    with pytest.raises(ValueError, match="arity 1 or 2, got 3"):
        scalar_kernel(swish, 3)
    with pytest.raises(TypeError, match="expected dtype float32 or float64, got int32"):
        scalar_kernel(swish, 1, "int32")


def raises(x):
    if x > 3:
        raise ValueError("too large")
    return x


def looks_up(x):
    return (1.0, 2.0, 3.0)[int(x)]


def calls_what_raises():
    """Functions that call another one, which is inlined or is not; Numba is imported late in tests too."""
    import numba

    @numba.njit
    def checked(x):
        if x < 0:
            raise ValueError("negative")
        return math.sqrt(x)

    @numba.njit
    def long(x):
        total = 0.0
        for i in range(20):
            if x + i > 100:
                raise OverflowError("too large")
            total += math.exp(x * i) + math.sin(total) * math.cos(x)
        return total

    return [lambda x: checked(x) + 1, lambda x: long(x) + long(2 * x)]


def asserts():
    """Not written here, where pytest would write it anew."""
    names: dict = {}
    exec("def f(x):\n    assert x < 3\n    return x", names)
    return [names["f"]]


@pytest.mark.parametrize("make", [lambda: [raises, looks_up], calls_what_raises, asserts], ids=lambda make: "")
def test_what_can_raise_is_refused(make, dtype):
    """A kernel would stop in the middle, and nobody would know."""
    for f in make():
        for compile_ in (scalar_kernel, gradient_kernel):
            with pytest.raises(TypeError, match=r"^(raises|looks_up|<lambda>|f): expected .* cannot raise") as error:
                compile_(f, dtype=dtype)
            assert "\n" not in str(error.value)


def halves(x):
    count = 0
    while x > 1 and count < 50:
        x /= 2
        count += 1
    return count // 3 + count % 5 + x**2 - 7 // (count + 1)


def power_series(x):
    total = 0.0
    for i in range(1, 6):
        total += x**i / i
    return math.log(total) + math.sqrt(x) + math.pow(x, x) + round(x)


def in_numpy(x):
    return np.tanh(x) + np.maximum(x, 0.5) + (1 / x if x != 2 else np.inf) + int(x) // 2


def never_raises(x):
    if x > 0 and x < -1:
        raise ValueError("both")
    return x


def calls_what_is_long():
    """A function that calls a long one twice."""
    import numba

    lines = [f"    y = math.sin(y) * {i}.5 + math.exp(-y * x) / (1 + y * y)" for i in range(20)]
    names: dict = {"math": math}
    exec("\n".join(["def long(x):", "    y = x", *lines, "    return y"]), names)
    long = numba.njit(names["long"])
    return lambda x: long(x) + long(x + 1)


@pytest.mark.parametrize("f", [swish, halves, power_series, in_numpy, never_raises, None])
def test_what_cannot_raise_is_taken(f, dtype):
    f = f or calls_what_is_long()
    x, out = np.linspace(0.1, 5, 9).astype(dtype), np.zeros(9, dtype)
    run(scalar_kernel(f, dtype=dtype), [out], [x], 9)
    assert np.isfinite(out).all()


def test_numba_is_not_imported_before_it_is_needed():
    code = "import sys, nncore, nncore.jit; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_numbas_compiler_nothing_is_compiled():
    code = """
from nncore.jit import scalar_kernel
def f(x): return x
try: scalar_kernel(f)
except RuntimeError as error: print(error)
"""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "f: Numba must compile it, and NUMBA_DISABLE_JIT is set; unset it", result.stderr
