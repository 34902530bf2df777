"""Make the MNIST subset that ships inside nnpy, bit for bit: python tools/make_mnist_subset.py [SOURCE [OUTPUT]]

SOURCE (default ../shared/data, or $NNPY_DATA) holds the four original files, named as in FILES below. Of each class the
subset takes its share of the source (largest remainders round up): every image gets one number of
``random.Random(SEED).random()``, a sequence that Python promises not to change; a class keeps the images with the
smallest numbers, and the subset is in the order of these numbers: the source files are sorted by class, and whoever
takes the last tenth of the subset for validation must get all classes. The result is one gzip file of four IDX arrays,
one after the other: training images, training labels, test images, test labels. It needs NumPy and nothing else.
"""

from __future__ import annotations

import gzip
import os
import random
import struct
import sys
from pathlib import Path

import numpy as np

SEED = 2024
PARTS = {"train": 10_000, "t10k": 2_000}
FILES = "mnist-{part}-images-idx3-ubyte.gz", "mnist-{part}-labels-idx1-ubyte.gz"
PROJECT = Path(__file__).resolve().parents[1]
OUTPUT = PROJECT / "src" / "nnpy" / "data" / "mnist-subset.idx.gz"


def read_idx(path: Path) -> np.ndarray:
    """One IDX file of unsigned bytes: two zero bytes, type 8, rank, big-endian sizes, elements."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes, it starts with {raw[:4]!r}")
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def write_idx(array: np.ndarray) -> bytes:
    """The array of unsigned bytes in IDX format."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def shares(counts: np.ndarray, total: int) -> np.ndarray:
    """How many of each class: proportional to ``counts``, ``total`` together, largest remainders rounded up."""
    exact = counts * (total / counts.sum())
    result = np.floor(exact).astype(int)
    largest = np.argsort(result - exact, kind="stable")[: total - result.sum()]
    result[largest] += 1
    return result


def choose(labels: np.ndarray, total: int, seed: int = SEED) -> np.ndarray:
    """Indices of a stratified subset of ``total`` samples, in random order."""
    generator = random.Random(seed)
    draws = np.array([generator.random() for _ in range(len(labels))])
    chosen = []
    for label, share in enumerate(shares(np.bincount(labels), total)):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(draws[members], kind="stable")[:share]])
    indices = np.concatenate(chosen)
    return indices[np.argsort(draws[indices], kind="stable")]


def subset(source: Path) -> bytes:
    """The uncompressed content of the embedded file."""
    content = b""
    for part, total in PARTS.items():
        images, labels = (read_idx(source / name.format(part=part)) for name in FILES)
        chosen = choose(labels, total)
        content += write_idx(images[chosen]) + write_idx(labels[chosen])
    return content


def main() -> None:
    default = os.environ.get("NNPY_DATA", PROJECT.parent / "shared" / "data")
    source = Path(sys.argv[1] if len(sys.argv) > 1 else default)
    output = Path(sys.argv[2] if len(sys.argv) > 2 else OUTPUT)
    output.write_bytes(gzip.compress(subset(source), compresslevel=9, mtime=0))
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
