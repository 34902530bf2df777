"""IDX files: arrays of any rank, as MNIST and its relatives come (LeCun, Cortes and Burges)."""

from __future__ import annotations

import gzip
import math
import os
import stat
import zlib
from typing import IO, cast

import numpy as np

from nnpy import checks

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PART = 1 << 24  # bytes read at once


def read_idx(path: str | bytes | os.PathLike, limit: int = 1 << 30) -> np.ndarray:
    """The array in an IDX file, gzip-compressed or not: of its own shape and dtype, in native byte order.

    ``limit``: the most bytes that the array of a compressed file may have, which can be a thousand times as large as
    the file. Raises FileNotFoundError if there is no such file, ValueError if it is no IDX file, cut off, longer than
    it says, or a FIFO or a device.
    """
    where = checks.path("read_idx", "path", path)
    limit = checks.integer("read_idx", "limit", limit, least=0)
    what = f"read_idx: {where}"
    try:
        if not stat.S_ISREG(where.stat().st_mode):
            raise ValueError(f"{what}: expected a file, got a folder, a FIFO or a device")
        with where.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _read(file, what, None)
            with gzip.open(file) as content:
                return _read(cast(IO[bytes], content), what, limit)
    except FileNotFoundError:
        raise FileNotFoundError(f"read_idx: no file {where}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{what}: a damaged gzip file: {error}") from error


def _read(content: IO[bytes], what: str, limit: int | None) -> np.ndarray:
    """The only array in a file."""
    array = parse_idx(content, what, limit)
    if content.read(1):
        size = content.tell() - 1 - array.nbytes
        raise ValueError(f"{what}: expected {size + array.nbytes} bytes for {array.dtype} {array.shape}, got more")
    return array


def parse_idx(content: IO[bytes], what: str, limit: int | None = None) -> np.ndarray:
    """The array that comes next in a file."""
    head = content.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES:
        raise ValueError(f"{what}: not an IDX file: expected 00 00, a type and a rank first, got {head.hex(' ')!r}")
    rank, dtype = head[3], np.dtype(_DTYPES[head[2]])
    sizes = content.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise ValueError(f"{what}: cut off: expected {rank} sizes, got {len(sizes)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    count = math.prod(shape)
    if limit is not None and count * dtype.itemsize > limit:
        raise ValueError(
            f"{what}: expected an array of at most {limit} bytes, got {dtype.newbyteorder('=')} of {shape}; "
            "limit= takes larger ones"
        )
    numbers = bytearray()  # as much as there is: a damaged size may ask for all memory
    while part := content.read(min(_PART, count * dtype.itemsize - len(numbers))):
        numbers += part
    if len(numbers) < count * dtype.itemsize:
        raise ValueError(f"{what}: cut off: expected {count} numbers for {shape}, got {len(numbers)} bytes")
    try:
        array = np.frombuffer(numbers, dtype, count).reshape(shape)
    except ValueError as error:  # more axes than an array can have
        raise ValueError(f"{what}: expected a shape that an array can have, got {shape}: {error}") from error
    return array.astype(dtype.newbyteorder("="), copy=False)
