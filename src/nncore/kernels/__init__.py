"""The compiled kernel families, one subpackage for each ISA variant and dtype, and the choice among them."""

import importlib
import os
import platform
from functools import cache
from pathlib import Path

import numpy as np

from nncore import functions, memory, rules, steps
from nncore.cpu import x86_level
from nncore.kernels.signatures import SIGNATURES, fingerprint

DTYPES = {"float32": "f32", "float64": "f64"}


@cache
def compiled() -> tuple[str, ...]:
    """The ISA variants in this installation, weakest first."""
    # __path__, not __file__: an editable installation keeps the modules elsewhere than the sources.
    found = (path for folder in __path__ for path in Path(folder).glob("*_f32/gemm*.so"))
    return tuple(sorted({path.parent.name.partition("_")[0] for path in found}))


@cache
def chosen() -> tuple[str, str]:
    """(variant, why). ``NNCORE_ISA`` overrides the best that the CPU has; RuntimeError if it cannot run here."""
    level = x86_level()
    runs = [isa for isa in compiled() if isa == "native" or int(isa[1:]) <= level]
    asked = os.environ.get("NNCORE_ISA", "").strip()
    if asked:
        if asked not in compiled():
            raise RuntimeError(
                f"NNCORE_ISA={asked}: expected one of {', '.join(compiled())}, the variants compiled here"
            )
        if asked not in runs:
            raise RuntimeError(f"NNCORE_ISA={asked}: this CPU lacks it; it runs {', '.join(runs)}")
        return asked, "asked for by NNCORE_ISA"
    if not runs:
        raise RuntimeError(
            f"nncore: no compiled variant runs on this CPU ({platform.machine()}, x86-64-v{level}); "
            f"compiled are {', '.join(compiled()) or 'none'}"
        )
    return runs[-1], f"the best of {', '.join(runs)} that this CPU ({platform.machine()}) runs"


@cache
def _module(family: str, isa: str, dtype: str):
    module = importlib.import_module(f"nncore.kernels.{isa}_{dtype}.{family}")
    check_layout(module)
    return module


def check_layout(module) -> None:
    """Raise ImportError for a module compiled against other C structs than the runtime's, or for kernels with other
    arguments: they would read nonsense."""
    expected = {
        "LAYOUT": memory.LAYOUT["LAYOUT"],
        "SIGNATURE": fingerprint(module.__name__.rpartition(".")[2]),
    }
    if hasattr(module, "STEP_LAYOUT"):  # of families that apply steps
        expected["STEP_LAYOUT"] = steps.LAYOUT
    if hasattr(module, "ROWS"):  # what its functions were made of
        expected["ROWS"] = (functions if hasattr(module, "FUNCTIONS") else rules).fingerprint()
    for name, value in expected.items():
        found = getattr(module, name, None)
        if found != value:
            raise ImportError(
                f"{module.__name__} is stale: its {name} is {found}, the runtime's {value}. Build nnpy again: "
                "pip install . (or, with modules beside their sources, ninja -C build/dev)"
            )


def family(name: str, dtype="float32", isa: str | None = None):
    """The compiled module of a family: its ``TABLE`` maps kernel names to addresses."""
    return _module(name, isa or chosen()[0], DTYPES[np.dtype(dtype).name])


def address(kernel: str, dtype="float32", isa: str | None = None) -> int:
    """The address of a kernel in the chosen variant, or in ``isa``."""
    return family(SIGNATURES[kernel].family, dtype, isa).TABLE[kernel]
