"""Which kernels NumPy's products run on, and whether an environment variable holds it to slower ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

# They choose kernels or the sizes of blocks in OpenBLAS, MKL, BLIS and NumPy itself. Each library has found the best by
# itself where none is set.
VARIABLES = (
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_BLOCK_FACTOR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE",
    "MKL_CBWR", "BLIS_ARCH_TYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES",
)  # fmt: skip


def libraries() -> list[dict]:
    """threadpoolctl's account of each BLAS in this process, NumPy's among them."""
    import numpy  # noqa: F401 (loads its BLAS)
    from threadpoolctl import threadpool_info

    return [library for library in threadpool_info() if library["user_api"] == "blas"]


def unforced() -> list[dict]:
    """``libraries()`` of a process without VARIABLES."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    code = "import json; from bench.blas import libraries; print(json.dumps(libraries()))"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=kept, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def described(some: Iterable[Mapping]) -> str:
    """"openblas 0.3.31, kernels: Haswell", for each library."""
    texts = [
        f"{of['internal_api']} {of.get('version') or 'of unknown version'}, "
        f"kernels: {of.get('architecture') or 'it does not say which'}"
        for of in some
    ]
    return "; ".join(texts) or "none that threadpoolctl knows"


def forced(environ: Mapping[str, str]) -> str:
    """"NAME=value, ...": the VARIABLES that are set; empty where none is."""
    return ", ".join(f"{name}={environ[name]}" for name in VARIABLES if environ.get(name))


def warning(environ: Mapping[str, str], now: Iterable[Mapping], without: Iterable[Mapping]) -> str:
    """What to say where VARIABLES are set, with the kernels ``now`` and ``without`` them; empty where none is set."""
    if not (names := forced(environ)):
        return ""
    here, there = described(now), described(without)
    kernels = f"{here}; without: {there}" if here != there else "the same kernels as without, in other blocks"
    return f"warning: {names}: NumPy is not as fast here as it can be ({kernels}); ratios to it flatter us"


def lines() -> list[str]:
    """NumPy's BLAS, and the warning if there is one."""
    now = libraries()
    said = warning(os.environ, now, unforced()) if forced(os.environ) else ""
    return [f"NumPy's BLAS: {described(now)}", *([said] if said else [])]
