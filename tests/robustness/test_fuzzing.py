"""Damaged files of every kind that is read: they are read, or refused by an error that names the file. Nothing else."""

import gzip
import io
import json
import random
import struct
import zipfile

import numpy as np
import pytest

import nnpy as nn

VALUES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(content, rng):
    """The bytes with one to four changes: other bits, extreme numbers, parts that are missing, come twice or are
    exchanged."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        # At the beginning, where headers are, as often as anywhere.
        at = rng.randrange(max(1, min(len(data), rng.choice((16, 64, 1 << 30)))))
        size = rng.choice((1, 2, 4, 8, 64))
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(VALUES))[: rng.choice((1, 2, 4))]
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + size]
        elif kind == 4:
            data[at:at] = data[at : at + size]
        elif kind == 5:
            data[at : at + size] = rng.randbytes(size)
        else:
            other = rng.randrange(len(data) + 1)
            data[at : at + size], data[other : other + size] = data[other : other + size], data[at : at + size]
    return bytes(data)


def swapped(content, rng):
    """A model's file with a value of its JSON in the place of another one: the bytes are whole, the meaning is not."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    inner = json.loads(header["__metadata__"]["nnpy"])
    places = []

    def walk(value):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(inner)
    for _ in range(rng.choice((1, 1, 2))):
        (into, key), (source, other) = rng.choice(places), rng.choice(places)
        value = rng.choice((source[other], None, -1, 0, 3, 1.5, "", "dense", [], {}, True))
        into[key] = json.loads(json.dumps(value)) if not isinstance(value, dict | list) or rng.random() < 0.5 else value
    try:
        header["__metadata__"]["nnpy"] = json.dumps(inner)
    except (ValueError, RecursionError):  # it holds itself
        return content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def models(tmp_path):
    hidden = [nn.Conv2D(3, 3), nn.BatchNormalization(), nn.Flatten()]
    net = nn.Sequential([nn.Input((6, 6, 2)), *hidden, nn.Dense(2, activation="relu")])
    net.compile("adam", "mse", metrics=["mae"])
    net.fit(np.ones((4, 6, 6, 2), "f4"), np.ones((4, 2), "f4"), verbose=0)
    yield net.save(tmp_path / "good.safetensors").read_bytes()
    x = nn.Input((3,))
    joined = nn.Model({"x": x}, {"y": nn.Add()([nn.Dense(2, name="a")(x), nn.Dropout(0.5)(nn.Dense(2)(x))])})
    joined.compile(nn.SGD(nn.schedules.CosineDecay(0.1, 10)), {"y": "mse"})
    yield joined.save(tmp_path / "good.safetensors").read_bytes()


def idx(tmp_path):
    yield b"\0\0\x0d\2\0\0\0\3\0\0\0\5" + np.arange(15, dtype=">f4").tobytes()
    yield b"\0\0\x08\3\0\0\0\2\0\0\0\2\0\0\0\4" + bytes(16)


def packed_idx(tmp_path):
    for content in idx(tmp_path):
        yield gzip.compress(content)


def images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    features = pytest.importorskip("PIL.features")
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", *(["WEBP"] if features.check("webp") else [])):
        file = io.BytesIO()
        image.fromarray(pixels).save(file, kind)
        yield file.getvalue()


def archives(tmp_path):
    content = next(images(tmp_path))
    for packed in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", packed) as made:
            for name in ("cat/a.png", "dog/b.png", "dog/notes.txt"):
                made.writestr(name, content)
        yield file.getvalue()


def tables(tmp_path):
    yield b"epoch,loss,val_loss\r\n0,0.5,0.75\r\n1,0.25,NA\r\n"


def load_weights(path):
    nn.Sequential([nn.Input((3,)), nn.Dense(2)]).load_weights(path)


def read_image(path):
    nn.data.ImageFolder(path.parent.parent, channels=3).load()


def append(path):
    logger = nn.CSVLogger(path, append=True)
    logger.on_train_begin()
    logger.on_epoch_end(0, {"loss": 0.5})


# kind -> (files that are whole, what damages them, where they lie, what reads them)
KINDS = {
    "model": (models, damaged, "bad.safetensors", nn.load_model),
    "structure": (models, swapped, "bad.safetensors", nn.load_model),
    "weights": (models, damaged, "bad.safetensors", load_weights),
    "idx": (idx, damaged, "bad.idx", nn.data.read_idx),
    "packed idx": (packed_idx, damaged, "bad.idx.gz", nn.data.read_idx),
    "image": (images, damaged, "images/cat/bad.png", read_image),
    "archive": (archives, damaged, "bad.zip", lambda path: nn.data.ImageFolder(path).load()),
    "table": (tables, damaged, "bad.csv", append),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, long, tmp_path, capfd):
    make, damage, name, read = KINDS[kind]
    path, rng = tmp_path / name, random.Random(kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = list(make(tmp_path))
    for content in whole:  # they are right before they are damaged
        path.write_bytes(content)
        if read is not load_weights:
            read(path)
    read_all = 0
    for number in range(long(2000, 130_000 // len(KINDS))):
        content = damage(rng.choice(whole), rng)
        path.write_bytes(content)
        try:
            read(path)
            read_all += 1
        except (ValueError, OSError) as error:
            known = path.stem in str(error) or "expected images by class" in str(error)
            assert known, f"{kind} {number}: {type(error).__name__}: {error}"
        except BaseException as error:
            raise AssertionError(f"{kind} {number} raises {type(error).__name__}: {error}") from error
    assert read_all < number
    assert "Traceback" not in capfd.readouterr().err
