"""Files written whole or not at all, and errors that say what could not be written."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

_number = itertools.count()  # of temporary files: threads, and signal handlers, may write to one path


def write_whole(path: str | os.PathLike, write: Callable[[Path], Any], owner: str = "") -> Path:
    """Call ``write`` with a temporary path beside ``path`` and rename it when all of it is on the disk.

    A failure leaves what was there before and no temporary file; a file that is replaced keeps its permissions, a new
    one has those that the umask gives, whatever ``write`` makes. Raises OSError, naming ``owner`` and path, if the
    folder cannot be written to or the disk is full.
    """
    path = Path(path)
    what = f"{owner + ': ' if owner else ''}cannot write {path}"
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{what}: there is no folder {path.parent}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_number)}.tmp")
    try:
        try:
            temporary.touch()
            mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
            write(temporary)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(mode)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise told(error, what) from error
    return path


def told(error: OSError, what: str) -> OSError:
    """An error of the same kind and number whose text begins with what could not be done."""
    made = type(error)(f"{what}: {error.strerror or error}")
    made.errno = error.errno
    return made


def try_folder(folder: Path, what: str) -> None:
    """Raises OSError, its text beginning with ``what``, if no file can be made in a folder; permission bits alone do
    not tell. Training is the user's time, so this comes before it."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise told(error, what) from error
