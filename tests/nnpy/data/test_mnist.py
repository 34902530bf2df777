"""The embedded MNIST subset: what it holds, that it is the one that the tool makes."""

import gzip
import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

import nnpy
from nnpy.data import mnist

PROJECT = Path(__file__).resolve().parents[3]
SOURCE = Path(os.environ.get("NNPY_DATA", PROJECT.parent / "shared" / "data"))
FILE = Path(mnist.__file__).with_name("mnist-subset.idx.gz")
SHA256 = "d4bce818633df7b906585f7ae4a059411a93b1ea2cfbdc3cfae92b835ef909f6"  # of the uncompressed content
# Images of each class in the full sets of 60,000 and 10,000.
TRAIN = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


@pytest.fixture(scope="module")
def tool():
    specification = importlib.util.spec_from_file_location("tool", PROJECT / "tools" / "make_mnist_subset.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_shapes_and_values():
    (x, y), (x_test, y_test) = nnpy.data.load_mnist()
    assert [a.shape for a in (x, y, x_test, y_test)] == [(10000, 28, 28), (10000,), (2000, 28, 28), (2000,)]
    for array in (x, y, x_test, y_test):
        assert array.dtype == np.uint8 and array.flags.c_contiguous and array.flags.writeable
    # Ink in the middle, none at the border; the full set's mean is 33.3.
    assert x.max() == 255 and 30 < x.mean() < 37 and x[:, 0].max() == 0 and x[:, 10:18, 10:18].mean() > 80


@pytest.mark.parametrize(("part", "full"), [(0, TRAIN), (1, TEST)])
def test_stratified(part, full):
    labels = nnpy.data.load_mnist()[part][1]
    exact = np.array(full) * len(labels) / sum(full)
    assert np.abs(np.bincount(labels, minlength=10) - exact).max() < 1


def test_order_is_mixed():
    """The source is sorted by class; any slice of the subset must hold all classes about evenly."""
    (_, y), (_, y_test) = nnpy.data.load_mnist()
    for labels in (y[:1000], y[-1000:], y_test[:500], y_test[-500:]):
        shares = np.bincount(labels, minlength=10) / len(labels)
        assert shares.min() > 0.05 and shares.max() < 0.16


def test_no_image_twice():
    (x, _), (x_test, _) = nnpy.data.load_mnist()
    everything = np.concatenate([x, x_test]).reshape(12000, -1)
    assert len({row.tobytes() for row in everything}) == 12000


def test_each_call_gives_arrays_of_its_own():
    (first, _), _ = nnpy.data.load_mnist()
    first[:] = 7
    (second, _), _ = nnpy.data.load_mnist()
    assert second.max() == 255


def test_file_is_small_and_the_documented_one():
    assert FILE.stat().st_size <= 2.5e6
    assert hashlib.sha256(gzip.decompress(FILE.read_bytes())).hexdigest() == SHA256


def test_attribution_is_in_the_package():
    text = FILE.with_name("mnist-attribution.txt").read_text()
    for word in ("LeCun", "Cortes", "Burges", "Creative Commons Attribution-Share Alike 3.0", FILE.name):
        assert word in text


@pytest.mark.skipif(not SOURCE.is_dir(), reason=f"the full MNIST files are not in {SOURCE}")
def test_tool_makes_the_same_content(tool):
    assert hashlib.sha256(tool.subset(SOURCE)).hexdigest() == SHA256


def test_tool_shares_and_choice(tool):
    assert tool.shares(np.array([50, 30, 20]), 10).tolist() == [5, 3, 2]
    assert tool.shares(np.array([1, 1, 1]), 10).tolist() == [4, 3, 3]  # equal remainders: the first class
    labels = np.repeat([0, 1], [60, 40])
    chosen = tool.choose(labels, 10, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [6, 4] and len(set(chosen.tolist())) == 10
    assert chosen.tolist() == tool.choose(labels, 10, seed=1).tolist() != tool.choose(labels, 10, seed=2).tolist()


def test_tool_refuses_another_format(tool, tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\0\0\x0d\x01" + bytes(8)))
    with pytest.raises(ValueError, match="unsigned bytes"):
        tool.read_idx(path)
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path.write_bytes(gzip.compress(tool.write_idx(array)))
    assert np.array_equal(tool.read_idx(path), array)


@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", ">i4", ">f4", ">f8"])
@pytest.mark.parametrize("packed", [False, True])
def test_read_idx(dtype, packed, tmp_path, rng):
    codes = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}
    for shape in ((), (3,), (0, 4), (2, 3, 4)):
        array = rng.integers(0, 100, shape).astype(dtype)
        content = bytes([0, 0, codes[dtype], len(shape)]) + np.array(shape, ">u4").tobytes() + array.tobytes()
        path = tmp_path / "file"
        path.write_bytes(gzip.compress(content) if packed else content)
        read = nnpy.data.read_idx(path)
        assert read.dtype == np.dtype(dtype).newbyteorder("=") and read.shape == shape
        assert np.array_equal(read, array)


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", "not an IDX file"),
        (b"PNG\0", "not an IDX file"),
        (b"\0\0\x07\1", "not an IDX file"),
        (b"\0\0\x08\2\0\0", "cut off: expected 2 sizes"),
        (b"\0\0\x08\1\0\0\0\5abc", r"cut off: expected 5 numbers for \(5,\), got 3 bytes"),
        (b"\0\0\x08\1\0\0\0\1abc", r"expected 9 bytes for uint8 \(1,\), got more"),
        (b"\0\0\x08\2" + b"\xff" * 8 + b"abc", r"cut off: expected \d+ numbers for .*, got 3 bytes"),
        (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"a", "expected a shape that an array can have"),
        (b"\0\0\x0e\4" + b"\xff" * 12 + b"\0" * 4, "expected a shape that an array can have"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\5abc"), r"cut off: expected 5 numbers for \(5,\), got 3 bytes"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\1abc"), r"expected 9 bytes for uint8 \(1,\), got more"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\1a")[:-5], "a damaged gzip file"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\1a")[:10] + b"\xff" * 9, "a damaged gzip file: .*block type"),
        (gzip.compress(b"\0\0\x08\1\0\0\0\1a")[:-8] + b"\0" * 8, "a damaged gzip file: CRC"),
        (b"\x1f\x8b garbage", "a damaged gzip file"),
    ],
)
def test_read_idx_refuses(content, text, tmp_path):
    path = tmp_path / "file.idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=text) as caught:
        nnpy.data.read_idx(path)
    assert str(path) in str(caught.value)


def test_read_idx_bounds_what_a_compressed_file_may_grow_to(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\1\x01\0\0\0" + bytes(1 << 24)))
    assert nnpy.data.read_idx(path).nbytes == 1 << 24
    with pytest.raises(ValueError, match=r"bomb\.gz: expected an array of at most 1000 bytes, got uint8 of \(16777216"):
        nnpy.data.read_idx(path, limit=1000)
    path.write_bytes(gzip.compress(b"\0\0\x0e\2\x7f\xff\xff\xff\x7f\xff\xff\xff"))
    with pytest.raises(ValueError, match=r"expected an array of at most 1073741824 bytes, got float64 of \(21"):
        nnpy.data.read_idx(path)
    path.write_bytes(b"\0\0\x08\1\0\0\0\2ab")  # not compressed: the file's own size is the bound
    assert nnpy.data.read_idx(path, limit=1).tolist() == [97, 98]


def test_read_idx_gives_arrays_that_can_be_written_to(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\0\0\x08\1\0\0\0\2ab")
    array = nnpy.data.read_idx(os.fsencode(path))
    array[0] = 1
    assert array.tolist() == [1, 98] and path.read_bytes()[-2:] == b"ab"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_read_idx_does_not_wait_for_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, "/dev/zero"):
        with pytest.raises(ValueError, match="expected a file, got a folder, a FIFO or a device"):
            nnpy.data.read_idx(path)
    with pytest.raises(TypeError, match="read_idx: expected path to be a path, got 3"):
        nnpy.data.read_idx(3)


def test_read_idx_without_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="read_idx: no file"):
        nnpy.data.read_idx(tmp_path / "missing")
