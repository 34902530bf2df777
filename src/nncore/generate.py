"""python generate.py FOLDER: the Cython text made of the rows of ``functions``, written to FOLDER by the build.

Run as a script and not as part of the package, whose compiled modules do not exist yet.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

if __name__ == "__main__" and "nncore" not in sys.modules:
    package = ModuleType("nncore")  # the folder alone: its __init__ needs what is being built
    package.__path__ = [str(Path(__file__).resolve().parent)]
    sys.modules["nncore"] = package

from nncore.expr import code
from nncore.functions import FUNCTIONS, Function, fingerprint

_LOOPS = {"": "each", "p": "each_p", "pq": "each_pq"}


def functions() -> str:
    """functions.pxi: for each row the function on vectors and the loop over a tile; then their table."""
    blocks = [_function(row) for row in FUNCTIONS.values()]
    table = ",\n    ".join(f'"{name}": <size_t>&run_{name}' for name in FUNCTIONS)
    return "\n\n".join([*blocks, f"FUNCTIONS = {{\n    {table},\n}}\nROWS = {fingerprint()}\n"])


def _function(row: Function) -> str:
    if row.operands not in _LOOPS:
        raise ValueError(f"{row.name}: expected p to be the first operand, got {row.operands}")
    parts, result = code(row.value, "vector")
    arguments = "vf v, vf p, vf q, vf s0, vf s1"
    body = [*(f"    cdef vf {name} = {text}" for name, text in parts), f"    return {result}"]
    return "\n".join(
        [
            f"cdef inline vf of_{row.name}({arguments}) noexcept nogil:", *body, "",
            f"cdef void run_{row.name}(const Tile* tile) noexcept nogil:",
            f"    {_LOOPS[row.operands]}(tile, of_{row.name})",
        ]
    )  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("functions.pxi", functions()),):
        file = folder / name
        if not file.exists() or file.read_text() != text:  # what has not changed is not compiled again
            file.write_text(text)


if __name__ == "__main__":
    main()
