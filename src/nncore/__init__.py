"""nncore: the compiled core of nnpy. Arrays in, arrays out; it knows no graph and no layer."""

import platform
from pathlib import Path

from nncore import kernels
from nncore.memory import aligned, new_state
from nncore.ops import Op
from nncore.program import Program, debug_build
from nncore.refs import Ref, ref
from nncore.steps import Operand, Step
from nncore.threads import get_num_threads, set_num_threads
from nncore.turns import core_count

__all__ = [
    "Op", "Operand", "Program", "Ref", "Step", "aligned", "debug_build", "get_num_threads", "info", "new_state", "ref",
    "set_num_threads",
]  # fmt: skip


def info() -> dict:
    """Versions, the ISA variants compiled, the one chosen and why, threads, and cache sizes in bytes (0: not known)."""
    isa, why = kernels.chosen()
    return {
        "nnpy": version("nnpy-cpu"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "machine": platform.machine(),
        "isa_compiled": list(kernels.compiled()),
        "isa": isa,
        "isa_reason": why,
        "threads": get_num_threads(),
        "cores": core_count(),
        "caches": cache_sizes(),
    }


def version(distribution: str) -> str:
    """The version of an installed distribution; "not installed" for ours where the modules lie beside the sources."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def cache_sizes() -> dict[str, int]:
    """Bytes of the caches that the first core uses (L3 is mostly shared); 0 where the system does not tell."""
    sizes = {"L1d": 0, "L2": 0, "L3": 0}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        name = f"L{level}d" if kind == "Data" else f"L{level}"
        if kind != "Instruction" and name in sizes and size.endswith("K"):
            sizes[name] = int(size[:-1]) * 1024
    return sizes
