"""info(), and the choice of the ISA variant."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from nncore.cpu import x86_level

import nncore
from nncore import kernels
from nncore.kernels.signatures import SIGNATURES, layout

PRINT = "import nncore; info = nncore.info(); print(info['isa'], '|', info['isa_reason'])"


def python(code, **environment):
    environment = os.environ | environment
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


def test_info():
    info = nncore.info()
    assert info["numpy"] == np.__version__
    assert info["isa"] in info["isa_compiled"]
    assert info["threads"] == nncore.get_num_threads()
    assert 1 <= info["cores"] <= (os.cpu_count() or 1)
    assert set(info["caches"]) == {"L1d", "L2", "L3"} and all(size >= 0 for size in info["caches"].values())
    for name in ("nnpy", "python", "numba", "machine", "isa_reason"):
        assert isinstance(info[name], str) and info[name], name


def test_every_kernel_is_compiled_for_every_isa_and_dtype(isa, dtype):
    for name in SIGNATURES:
        assert kernels.address(name, dtype, isa) > 0, name


def test_a_stale_module_is_an_error(isa, dtype):
    module = kernels.family("chain", dtype, isa)
    kernels.check_layout(module)
    numbers = {name: getattr(module, name) for name in ("LAYOUT", "STEP_LAYOUT", "SIGNATURE")}
    for name in numbers:
        stale = types.SimpleNamespace(__name__="nncore.kernels.v0_f32.chain", **numbers | {name: numbers[name] + 100})
        with pytest.raises(ImportError, match=rf"v0_f32.chain is stale: its {name} is \d+, the runtime's \d+"):
            kernels.check_layout(stale)


def test_a_module_that_says_nothing_is_stale():
    with pytest.raises(ImportError, match="its LAYOUT is None"):
        kernels.check_layout(types.SimpleNamespace(__name__="nncore.kernels.v0_f32.gemm"))


def test_the_layout_is_of_names_types_and_order():
    """Of what op.pxd declares: two cells in each other's place are another layout, a comment is not."""
    source = Path(nncore.__file__).with_name("op.pxd")
    if not source.exists():
        source = Path(__file__).parents[2] / "src" / "nncore" / "op.pxd"
    text = source.read_text(encoding="utf-8")
    assert layout(text) == nncore.memory.LAYOUT["LAYOUT"]
    assert layout(text.replace("# buffers, in the order", "# what") + "\n# more\n") == layout(text)
    changes = [
        ("STATE_SEED = 6", "STATE_SEED = 7"),
        ("STATE_SEED = 6", "STATE_SEEDS = 6"),
        ("int32_t barrier", "int64_t barrier"),
        ("SCALARS = 8", "SCALARS = 4"),
        ("int32_t every ", "int32_t later "),
        ("const Op* op, int thread", "Op* op, int thread"),
    ]
    for old, new in changes:
        assert old in text
        assert layout(text.replace(old, new, 1)) != layout(text), new
    swapped = text.replace("STATE_SEED", "$").replace("STATE_EPOCH", "STATE_SEED").replace("$", "STATE_EPOCH")
    assert layout(swapped) != layout(text)


def test_the_best_variant_is_chosen():
    runs = [isa for isa in kernels.compiled() if isa == "native" or int(isa[1:]) <= x86_level()]
    isa, _, why = python(PRINT, NNCORE_ISA="").stdout.strip().partition(" | ")
    assert isa == runs[-1] and why.startswith(f"the best of {', '.join(runs)} ")


def test_the_environment_overrides_the_choice(isa):
    assert python(PRINT, NNCORE_ISA=isa).stdout.strip() == f"{isa} | asked for by NNCORE_ISA"


def test_an_unknown_variant_is_an_error():
    result = python(PRINT, NNCORE_ISA="v9")
    assert result.returncode != 0
    assert "RuntimeError: NNCORE_ISA=v9: expected one of " + ", ".join(kernels.compiled()) in result.stderr


@pytest.fixture
def an_older_cpu(monkeypatch):
    if x86_level() == 0 or "v3" not in kernels.compiled():
        pytest.skip("x86-64 with variants only")
    monkeypatch.setattr(kernels, "x86_level", lambda: 2)
    kernels.chosen.cache_clear()
    yield monkeypatch
    kernels.chosen.cache_clear()


def test_a_variant_that_the_cpu_lacks_is_an_error(an_older_cpu):
    an_older_cpu.setenv("NNCORE_ISA", "v3")
    with pytest.raises(RuntimeError, match="NNCORE_ISA=v3: this CPU lacks it; it runs v2"):
        kernels.chosen()


def test_an_older_cpu_gets_an_older_variant(an_older_cpu):
    an_older_cpu.delenv("NNCORE_ISA", raising=False)
    assert kernels.chosen()[0] == "v2"
    an_older_cpu.setattr(kernels, "x86_level", lambda: 1)
    kernels.chosen.cache_clear()
    with pytest.raises(RuntimeError, match=r"no compiled variant runs on this CPU .*; compiled are v2, v3"):
        kernels.chosen()
