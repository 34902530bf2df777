"""nncore: the compiled core of nnpy. Arrays in, arrays out; it knows no graph and no layer."""

import platform

from nncore import kernels
from nncore.machine import cache_sizes, version
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
