"""Kernels that Numba has made, on disk: the next process needs neither Numba nor the seconds of its analysis for them.

A file holds what LLVM's optimizer has left of a kernel, as text. Its name is a hash of all that the kernel follows
from: the function's code and what it refers to, versions, the CPU. NNCORE_CACHE_DIR says where (empty: nowhere), else
the user's cache folder.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import types
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_MODULES = {"math", "cmath", "numpy"}  # what a name in them means depends on versions alone
# Functions of Numba's that a kernel names where it would report an exception, which it cannot raise.
_NEVER = re.compile(r"numba_|NRT_")


class _UnknownError(Exception):
    """Something whose value cannot be written down."""


class Loaded(NamedTuple):
    """Machine code that was on disk."""

    address: int
    engine: Any


def folder() -> Path | None:
    """Where files are kept."""
    given = os.environ.get("NNCORE_CACHE_DIR")
    if given is not None:
        return Path(given) if given else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "nnpy" / "jit"


def key(f: types.FunctionType, *options) -> str | None:
    """A name for the kernel of a function; None if the function refers to what may change unseen."""
    import hashlib

    import llvmlite
    import llvmlite.binding as llvm

    from nncore.machine import version

    here = [sys.version, platform.machine(), np.__version__, version("numba"), llvmlite.__version__]
    here += [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    here += [Path(__file__).with_name("jit.py").read_bytes(), *options]
    try:
        text = repr((here, _function(f, {})))
    except _UnknownError:
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def load(name: str) -> Loaded | None:
    """The kernel of that name, if there is one that is whole."""
    where = folder()
    if where is None:
        return None
    try:
        checksum, symbol, text = (where / f"{name}.ll").read_text(encoding="utf-8").split("\n", 2)
    except (OSError, ValueError):
        return None
    if checksum != _checksum(symbol, text):
        return None
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, codemodel="jitdefault",
        jit=True,
    )  # fmt: skip
    engine = llvm.create_mcjit_compiler(module, target)
    for function in module.functions:
        outside = function.is_declaration and not function.name.startswith("llvm.")
        if outside and llvm.address_of_symbol(function.name) is None:
            if not _NEVER.match(function.name):
                return None  # of a library that Numba has loaded
            llvm.add_symbol(function.name, llvm.address_of_symbol("abort"))
    engine.finalize_object()
    return Loaded(engine.get_function_address(symbol), engine)


def store(name: str, symbol: str, text: str) -> None:
    """Keep a kernel: ``text``, in which it is the function ``symbol``. What cannot be written is made again."""
    import tempfile

    where = folder()
    if where is None:
        return
    with suppress(OSError):
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=where, suffix=".tmp", delete=False, encoding="utf-8") as file:
            file.write(f"{_checksum(symbol, text)}\n{symbol}\n{text}")
        os.replace(file.name, where / f"{name}.ll")


def _checksum(symbol: str, text: str) -> str:
    import hashlib

    return hashlib.sha256(f"{symbol}\n{text}".encode()).hexdigest()


def _function(f: Any, seen: dict) -> Any:
    """What a Python function does, as constants."""
    if f in seen:
        return seen[f]
    seen[f] = f"function {len(seen)}"
    try:
        cells = [cell.cell_contents for cell in f.__closure__ or ()]
    except ValueError:  # of a name that has no value yet
        raise _UnknownError from None
    names = sorted(_names(f.__code__))
    values = [(name, _value(f.__globals__[name], seen)) for name in names if name in f.__globals__]
    return _code(f.__code__), [_value(cell, seen) for cell in cells], values, _value(f.__defaults__, seen)


def _names(code: types.CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _code(code: types.CodeType) -> Any:
    consts = [_code(c) if isinstance(c, types.CodeType) else (type(c).__name__, repr(c)) for c in code.co_consts]
    return code.co_code, consts, code.co_names, code.co_varnames, code.co_freevars, code.co_argcount


def _value(value: Any, seen: dict) -> Any:
    if value is None or type(value) in (bool, int, float, complex, str):
        return type(value).__name__, repr(value)
    if type(value) is tuple:
        return tuple(_value(item, seen) for item in value)
    if isinstance(value, np.number | np.bool_):
        return type(value).__name__, value.tobytes()
    if isinstance(value, types.ModuleType) and value.__name__ in _MODULES:
        return "module", value.__name__
    python = getattr(value, "py_func", value)  # what numba.njit wrapped
    if isinstance(python, types.FunctionType):
        options = repr(sorted(getattr(value, "targetoptions", {}).items()))
        return options, _function(python, seen)
    module = getattr(value, "__module__", None) or "numpy"
    if isinstance(value, types.BuiltinFunctionType | np.ufunc | type) and module in _MODULES | {"builtins"}:
        return module, value.__name__
    raise _UnknownError
