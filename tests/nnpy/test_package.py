"""The package as installed: quick to import, typed, complete."""

import importlib.metadata
import importlib.util
import io
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import nncore
import nnpy

PROJECT = Path(__file__).resolve().parents[2]
# What the import brings along, beside what NumPy does.
PROBE = """
import json, sys
import numpy
before = set(sys.modules)
import nnpy
print(json.dumps(sorted(set(sys.modules) - before)))
"""
# Imported where they are used: what the installation brings, and every extra.
LATE = {
    "numba", "llvmlite", "rich", "click", "safetensors", "matplotlib", "narwhals", "pandas", "polars", "sklearn",
    "scipy", "onnx", "mpi4py", "torch", "jax", "tensorflow", "pytest", "multiprocessing", "asyncio", "nnpy.cli",
    "concurrent.futures", "zipfile", "tempfile", "hashlib", "csv", "difflib", "logging", "numpy.random",
}  # fmt: skip


@pytest.fixture(scope="module")
def brought():
    """The modules that the import of nnpy in a new interpreter adds to those of NumPy."""
    return json.loads(subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout)


def test_import_is_light(brought):
    """Modules are counted, as each takes about a millisecond where it is new: 31 of others, 132 of ours at first."""
    ours = [name for name in brought if name.partition(".")[0] in ("nnpy", "nncore")]
    others = sorted({name for name in brought if name.partition(".")[0] != "numpy"} - set(ours))
    assert 50 < len(ours) <= 175
    assert len(others) <= 36, others


def test_import_brings_nothing_late(brought):
    assert LATE.intersection(brought) == set()


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
