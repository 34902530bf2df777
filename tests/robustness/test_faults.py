"""One system call of a save fails, for each of them: the old file or the new one is there, never a third thing, and
never a success that is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD")
def test_every_operation_of_a_save_may_fail(tmp_path):
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    shim, folder = tmp_path / "shim.so", tmp_path / "files"
    folder.mkdir()
    command = [*compiler.split(), "-shared", "-fPIC", "-O1", "-o", shim, HERE / "shim.c", "-ldl"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    preload = f"{shim} {os.environ.get('LD_PRELOAD', '')}".strip()
    environment = os.environ | {"LD_PRELOAD": preload, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, HERE / "faulty_saves.py", folder], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "operations: close fchmod fsync open rename unlink write\n", done.stdout
