"""Folders of images by class, or zip files of them: read as a whole, or batch by batch while the step before runs."""

from __future__ import annotations

import inspect
import io
import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnpy import checks, seeds
from nnpy.checks import flag, integer, shown
from nnpy.data.archives import Archive, told_of
from nnpy.data.images import Images
from nnpy.data.workers import Task, Workers
from nnpy.hints import optional

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
# Of those alone: others that Pillow knows start programs (Ghostscript for EPS), whatever a file's name ends in.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_OPTIONS = frozenset(inspect.signature(Images).parameters) - {"x"}
_AHEAD = 2  # batches that are decoded while a step runs
_TASK = 16  # images that a thread decodes at a time
_SMALL = 128 * 128  # pixels below which threads wait for each other's Python code longer than they decode


class ImageFolder:
    """Images by class, ``path/CLASS/NAME.jpg``: an iterable of batches (images, labels) for ``fit`` and the others.

    ``path``: a folder, or a zip file, or a folder inside of it (``"images.zip/train"``); files in folders of a class's
    folder are its too. Batches are decoded by threads while the step before runs: with ``shuffle`` in a new order in
    each pass of ``fit``, while ``evaluate`` and ``predict`` keep to the order of ``files``. Labels are the positions of
    the class's names in ``classes``, sorted. ``image_size``: (height, width) that images are resized to; None: they
    have one size. ``channels``: 1 (grey), 3 or 4; 16 bits of grey become 8. ``limit``: the most bytes of an image, out
    of its zip file and as pixels: a small file can say that it is of any size. Other options: as those of
    ``Images``, which the batches are; the numbers of samples are their places in ``files``.

    ``load()`` reads all of it into arrays, which is faster where there is memory for it: the bytes as they are, without
    the other options. Needs Pillow: pip install "nnpy-cpu[images]" (ModuleNotFoundError). Formats: JPEG, PNG, BMP,
    GIF, WebP, PPM and TIFF. Raises FileNotFoundError if there is no such path, ValueError if it has no images by class,
    an image cannot be read, or a zip file has names that are absolute or come twice.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike,
        image_size: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        channels: int = 3,
        classes: Sequence[str] | None = None,
        limit: int = 1 << 28,
        **options: Any,
    ):
        _pillow()
        self.path = checks.path("ImageFolder", "path", path)
        self.limit = integer("ImageFolder", "limit", limit, least=0)
        self.batch_size = integer("ImageFolder", "batch_size", batch_size, least=1)
        self.shuffle = flag("ImageFolder", "shuffle", shuffle)
        if channels not in _MODES:
            raise ValueError(f"ImageFolder: expected channels to be 1, 3 or 4, got {shown(channels)}")
        if unknown := sorted(set(options) - _OPTIONS):
            raise TypeError(
                f"ImageFolder: unexpected argument {unknown[0]!r}; options are {', '.join(sorted(_OPTIONS))}"
            )
        self.channels = channels
        self._archive, files = _list(self.path)
        found: dict[str, list[str]] = {}
        for file, name in files:
            found.setdefault(name, []).append(file)
        if not found:
            raise ValueError(f"ImageFolder: expected images by class, {self.path}/CLASS/NAME.jpg or so, found none")
        self.classes = sorted(found) if classes is None else [str(name) for name in classes]
        if missing := sorted(set(found) ^ set(self.classes)):
            raise ValueError(f"ImageFolder: expected classes {sorted(found)}, as there are folders, {missing} differ")
        self.files = [file for name in self.classes for file in sorted(found[name])]
        self.labels = np.repeat(np.arange(len(self.classes)), [len(found[name]) for name in self.classes])
        if image_size is None:
            self.image_size = self._decode(self.files[0], None).shape[:2]
        else:
            given = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
            if len(given) != 2:
                raise ValueError(f"ImageFolder: expected image_size to be (height, width), got {shown(image_size)}")
            self.image_size = tuple(integer("ImageFolder", "image_size", n, least=1) for n in given)
        self._resize = image_size is not None
        self.options = options
        self.batches = 0  # passes so far
        Images(np.empty((0, *self.image_size, channels), np.uint8), **options)  # are the options right?

    def __len__(self) -> int:
        """Batches in a pass."""
        return math.ceil(len(self.files) / self.batch_size)

    def __repr__(self) -> str:
        return f"ImageFolder({str(self.path)!r}: {len(self.files)} images, {len(self.classes)} classes)"

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """All images and labels: (samples, height, width, channels) of uint8, (samples,) of int64."""
        x = np.empty((len(self.files), *self.image_size, self.channels), np.uint8)
        workers = Workers(self._most())
        try:
            workers.give(self._tasks(x, range(len(self.files))))()
        finally:
            workers.stop()
        return x, self.labels.copy()

    def __iter__(self) -> Iterator[tuple[Images, np.ndarray]]:
        self.batches += 1
        return self.in_pass(self.batches - 1)

    def in_pass(self, number: int, seed: int | None = None) -> Iterator[tuple[Images, np.ndarray]]:
        """The batches in the order of pass ``number`` under ``seed`` (None: the one in use). ``fit`` counts the passes
        of its model: what goes on from a file sees the orders that it would have seen."""
        if not self.shuffle:
            return self.in_order()
        return self._batches(seeds.stream("folder", number, seed).permutation(len(self.files)))

    def in_order(self) -> Iterator[tuple[Images, np.ndarray]]:
        """The batches in the order of ``files`` and ``labels``, as ``evaluate`` and ``predict`` take them."""
        return self._batches(np.arange(len(self.files)))

    def _batches(self, order: np.ndarray) -> Iterator[tuple[Images, np.ndarray]]:
        count, batch = len(order), self.batch_size
        starts = iter(range(0, count, batch))
        running: deque[tuple[np.ndarray, np.ndarray, Task]] = deque()
        workers = Workers(self._most())

        def begin(start: int | None) -> None:
            if start is not None:
                rows = order[start : start + batch]
                x = np.empty((len(rows), *self.image_size, self.channels), np.uint8)
                running.append((rows, x, workers.give(self._tasks(x, rows))))

        try:
            for _ in range(_AHEAD):
                begin(next(starts, None))
            while running:
                if not workers.here:
                    raise RuntimeError(
                        "ImageFolder: expected a pass to be read where it began; a forked process has no such threads"
                    )
                rows, x, wait = running.popleft()
                wait()
                begin(next(starts, None))
                yield Images(x, **self.options).numbered(rows), self.labels[rows]
        finally:
            workers.stop()

    def _most(self) -> int:
        """How many threads decode."""
        return 1 if math.prod(self.image_size) < _SMALL else min(32, os.cpu_count() or 1)

    def _tasks(self, x: np.ndarray, rows: Sequence[int] | np.ndarray) -> list[Task]:
        """What decodes the files at ``rows`` into x, a few each."""

        def decode(first: int) -> None:
            for place in range(first, min(first + _TASK, len(x))):
                file = self.files[rows[place]]
                image = self._decode(file, self.image_size if self._resize else None)
                if image.shape != x.shape[1:]:
                    raise ValueError(
                        f"ImageFolder: expected images of {x.shape[1:]}, as the first is, got {image.shape} in {file}; "
                        "image_size=(height, width) resizes them"
                    )
                x[place] = image

        return [partial(decode, first) for first in range(0, len(x), _TASK)]

    def _decode(self, file: str, size: tuple[int, ...] | None) -> np.ndarray:
        """(height, width, channels)"""
        pillow, mode = _pillow(), _MODES[self.channels]
        where = f"{file} in {self._archive.path}" if self._archive is not None else file
        if self._archive is not None:
            content = self._archive.read(file, self.limit)
        try:
            with pillow.open(Path(file) if self._archive is None else io.BytesIO(content), formats=_FORMATS) as image:
                wanted = image.width * image.height * max(self.channels, len(image.getbands()))
                if wanted > self.limit:
                    raise ValueError(
                        f"expected an image of at most {self.limit} bytes, got {image.width} x {image.height} pixels; "
                        "limit= takes larger ones"
                    )
                image.draft(mode, size and (size[1], size[0]))  # a JPEG can be decoded smaller
                image = _of_bytes(image).convert(mode)
                if size is not None and image.size != (size[1], size[0]):
                    image = image.resize((size[1], size[0]), pillow.Resampling.BILINEAR)
                array = np.asarray(image)
        except Exception as error:  # a damaged file makes Pillow raise whatever comes
            unknown = isinstance(error, pillow.UnidentifiedImageError)
            told = f"Pillow knows no image like this among {', '.join(_FORMATS)}" if unknown else told_of(error)
            raise ValueError(f"ImageFolder: cannot read {where}: {told}") from error
        return array if array.ndim == 3 else array[:, :, None]


def _list(path: Path) -> tuple[Archive | None, list[tuple[str, str]]]:
    """(the zip file, [(file, name of its class)])"""
    import zipfile

    if path.is_dir():
        inside = ((file, file.relative_to(path).parts) for file in path.rglob("*"))
        return None, [(str(file), parts[0]) for file, parts in inside if _is_image(parts) and file.is_file()]
    for archive in (path, *path.parents):
        if archive.is_file():
            if not zipfile.is_zipfile(archive):
                raise ValueError(f"ImageFolder: expected a folder or a zip file, got {archive}")
            opened, prefix = Archive(archive, "ImageFolder"), path.relative_to(archive).parts
            names = [(name, tuple(name.split("/"))) for name in opened.names]
            inner = [(name, parts[len(prefix) :]) for name, parts in names if parts[: len(prefix)] == prefix]
            if prefix and not inner:
                raise FileNotFoundError(f"ImageFolder: no folder {'/'.join(prefix)} in {archive}")
            return opened, [(name, parts[0]) for name, parts in inner if _is_image(parts)]
    raise FileNotFoundError(f"ImageFolder: no folder or zip file {path}")


def _is_image(parts: Sequence[str]) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return len(parts) > 1 and not hidden and Path(parts[-1]).suffix.lower() in SUFFIXES


def _of_bytes(image: Any) -> Any:
    """An image of 8 bits. ValueError for what has numbers without a range: Pillow would cut them off."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return _pillow().fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"expected pixels of 8 or 16 bits, got Pillow's mode {image.mode!r}")
    return image


def _pillow() -> Any:
    optional("PIL", "Pillow", "images", "ImageFolder: reading image files")
    from PIL import Image

    return Image
