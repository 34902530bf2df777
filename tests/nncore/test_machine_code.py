"""What GCC made of the GEMM micro-kernel: fused multiply-adds on whole vectors, and nothing spilled between them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nncore import debug_build, kernels

VARIANTS = {"v4": ("zmm", 14), "v3": ("ymm", 6)}  # and their vector registers, and rows of a tile
_JUMP = re.compile(r"^j[a-z]+\s+([0-9a-f]+)")
_STACK = re.compile(r"\(%r[sb]p")


def loops(path):
    """The innermost loops of a module's code: lists of instructions from a backward jump's target to the jump."""
    command = ["objdump", "-d", "--no-show-raw-insn", path]
    code = []  # (address, instruction)
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        address, colon, instruction = line.partition(":\t")
        if colon:
            code.append((int(address, 16), instruction.strip()))
    place = {address: position for position, (address, _) in enumerate(code)}
    for position, (_, instruction) in enumerate(code):
        jump = _JUMP.match(instruction)
        start = place.get(int(jump[1], 16), position) if jump else position
        if start < position:
            body = [text for _, text in code[start : position + 1]]
            if not any(_JUMP.match(text) for text in body[:-1]):
                yield body


@pytest.mark.parametrize("isa", VARIANTS)
def test_the_inner_loop_of_the_gemm(isa):
    if shutil.which("objdump") is None:
        pytest.skip("no objdump (binutils)")
    if isa not in kernels.compiled() or debug_build():
        pytest.skip("not compiled, or for debugging")
    folders = [Path(folder) / f"{isa}_f32" for folder in kernels.__path__]
    module = next(path for folder in folders for path in folder.glob("gemm.*.so"))
    register, rows = VARIANTS[isa]
    found = 0
    for body in loops(module):
        products = [text for text in body if re.match(rf"vfn?madd\d+ps\s.*%{register}", text)]
        broadcasts = [text for text in body if text.startswith("vbroadcastss") or "{1to" in text]
        if len(products) < 2 * rows or len(broadcasts) < rows:
            continue  # not a whole tile
        found += 1
        spilled = [text for text in body if text.startswith("vmov") and f"%{register}" in text and _STACK.search(text)]
        assert not spilled, f"{len(products)} products, and on the stack: {spilled}"
    assert found > 0, "no loop of whole tiles of fused multiply-adds"
