"""Files written whole or not at all, and errors that say what could not be written."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

# What a file system says that does not have an operation: nothing is lost by it.
_REFUSED = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EACCES, errno.ENOLCK, errno.EROFS}
)


def write_whole(path: str | bytes | os.PathLike, write: Callable[[BinaryIO], Any], owner: str = "") -> Path:
    """Call ``write`` with a temporary file beside ``path``, and rename it when all of it is on the disk.

    A failure leaves what was there before and no temporary file; those that killed processes left for this path are
    removed. A file that is replaced keeps its permissions, a new one has those that the umask gives. Where ``path`` is
    a symbolic link, what it points to is replaced; a device or a pipe is written to. Raises OSError, naming ``owner``
    and path, if the folder cannot be written to or the disk is full.
    """
    path = Path(os.fsdecode(path))
    what = f"{owner + ': ' if owner else ''}cannot write {path}"
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{what}: there is no folder {target.parent if path.is_symlink() else path.parent}")
    try:
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            mode = None
        if mode is None or stat.S_ISREG(mode):
            _replace(target, write, None if mode is None else stat.S_IMODE(mode))
        else:
            with open(os.open(target, os.O_WRONLY | os.O_CLOEXEC), "wb") as file:
                write(file)
    except OSError as error:
        raise told(error, what) from error
    return path


def _replace(target: Path, write: Callable[[BinaryIO], Any], mode: int | None) -> None:
    prefix = _prefix(target)
    _remove_leftovers(target.parent, prefix)
    temporary, number = _make(target.parent, prefix, 0o666 if mode is None else mode)
    try:
        with open(number, "wb") as file:
            write(file)
            file.flush()
            _unless_refused(os.fsync, number)
            if mode is not None:
                _unless_refused(os.fchmod, number, mode)
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _prefix(target: Path) -> str:
    """How the names of a path's temporary files begin: the name may be as long as names can be, these are longer."""
    import hashlib

    return f".nnpy-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}-"


def _make(folder: Path, prefix: str, mode: int) -> tuple[Path, int]:
    """A new file that nobody else has, open for writing and locked for as long as it is: by that others see that its
    writer lives, wherever it runs."""
    while True:
        path = folder / f"{prefix}{os.urandom(8).hex()}.tmp"
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode | stat.S_IWUSR)
        try:
            _unless_refused(fcntl.flock, number, fcntl.LOCK_EX)
            if os.fstat(number).st_nlink:  # else removed by another writer, before it was locked
                return path, number
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(number)
            raise
        os.close(number)


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """Remove the temporary files of writers that are dead: of those nobody holds the lock."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(prefix) and name.endswith(".tmp")]
    except OSError:  # a folder that may be written to and not be read
        return
    for name in names:
        try:
            number = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # gone meanwhile, or not ours
            continue
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(folder / name)
        except OSError:  # in use, or the file system has no locks: then nobody can tell
            pass
        finally:
            os.close(number)


def _sync_folder(folder: Path) -> None:
    """That the new name is on the disk too, when the machine fails."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # a folder that may be written to and not be read
        return
    try:
        _unless_refused(os.fsync, number)
    finally:
        os.close(number)


def _unless_refused(function: Callable[..., Any], *arguments: Any) -> None:
    try:
        function(*arguments)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def told(error: OSError, what: str) -> OSError:
    """An error of the same kind and number whose text begins with what could not be done."""
    made = type(error)(f"{what}: {error.strerror or error}")
    made.errno = error.errno
    return made


def make_folder(folder: Path, what: str) -> None:
    """Make a folder if there is none. Raises OSError, its text beginning with ``what``, if no file can be made in it;
    permission bits alone do not tell. Training is the user's time, so this comes before it."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise told(error, what) from error
