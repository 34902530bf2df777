"""The package as installed: quick to import, typed, complete."""

import ast
import importlib
import importlib.metadata
import importlib.util
import io
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import nncore
import nnpy

PROJECT = Path(__file__).resolve().parents[2]
# What lines bring along, beside what NumPy does.
PROBE = """
import json, sys
import numpy
before = set(sys.modules)
exec(sys.argv[1])
print(json.dumps(sorted(set(sys.modules) - before)))
"""
FIRST = "import nnpy as nn; nn.Input, nn.Dense, nn.Sequential, nn.Adam, nn.losses"
# Imported where they are used: what the installation brings, and every extra.
LATE = {
    "numba", "llvmlite", "rich", "click", "safetensors", "matplotlib", "narwhals", "pandas", "polars", "sklearn",
    "scipy", "onnx", "mpi4py", "torch", "jax", "tensorflow", "pytest", "multiprocessing", "asyncio", "nnpy.cli",
    "concurrent.futures", "zipfile", "tempfile", "hashlib", "csv", "difflib", "logging", "numpy.random",
}  # fmt: skip


# Of ours, what a first model has no use for.
UNUSED = {
    "nnpy.callbacks.monitors", "nnpy.data.folder", "nnpy.data.mnist", "nnpy.data.prefetching", "nnpy.insight.explain",
    "nnpy.loading", "nnpy.matching", "nnpy.saving", "nnpy.tensors",
}  # fmt: skip


def brought(lines: str) -> tuple[set[str], set[str]]:
    """The modules, ours and others, that lines in a new interpreter add to those of NumPy."""
    done = subprocess.run([sys.executable, "-c", PROBE, lines], capture_output=True, text=True, check=True)
    names = {name for name in json.loads(done.stdout) if name.partition(".")[0] != "numpy"}
    ours = {name for name in names if name.partition(".")[0] in ("nnpy", "nncore")}
    return ours, names - ours


def test_import_is_light():
    """Modules are counted, as each takes about a millisecond where it is new."""
    ours, others = brought("import nnpy")
    assert ours == {"nnpy", "nnpy.catalogue", "nnpy.hints"}
    assert len(others) <= 3, others
    code = "import sys, nnpy; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_first_model_is_light():
    """Modules are counted: 30 of others, 126 of ours at first."""
    ours, others = brought(FIRST)
    assert 50 < len(ours) <= 165
    assert len(others) <= 34, others
    assert (LATE | UNUSED) & (ours | others) == set()


LAZY = [nnpy, nnpy.callbacks, nnpy.data]


def seen_by_checkers(package: ModuleType) -> dict[str, str]:
    """Name -> where it comes from, of what is imported for type checking alone."""
    tree = ast.parse(Path(package.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    return {name.name: node.module for node in block.body for name in node.names}


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_names_are_those_that_type_checkers_see(package):
    places = seen_by_checkers(package)
    assert sorted(places) == sorted(package.__all__) == sorted(dir(package))
    for name, place in places.items():
        value = importlib.import_module(f"{place}.{name}" if place == package.__name__ else place)
        assert getattr(package, name) is (value if place == package.__name__ else getattr(value, name)), name


ONE_BY_ONE = """
import importlib, sys
names = sys.argv[2:]
values = {}
for name in names:
    exec(f"from {sys.argv[1]} import {name}", values)
package = importlib.import_module(sys.argv[1])
print([name for name in names if getattr(package, name) is not values[name]])
"""


@pytest.mark.parametrize("turn", [1, -1], ids=["in order", "backwards"])
@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_names_do_not_depend_on_what_was_asked_for_before(package, turn):
    """A name stays what it was when others bring more modules in."""
    names = sorted(package.__all__)[::turn]
    command = [sys.executable, "-c", ONE_BY_ONE, package.__name__, *names]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"


def test_modules_of_ours_are_found_without_their_import():
    code = "import nnpy as nn; print(nn.structure.__name__, hasattr(nn, 'nothing'), nn.losses.base.__name__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "nnpy.structure False nnpy.losses.base\n", found.stderr


def test_a_failing_import_is_told_as_it_is(tmp_path, monkeypatch):
    """Not as a name that does not exist."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text(
        "from nnpy.catalogue import offer\noffer(__name__, ['Thing', 'Lost'], homes=['shop.whole', 'shop.broken'])"
    )
    (tmp_path / "shop" / "whole.py").write_text("Thing = 1")
    (tmp_path / "shop" / "broken.py").write_text("import nowhere_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    shop = importlib.import_module("shop")
    assert shop.Thing == 1
    for name in ("Lost", "broken"):
        with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
            getattr(shop, name)
    with pytest.raises(AttributeError, match=r"shop has no 'Thimg'; did you mean 'Thing'\?"):
        shop.Thimg  # noqa: B018


REGISTERED = """
import json, sys, importlib, pkgutil
exec(sys.argv[1])
from nnpy import registry
known = {group: sorted(names) for group, names in registry._classes.items()}
import nnpy
for module in pkgutil.walk_packages(nnpy.__path__, "nnpy."):
    if not module.name.startswith(("nnpy.cli", "nnpy.__main__")):
        importlib.import_module(module.name)
print(json.dumps([known, {group: sorted(names) for group, names in registry._classes.items()}]))
"""


@pytest.mark.parametrize("name", ["Model", "Sequential", "load_model", "models"])
def test_a_model_knows_every_class_by_name(name):
    """Names in ``compile`` and in files lead to classes of which no module was imported by hand."""
    command = [sys.executable, "-c", REGISTERED, f"from nnpy import {name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    known, all_of_them = json.loads(done.stdout)
    assert known == all_of_them and len(known) >= 8


@pytest.fixture
def distribution():
    """What pip knows of the installation; a checkout on PYTHONPATH is none, and .ci/run tests an installed wheel."""
    try:
        return importlib.metadata.distribution("nnpy-cpu")
    except importlib.metadata.PackageNotFoundError:
        assert Path(nnpy.__file__).is_relative_to(PROJECT / "src"), "installed, but pip knows nothing of it"
        pytest.skip("runs from the sources: nothing is installed")


def test_version_is_one(distribution):
    wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert distribution.version == nnpy.__version__ == nncore.info()["nnpy"] == wanted
    assert f"## [{wanted}]" in (PROJECT / "CHANGELOG.md").read_text()


def test_typed_and_with_data():
    for package in (nnpy, nncore):
        assert (Path(package.__file__).parent / "py.typed").is_file()
    assert {path.name for path in (Path(nnpy.__file__).parent / "data").glob("mnist*")} == {
        "mnist.py",
        "mnist-subset.idx.gz",
        "mnist-attribution.txt",
    }


def test_everything_in_the_catalogue_is_there():
    assert len(nnpy.__all__) == len(set(nnpy.__all__))
    assert [name for name in nnpy.__all__ if not hasattr(nnpy, name)] == []
    assert [name for name in nncore.__all__ if not hasattr(nncore, name)] == []


def test_every_kernel_family_is_compiled_for_every_variant():
    """Sources and variants are counted, not listed: a family added to src/ but not to CMakeLists.txt is found here."""
    sources = {path.stem for path in (PROJECT / "src" / "nncore" / "kernels").glob("*.pyx")}
    assert len(sources) >= 7
    for isa in nncore.info()["isa_compiled"]:
        for dtype in ("f32", "f64"):
            for family in sources:
                assert importlib.util.find_spec(f"nncore.kernels.{isa}_{dtype}.{family}"), (isa, dtype, family)


def test_wheel_contents(distribution):
    """What pip recorded of the wheel: no sources of compiled code, the licences, the command; 10 MB at most, zipped."""
    if json.loads(distribution.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable"):
        pytest.skip("an editable installation was made from no wheel of this content")
    names = [str(file) for file in distribution.files or () if "__pycache__" not in str(file)]
    assert [name for name in names if name.endswith((".pyx", ".pxd", ".c", ".h"))] == []
    for ending in (
        "licenses/LICENSE",
        "licenses/src/nnpy/data/mnist-attribution.txt",
        "bin/nnpy",
        "nnpy/py.typed",
        "nncore/py.typed",
        "nnpy/data/mnist-attribution.txt",
    ):
        assert [name for name in names if name.endswith(ending)], ending
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(str(distribution.locate_file(name)), name.replace("../", ""))
    assert len(packed.getvalue()) <= 10e6
