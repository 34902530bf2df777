"""Numba: a user's scalar Python function becomes a Kernel, which the runtime cannot tell from a compiled one.

Numba is imported when the first function is compiled that is not on disk (``nncore.jit_cache``).
"""

from __future__ import annotations

import inspect
import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nncore import jit_cache
from nncore.memory import LAYOUT

# The Op struct of op.pxd in 8-byte words: kernel, pointers, sizes, ...
_POINTER = 1
_SIZE = _POINTER + LAYOUT["POINTERS"]
_WORDS = LAYOUT["OP_BYTES"] // 8
_RAISED = "nncore_scalar_raised"


class ScalarKernel(NamedTuple):
    """The ``address`` of a kernel; ``owner`` is the machine code, and whoever uses the address keeps it alive."""

    address: int
    owner: Any


def scalar_kernel(f, arity: int = 1, dtype="float32") -> ScalarKernel:
    """The kernel out[i] = f(a[i]), or f(a[i], b[i]) for arity 2, over n[0] elements; pointers: out, then the arguments.

    ``f``: a Python function of ``arity`` (1 or 2) scalars that returns a real number, that Numba can compile without
    the interpreter and that cannot raise (a division by zero does not; what calls itself might); it must not depend on
    anything that changes later. Threads take contiguous shares. Compiled once for each function and dtype. Raises
    TypeError, naming the function, for anything else, RuntimeError if Numba's compiler is switched off.
    """
    return _kernel(_checked(f, arity), arity, np.dtype(dtype).name, False)


def gradient_kernel(derivative, arity: int = 1, dtype="float32") -> ScalarKernel:
    """The kernel dx[i] = dy[i] * derivative(x[i]), or derivative(a[i], x[i]) for arity 2, over n[0] elements; pointers:
    dx, dy, then the arguments. Else as scalar_kernel."""
    return _kernel(_checked(derivative, arity), arity, np.dtype(dtype).name, True)


def _checked(f, arity: int):
    if arity not in (1, 2):
        raise ValueError(f"scalar_kernel: expected arity 1 or 2, got {arity!r}")
    expected = f"a function of {'one argument' if arity == 1 else 'two arguments'}"
    python = getattr(f, "py_func", f)  # what numba.njit wrapped
    if not inspect.isfunction(python):
        raise TypeError(f"expected {expected}, got {f!r}")
    parameters = inspect.signature(python).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    plain = all(p.default is p.empty for p in positional)
    if len(positional) != arity or len(parameters) != arity or not plain:
        raise TypeError(f"{_name(python)}: expected {expected}, got {_name(python)}{inspect.signature(python)}")
    return python


def _name(f) -> str:
    return f.__qualname__.rpartition("<locals>.")[2]


@lru_cache(maxsize=256)
def _kernel(f: Any, arity: int, dtype: str, gradient: bool) -> ScalarKernel:
    if dtype not in ("float32", "float64"):
        raise TypeError(f"{_name(f)}: expected dtype float32 or float64, got {dtype}")
    name = jit_cache.key(f, arity, dtype, gradient, LAYOUT)
    ready = jit_cache.load(name) if name is not None else None
    if ready is not None:
        return ScalarKernel(ready.address, ready)
    import numba
    from numba import types

    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # Numba sets it by the environment
        raise RuntimeError(f"{_name(f)}: Numba must compile it, and NUMBA_DISABLE_JIT is set; unset it")
    real: Any = {"float32": types.float32, "float64": types.float64}[dtype]
    scalar: Any = numba.njit(error_model="numpy", fastmath=False, forceinline=True)(f)
    _compile(scalar, f, (real,) * arity)
    share, array = _access(real)
    guarded = _guarded()

    # Four texts and not one, because Numba compiles them: a loop that branches on arity would not be vectorised.
    if gradient and arity == 2:

        def kernel(op, thread, threads):
            words, first, count = share(op, thread, threads)
            out, dy = array(words[0], first, count), array(words[1], first, count)
            x, y = array(words[2], first, count), array(words[3], first, count)
            for i in range(count):
                out[i] = dy[i] * real(guarded(scalar, (x[i], y[i])))

    elif gradient:

        def kernel(op, thread, threads):
            words, first, count = share(op, thread, threads)
            out, dy, x = array(words[0], first, count), array(words[1], first, count), array(words[2], first, count)
            for i in range(count):
                out[i] = dy[i] * real(guarded(scalar, (x[i],)))

    elif arity == 1:

        def kernel(op, thread, threads):
            words, first, count = share(op, thread, threads)
            out, x = array(words[0], first, count), array(words[1], first, count)
            for i in range(count):
                out[i] = real(guarded(scalar, (x[i],)))

    else:

        def kernel(op, thread, threads):
            words, first, count = share(op, thread, threads)
            out, x, y = array(words[0], first, count), array(words[1], first, count), array(words[2], first, count)
            for i in range(count):
                out[i] = real(guarded(scalar, (x[i], y[i])))

    signature = types.void(types.CPointer(types.int64), types.int32, types.int32)
    compiled: Any = numba.cfunc(signature, error_model="numpy")(kernel)
    text = compiled.inspect_llvm()
    if _RAISED in text:
        raise TypeError(
            f"{_name(f)}: expected a function that cannot raise, and it can: by raise, assert, an index or a function "
            "that it calls; return a number instead, as math.nan"
        )
    if name is not None:
        jit_cache.store(name, compiled.native_name, text)
    return ScalarKernel(compiled.address, compiled)


def _compile(scalar, f, arguments) -> None:
    """Compile for these argument types; TypeError if that fails or the result is not a real number."""
    from numba import types

    try:
        scalar.compile(arguments)
    except Exception as error:  # Numba's own, and whatever its front end lets through
        raise TypeError(f"{_name(f)}: Numba cannot compile it: {_reason(error)}") from None
    result = scalar.overloads[arguments].signature.return_type
    if not isinstance(result, types.Float | types.Integer | types.Boolean):
        raise TypeError(f"{_name(f)}: expected a function that returns a real number, and it returns {result}")


@lru_cache(maxsize=1)
def _guarded():
    """guarded(scalar, arguments): the call, and where that raises a call of _RAISED, which does not exist.

    Numba's functions return a status. If the optimizer leaves the name in a kernel, the function can raise: the kernel
    would stop there, and nobody would know. A raise that can never be reached is none.
    """
    import llvmlite.binding as llvm
    import llvmlite.ir as ir
    from numba.core import cgutils
    from numba.extending import intrinsic

    llvm.add_symbol(_RAISED, 1)  # what can raise is linked before it is refused, and never run

    @intrinsic
    def guarded(typing, scalar, arguments):
        signature = scalar.get_call_type(typing, tuple(arguments.types), {})

        def codegen(context, builder, _, values):
            compiled = scalar.dispatcher.overloads[tuple(arguments.types)]
            context.active_code_library.add_linking_library(compiled.library)
            given = cgutils.unpack_tuple(builder, values[1])
            status, result = context.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, given)
            with cgutils.if_unlikely(builder, status.is_error):
                empty = ir.FunctionType(ir.VoidType(), ())
                builder.call(cgutils.get_or_insert_function(builder.module, empty, _RAISED), ())
            return result

        return signature.return_type(scalar, arguments), codegen

    return guarded


def _reason(error: Exception) -> str:
    """The line of Numba's message that says what is wrong."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" -") for line in str(error).splitlines()]
    headings = ("Failed in nopython", "During", "File ", "Overload", "Known signatures", "There are")
    lines = [line for line in lines if line and not line.startswith(headings)]
    if not lines:
        return type(error).__name__
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


@lru_cache(maxsize=2)
def _access(real):
    """Compiled functions that read an Op: share(op, thread, threads) -> (addresses, first, count) of the thread's
    contiguous share, and array(address, first, count) -> those elements."""
    import numba
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def pointer(context, address):
        def codegen(context, builder, signature, values):
            return builder.inttoptr(values[0], context.get_value_type(types.CPointer(real)))

        return types.CPointer(real)(types.int64), codegen

    bytes_each = real.bitwidth // 8

    @numba.njit
    def array(address, first, count):
        return numba.carray(pointer(address + first * bytes_each), (count,))  # type: ignore[call-arg]

    @numba.njit
    def share(op, thread, threads):
        words = numba.carray(op, (_WORDS,))
        count = words[_SIZE]
        first = count * thread // threads
        return words[_POINTER:_SIZE], first, count * (thread + 1) // threads - first

    return share, array
