"""The format safetensors: arrays by name and a little text in one file, read without running anything.

A length, a header in JSON (name -> dtype, shape, place), then the bytes of all arrays. What a file says of itself is
compared with its size before anything is read: see https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np

_MOST_HEADER = 100_000_000  # bytes, as the format says
_MOST_AXES = 32  # NumPy's
_METADATA = "__metadata__"
_NAMES = {
    np.dtype(kind): name
    for name, kind in {
        "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U64": "u8",
        "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?",
    }.items()
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()} | {"BF16": np.dtype("u2")}  # the upper half of a float32
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "C64": 64}  # NumPy lacks them


class Entry(NamedTuple):
    """Where an array is: its type as the format calls it, its shape, its first byte in the file and their number."""

    type: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


def write(file: BinaryIO, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays and texts. The largest elements come first, so that all of them are aligned."""
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    end = 0
    for name in order:
        array = tensors[name]
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)


class TensorFile:
    """An open file, or one in memory: a context manager. Raises FileNotFoundError where there is none, ValueError,
    naming it, for another kind of file or a damaged one."""

    def __init__(self, source: str | os.PathLike | bytes):
        self.path = Path("copy") if isinstance(source, bytes) else Path(os.fsdecode(source))
        if isinstance(source, bytes):
            self._file: BinaryIO = io.BytesIO(source)
            size = len(source)
        else:
            if not self.path.is_file():  # nor a pipe, which may never end
                kind = "expected a file" if self.path.exists() else "no file"
                raise FileNotFoundError(f"{kind} {self.path}")
            self._file = open(self.path, "rb")  # noqa: SIM115  closed on exit
            size = os.fstat(self._file.fileno()).st_size
        try:
            self.entries, self.metadata = self._header(size)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            self._file.close()
            raise ValueError(f"{self.path}: not a safetensors file, or a damaged one: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: Any) -> None:
        self._file.close()

    def _header(self, size: int) -> tuple[dict[str, Entry], dict[str, str]]:
        length = int.from_bytes(self._file.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER):
            raise ValueError(f"{size} bytes, and a header of {length}")
        header = json.loads(self._file.read(length).decode(), object_pairs_hook=_object)
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
        metadata = header.pop(_METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are no texts")
        entries = {name: _entry(name, value, 8 + length) for name, value in header.items()}
        end = 8 + length
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].nbytes)):
            if entry.start != end:
                raise ValueError(f"{name} begins at byte {entry.start}, expected {end}")
            end += entry.nbytes
        if end != size:
            raise ValueError(f"expected {end} bytes, got {size}")
        return entries, metadata

    def read(self, name: str) -> np.ndarray:
        """An array, new and writable; BF16 as float32. ValueError for a dtype that NumPy does not have, or where the
        file has become shorter."""
        entry = self.entries[name]
        self.check(name)
        array = np.empty(entry.shape, _DTYPES[entry.type])
        self._file.seek(entry.start)
        rest = array.reshape(-1).view(np.uint8)
        while rest.size:
            count = self._file.readinto(rest)  # type: ignore[attr-defined]
            if not count:
                raise ValueError(f"{self.path}: {name} ends early: the file was changed while it was read")
            rest = rest[count:]
        return (array.astype(np.uint32) << 16).view(np.float32) if entry.type == "BF16" else array

    def check(self, name: str) -> None:
        """ValueError if an array cannot be read."""
        if self.entries[name].type not in _DTYPES:
            raise ValueError(
                f"{self.path}: {name}: expected one of {', '.join(_DTYPES)}, got {self.entries[name].type}"
            )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _entry(name: str, value: Any, first: int) -> Entry:
    kind, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    sizes = [*shape, start, end]
    if not isinstance(kind, str) or not all(type(size) is int and 0 <= size < 2**63 for size in sizes):
        raise ValueError(f"{name}: expected a dtype and sizes, got {kind!r} and {sizes}")
    if len(shape) > _MOST_AXES:
        raise ValueError(f"{name}: expected at most {_MOST_AXES} axes, got {len(shape)}")
    bits = _DTYPES[kind].itemsize * 8 if kind in _DTYPES else _BITS.get(kind)
    if bits is None:
        raise ValueError(f"{name}: unknown dtype {kind!r}")
    if prod(shape) * bits != (end - start) * 8 or end < start:
        raise ValueError(f"{name}: {end - start} bytes, which is not {kind} of shape {tuple(shape)}")
    return Entry(kind, tuple(shape), first + start, end - start)
