"""IDX files: arrays of any rank, as MNIST and its relatives come (LeCun, Cortes and Burges)."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import numpy as np

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """The array in an IDX file, gzip-compressed or not: of its own shape and dtype, in native byte order.

    Raises FileNotFoundError if there is no such file, ValueError if it is no IDX file, cut off, or longer than it says.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"read_idx: no file {path}") from None
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError(f"read_idx: {path}: a damaged gzip file: {error}") from error
    array, end = parse_idx(content, 0, f"read_idx: {path}")
    if end != len(content):
        raise ValueError(f"read_idx: {path}: expected {end} bytes for {array.dtype} {array.shape}, got {len(content)}")
    return array


def parse_idx(content: bytes, offset: int, what: str) -> tuple[np.ndarray, int]:
    """The array that starts at ``offset`` of ``content``, and where it ends."""
    head = content[offset : offset + 4]
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _DTYPES:
        raise ValueError(f"{what}: not an IDX file: expected 00 00, a type and a rank first, got {head.hex(' ')!r}")
    rank, dtype = head[3], np.dtype(_DTYPES[head[2]])
    start = offset + 4 + 4 * rank
    if len(content) < start:
        raise ValueError(f"{what}: cut off: expected {rank} sizes, got {len(content) - offset - 4} bytes")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", rank, offset + 4))
    count = math.prod(shape)
    if len(content) < start + count * dtype.itemsize:
        raise ValueError(f"{what}: cut off: expected {count} numbers for {shape}, got {(len(content) - start)} bytes")
    array = np.frombuffer(content, dtype, count, start).reshape(shape)
    return array.astype(dtype.newbyteorder("=")), start + count * dtype.itemsize
