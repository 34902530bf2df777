"""python generate.py FOLDER: Cython text made of the rows of ``functions`` and ``rules``, for the build.

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
from nncore.functions import FUNCTIONS, Function
from nncore.functions import fingerprint as functions_fingerprint
from nncore.rules import RULES, Rule
from nncore.rules import fingerprint as rules_fingerprint

_LOOPS = {"": "each", "p": "each_p", "pq": "each_pq"}


def functions() -> str:
    """functions.pxi: for each row the function on vectors and the loop over a tile; then their table."""
    blocks = [_function(row) for row in FUNCTIONS.values()]
    table = ",\n    ".join(f'"{name}": <size_t>&run_{name}' for name in FUNCTIONS)
    return "\n\n".join([*blocks, f"FUNCTIONS = {{\n    {table},\n}}\nROWS = {functions_fingerprint()}\n"])


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


def rules() -> str:
    """rules.pxi: for each rule of ``nncore.rules`` the function that goes over weights; then their table."""
    table = ", ".join(f'"{name}": <size_t>&rule_{name}' for name in RULES)
    return "\n\n".join([*map(_rule, RULES.values()), f"RULES = {{{table}}}\nROWS = {rules_fingerprint()}\n"])


def _rule(rule: Rule) -> str:
    arrays = {"w": "update.w", **{name: f"update.slots[{i}]" for i, name in enumerate(rule.slots)}}
    loop: list[str] = []
    for name, value in rule.assignments:
        parts, result = code(value, "vector")
        loop += [*(f"{part} = {text}" for part, text in parts), f"{name} = {result}"]
    shared = {line.partition(" = ")[0] for line in loop} - set(arrays)
    lines = [
        f"cdef void rule_{rule.name}(const Update* update) noexcept nogil:",
        f"    cdef vf {', '.join(['g', *arrays, *sorted(shared)])}",
        *(f"    cdef vf {name} = vsplat(<real>update.columns[{i}])" for i, name in enumerate(rule.columns)),
        "    cdef vf scale = vsplat(update.scale)",
        "    cdef const real* at_g = update.g",
        *(f"    cdef real* at_{name} = {pointer}" for name, pointer in arrays.items()),
        "    cdef int64_t r, c, rows = update.rows, cols = update.cols, ld = update.ld, ldg = update.ldg",
        "    for r in range(rows):",
        "        c = 0",
        "        while c < cols:",
        "            g = vload(at_g + c) * scale",
        *(f"            {name} = vload(at_{name} + c)" for name in arrays),
        *(f"            {line}" for line in loop),
        *(f"            vstore(at_{name} + c, {name})" for name in arrays),
        "            c += LANES",
        *(f"        at_{name} += ld" for name in arrays),
        "        at_g += ldg",
    ]
    return "\n".join(lines)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("functions.pxi", functions()), ("rules.pxi", rules())):
        file = folder / name
        if not file.exists() or file.read_text() != text:  # what has not changed is not compiled again
            file.write_text(text)


if __name__ == "__main__":
    main()
