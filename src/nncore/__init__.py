"""nncore: the compiled core of nnpy. Arrays in, arrays out; it knows no graph and no layer."""

import os
import platform

from nncore import kernels
from nncore.memory import aligned, new_state
from nncore.ops import Op, Ref, ref
from nncore.program import Program, debug_build
from nncore.steps import Step
from nncore.threads import get_num_threads, set_num_threads

__all__ = ["Op", "Program", "Ref", "Step", "aligned", "debug_build", "get_num_threads", "info", "new_state", "ref", "set_num_threads"]


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
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
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
    """Bytes of the caches of one core (L3: as the system reports it), 0 where the system does not tell."""
    names = {"L1d": "SC_LEVEL1_DCACHE_SIZE", "L2": "SC_LEVEL2_CACHE_SIZE", "L3": "SC_LEVEL3_CACHE_SIZE"}
    known = getattr(os, "sysconf_names", {})
    return {level: max(0, os.sysconf(name)) if name in known else 0 for level, name in names.items()}
