"""The format safetensors: what the reference implementation writes and reads, and what it refuses."""

import json

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from nnpy.tensors import TensorFile, write

KINDS = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def arrays(rng):
    made = {kind: (rng.normal(size=(3, 5)) * 9).astype(kind) for kind in KINDS}
    return made | {"number": np.float32(2.5).reshape(()), "none": np.zeros((0, 4), "f4"), "turned": made["f8"].T}


def test_both_ways_with_the_reference(rng, tmp_path):
    path, given = tmp_path / "t.safetensors", arrays(rng)
    with open(path, "wb") as file:
        write(file, given, {"text": "{}", "\N{SNOWMAN}": "\N{SNOWMAN}"})
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {"text": "{}", "\N{SNOWMAN}": "\N{SNOWMAN}"}
        theirs = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path.write_bytes(save({name: np.array(array, order="C") for name, array in given.items()}, {"text": "{}"}))
    with TensorFile(path) as file:
        assert file.metadata == {"text": "{}"}
        ours = {name: file.read(name) for name in file.entries}
    for name, array in given.items():
        for found in (ours[name], theirs[name]):
            assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes()), name
        assert ours[name].flags.writeable


def content(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(kind="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": kind, "shape": list(shape), "data_offsets": list(offsets)}


def test_bfloat16_is_the_upper_half_of_a_float32():
    numbers = np.array([1.5, -2.0, np.inf, 3.0e38], "f4")
    halves = (numbers.view("u4") >> 16).astype("u2")
    with TensorFile(content({"a": entry("BF16", (4,))}, halves.tobytes())) as file:
        assert np.array_equal(file.read("a"), (halves.astype("u4") << 16).view("f4"))
    with (
        TensorFile(content({"a": entry("F8_E5M2", (8,))}, bytes(8))) as file,
        pytest.raises(ValueError, match=r"^copy: a: expected one of F64, .*BF16, got F8_E5M2$"),
    ):
        file.read("a")


BAD = {
    "empty": b"",
    "short": b"\x01\x00\x00",
    "header beyond the end": (100).to_bytes(8, "little") + b"{}",
    "header of exabytes": (2**62).to_bytes(8, "little") + b"{}",
    "no JSON": content(b"{]"),
    "no text": content(b"\xff\xfe"),
    "no object": content([1]),
    "deep": content(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "metadata": content({"__metadata__": {"a": 1}}),
    "twice": content(b'{"a":%s,"a":%s}' % ((json.dumps(entry(shape=(0,), offsets=(0, 0))).encode(),) * 2)),
    "more bytes": content({"a": entry()}, bytes(9)),
    "fewer bytes": content({"a": entry()}, bytes(7)),
    "hole": content({"a": entry(), "b": entry(offsets=(9, 17))}, bytes(17)),
    "overlap": content({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "backward": content({"a": entry(offsets=(8, 0))}, bytes(8)),
    "too few numbers": content({"a": entry(shape=(3,))}, bytes(8)),
    "huge": content({"a": entry(shape=(2**40, 2**40))}, bytes(8)),
    "negative": content({"a": entry(shape=(-2, -1))}, bytes(8)),
    "fraction": content({"a": entry(shape=(2.0,))}, bytes(8)),
    "truth": content({"a": entry(shape=(2, True))}, bytes(8)),
    "unknown dtype": content({"a": entry("F99")}, bytes(8)),
    "no entry": content({"a": 1}),
    "parts": content({"a": {"dtype": "F32"}}, bytes(8)),
    "axes": content({"a": entry(shape=(2,) + (1,) * 100)}, bytes(8)),
}


@pytest.mark.parametrize("kind", BAD)
def test_damaged_files_are_refused_as_the_reference_does(kind, tmp_path):
    path = tmp_path / "t.safetensors"
    path.write_bytes(BAD[kind])
    if kind not in ("axes", "twice"):  # beyond NumPy's; of two arrays it takes the last
        with pytest.raises(SafetensorError):
            load(BAD[kind])
    with pytest.raises(ValueError, match=r"t\.safetensors: not a safetensors file, or a damaged one: "):
        TensorFile(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a file"):
        TensorFile(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file"):
        TensorFile(tmp_path / "t.safetensors")


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    path = tmp_path / "t.safetensors"
    path.write_bytes(content({"a": entry("F32", (40_000,), (0, 160_000))}, bytes(160_000)))
    with TensorFile(path) as file:
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match="a ends early"):
            file.read("a")


def test_damage_anywhere_is_refused_or_read(rng):
    """Random bytes in the header: either the error, or arrays of the sizes that the header says."""
    import io

    file = io.BytesIO()
    write(file, arrays(rng), {"text": "{}"})
    whole = file.getvalue()
    header = int.from_bytes(whole[:8], "little") + 8
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for place in rng.integers(0, header, rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        try:
            with TensorFile(bytes(damaged)) as found:
                for name in found.entries:
                    assert found.read(name).shape == found.entries[name].shape
        except ValueError as error:
            assert str(error).startswith("copy: ")
            refused += 1
    assert refused > 100
