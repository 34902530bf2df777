"""Zip files that may be damaged, or made to harm: every error names the file, and what is read has a bound."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zipfile import ZipInfo

_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")


class Archive:
    """A zip file that several threads read. ``names``: of its files.

    Raises ValueError, beginning with ``who``, if it cannot be read, or has names that are absolute, lead out of it, or
    come twice: which of two files is meant, other programs decide in other ways.
    """

    def __init__(self, path: Path, who: str):
        self.path, self.who = path, who
        self._open()
        self._entries: dict[str, ZipInfo] = {}
        for entry in self._file.infolist():
            name = entry.filename
            if not name or _ABSOLUTE.match(name) or ".." in re.split(r"[/\\]", name):
                raise ValueError(f"{who}: expected names within the archive in {path}, got {name!r}")
            if name in self._entries:
                raise ValueError(f"{who}: expected each name once in {path}, got {name!r} twice")
            self._entries[name] = entry
        self.names = [name for name, entry in self._entries.items() if not entry.is_dir()]

    def _open(self) -> None:
        import zipfile

        self._lock, self._process = threading.Lock(), os.getpid()
        try:
            self._file = zipfile.ZipFile(self.path)
        except OSError:
            raise
        except Exception as error:  # a damaged one makes zipfile raise whatever comes
            raise ValueError(f"{self.who}: cannot read {self.path}: {told_of(error)}") from error

    def read(self, name: str, limit: int) -> bytes:
        """A file's bytes. ValueError for more than ``limit``, or what cannot be unpacked."""
        entry = self._entries[name]
        where = f"{self.who}: cannot read {name} in {self.path}"
        if entry.file_size > limit:
            raise ValueError(f"{where}: expected at most {limit} bytes, got {entry.file_size}; limit= takes more")
        if self._process != os.getpid():  # forked: the place in the open file, and the lock, are those of the parent
            self._open()
        try:
            with self._lock:
                return self._file.read(entry)
        except Exception as error:  # as above; encrypted files and unknown ways to pack, too
            raise ValueError(f"{where}: {told_of(error)}") from error

    def close(self) -> None:
        self._file.close()


def told_of(error: Exception) -> str:
    """Its text, or what kind of error it is."""
    return str(error) or type(error).__name__
