"""The import rule: a file imports from its own floor and from those below, and no imports go round, lazy ones included.

What is imported for type checking alone does not count, nor does an ``__init__`` that Python runs on the way.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "src"

# From the bottom to the top. A name stands for a module and all inside it, unless another floor has a longer name. What
# is new goes to the lowest floor on which it can stand.
FLOORS = """
nncore: refs expr windows cpu op vector powers threads turns pace machine kernels.signatures
nncore: functions rules barriers strides reductions
nncore: program generate
nncore: memory
nncore: steps
nncore: kernels
nncore: encoding ops costs products jit jit_cache
nncore: reference reference_arrays reference_images reference_steps
nncore
nnpy: hints
nnpy: catalogue
nnpy: config checks files freezing forms interrupts locks sealed tensors
nnpy: graph plots registry restoring seeds schedules
nnpy: tree parameters
nnpy: ops
nnpy: compiler
nnpy: activations constraints initializers regularizers data
nnpy: optimizers losses
nnpy: metrics layers
nnpy: structure
nnpy: callbacks.base callbacks.history network
nnpy: training
nnpy: insight matching summary
nnpy: loading
nnpy: saving
nnpy: runs
nnpy: callbacks model
nnpy: sequential
nnpy: models
nnpy
nnpy: cli __main__
"""


def floors() -> dict[str, int]:
    """The number of every name's floor."""
    found = {}
    for number, line in enumerate(FLOORS.split("\n")):
        package, _, names = line.partition(":")
        for name in names.split() or [""] * bool(package):
            full = f"{package}.{name}".rstrip(".")
            assert full not in found, f"{full} is on two floors"
            found[full] = number
    return found


def modules() -> dict[str, list[Path]]:
    """The files of each module; Cython's .pyx and .pxd are one."""
    found: dict[str, list[Path]] = {}
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxd"):
            parts = path.relative_to(SOURCES).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.setdefault(name, []).append(path)
    return found


MODULES = modules()


def named(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name in it or "") of every import, wherever it stands, but for type checking."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test).endswith("TYPE_CHECKING"):
        inside: list[ast.AST] = list(tree.orelse)
    else:
        inside = list(ast.iter_child_nodes(tree))
    if isinstance(tree, ast.Import):
        yield from ((alias.name, "") for alias in tree.names)
    elif isinstance(tree, ast.ImportFrom):
        assert tree.level == 0, f"line {tree.lineno}: expected no relative import"
        yield from ((tree.module or "", alias.name) for alias in tree.names)
    for child in inside:
        yield from named(child)


def named_in_cython(text: str) -> Iterator[tuple[str, str]]:
    for line in re.sub(r"\(([^)]*)\)", lambda m: m[1].replace("\n", " "), text).splitlines():
        if match := re.match(r"\s*from ([\w.]+) c?import (.*)", line):
            yield from ((match[1], name.split(" as ")[0].strip()) for name in match[2].partition("#")[0].split(","))
        elif match := re.match(r"\s*c?import ([\w.]+)", line):
            yield match[1], ""


def imports(name: str) -> set[str]:
    """The modules of ours that a module imports."""
    found = set()
    for path in MODULES[name]:
        text = path.read_text()
        for module, what in named(ast.parse(text)) if path.suffix == ".py" else named_in_cython(text):
            for target in (f"{module}.{what}", module):
                if target in MODULES:
                    found.add(target)
                    break
    return found - {name}


GRAPH = {name: imports(name) for name in MODULES}


def floor(name: str) -> int:
    """ValueError for a module that has none."""
    known = floors()
    for end in range(len(parts := name.split(".")), 0, -1):
        if (prefix := ".".join(parts[:end])) in known and (end > 1 or len(parts) == 1):
            return known[prefix]
    raise ValueError(f"{name} is on no floor: give it one in tests/test_imports.py")


def test_imports_are_found():
    """Also those within functions, in Cython, and over several lines."""
    assert "nncore.barriers" in GRAPH["nncore.program"]
    assert "nncore.op" in GRAPH["nncore.kernels.gemm"]
    assert "nnpy.saving" in GRAPH["nnpy.model"]  # within methods
    assert "nnpy.ops" in GRAPH["nnpy.losses.base"]
    assert "nnpy.compiler.lower" not in GRAPH["nnpy.ops.base"]  # for type checking
    assert sum(map(len, GRAPH.values())) > 300


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_is_imported_from_above(name):
    mine = floor(name)
    assert [target for target in sorted(GRAPH[name]) if floor(target) > mine] == []


def test_the_core_knows_nothing_of_nnpy():
    for name in MODULES:
        if name.split(".")[0] == "nncore":
            assert [target for target in GRAPH[name] if target.split(".")[0] != "nncore"] == [], name


def test_every_name_on_a_floor_is_there():
    assert set(floors()) <= set(MODULES)


def test_imports_do_not_go_round():
    left = dict(GRAPH)
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}, "these import each other, or import such"
