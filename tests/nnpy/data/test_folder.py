"""Folders and zip files of images, and batches that are prepared in other threads."""

import _thread
import itertools
import os
import signal
import struct
import sys
import threading
import time
import warnings
import zipfile
import zlib
from contextlib import closing, suppress

import numpy as np
import pytest

import nnpy as nn
from nnpy.data import ImageFolder, Images, prefetch

Image = pytest.importorskip("PIL.Image")
CLASSES = ("bird", "cat", "dog")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven images of each class, whose first pixel says which; and what does not belong to them."""
    path = tmp_path_factory.mktemp("images")
    for label, name in enumerate(CLASSES):
        (path / name / "more").mkdir(parents=True)
        for number in range(7):
            pixels = np.full((5, 6, 3), 10 * number, np.uint8)
            pixels[0, 0] = 100 * label + number
            Image.fromarray(pixels).save(path / name / ("more" if number == 6 else "") / f"{number}.png")
        (path / name / "notes.txt").write_text("not an image")
    Image.fromarray(pixels).save(path / "cat" / ".hidden.png")
    Image.fromarray(pixels).save(path / "no-class.png")
    (path / "empty").mkdir()
    return path


@pytest.fixture(scope="module")
def archive(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "all.zip"
    with zipfile.ZipFile(path, "w") as made:
        for file in folder.rglob("*.*"):
            made.write(file, "inner/" + str(file.relative_to(folder)))
    return path


def test_load(folder, archive):
    for path in (folder, os.fsencode(folder), archive / "inner", str(archive / "inner")):
        data = ImageFolder(path)
        assert data.classes == list(CLASSES) and data.image_size == (5, 6) and len(data.files) == 21
        x, y = data.load()
        assert x.shape == (21, 5, 6, 3) and x.dtype == np.uint8
        np.testing.assert_array_equal(y, np.repeat([0, 1, 2], 7))
        np.testing.assert_array_equal(x[:, 0, 0, 0], [100 * label + n for label in range(3) for n in range(7)])
        np.testing.assert_array_equal(data.labels, y)


def test_batches(folder):
    data = ImageFolder(folder, batch_size=4, padding=1, flip=True, std=255)
    assert len(data) == 6
    nn.set_seed(1)
    first, second = list(data), list(data)
    for passed in (first, second):
        assert [len(images) for images, _ in passed] == [4, 4, 4, 4, 4, 1]
        marks = np.concatenate([images.x[:, 0, 0, 0] for images, _ in passed])
        labels = np.concatenate([labels for _, labels in passed])
        np.testing.assert_array_equal(marks // 100, labels)
        assert len(set(marks)) == 21
    assert any((a.x != b.x).any() for (a, _), (b, _) in zip(first, second, strict=True))  # another order
    images, _ = first[0]
    whole = nn.data.Images(data.load()[0], padding=1, flip=True, std=255)
    np.testing.assert_array_equal(images.take([2], epoch=5), whole.take([images.numbers[2]], epoch=5))
    nn.set_seed(1)
    again = list(ImageFolder(folder, batch_size=4))
    np.testing.assert_array_equal(again[0][0].x, first[0][0].x)
    in_order = list(ImageFolder(folder, batch_size=21, shuffle=False))
    np.testing.assert_array_equal(in_order[0][1], data.labels)


def test_sizes_and_channels(folder, tmp_path):
    assert ImageFolder(folder, (10, 4)).load()[0].shape == (21, 10, 4, 3)
    assert ImageFolder(folder, 8, channels=1).load()[0].shape == (21, 8, 8, 1)
    assert ImageFolder(folder, channels=4).load()[0].shape == (21, 5, 6, 4)
    (tmp_path / "a").mkdir()
    for n in (2, 9):
        Image.fromarray(np.zeros((n, n, 3), np.uint8)).save(tmp_path / "a" / f"{n}.png")
    with pytest.raises(
        ValueError, match=r"images of \(2, 2, 3\), as the first is, got \(9, 9, 3\) in .*9.png; image_s"
    ):
        ImageFolder(tmp_path).load()
    assert ImageFolder(tmp_path, (4, 4)).load()[0].shape == (2, 4, 4, 3)


def test_fit_evaluate_predict(folder):
    nn.set_seed(0)
    data = ImageFolder(folder, batch_size=5, std=255)
    model = nn.Sequential([nn.Input((5, 6, 3)), nn.Flatten(), nn.Dense(3, activation="softmax")])
    model.compile(nn.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(data, epochs=60, validation_data=ImageFolder(folder, shuffle=False, std=255), verbose=0)
    assert history.history["val_accuracy"][-1] == 1
    in_order = ImageFolder(folder, batch_size=5, shuffle=False, std=255)
    assert model.evaluate(in_order, verbose=0)[1] == 1
    np.testing.assert_array_equal(model.predict(in_order).argmax(1), data.labels)
    assert threading.active_count() < 20


def test_refuses(folder, archive, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ImageFolder: no folder or zip file .*nowhere"):
        ImageFolder(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no folder outer in .*all.zip"):
        ImageFolder(archive / "outer")
    with pytest.raises(ValueError, match=r"expected a folder or a zip file, got .*0.png"):
        ImageFolder(folder / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"expected images by class, .*, found none"):
        ImageFolder(folder / "empty")
    with pytest.raises(ValueError, match=r"expected classes \['bird', 'cat', 'dog'\]"):
        ImageFolder(folder, classes=["bird", "cat"])
    with pytest.raises(ValueError, match="expected channels to be 1, 3 or 4, got 2"):
        ImageFolder(folder, channels=2)
    with pytest.raises(ValueError, match="expected std above 0"):
        ImageFolder(folder, std=-1)
    with pytest.raises(TypeError, match="crop"):
        ImageFolder(folder, crop=3)
    with pytest.raises(ValueError, match=r"expected image_size to be \(height, width\)"):
        ImageFolder(folder, (1, 2, 3))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"not a JPEG")
    with pytest.raises(ValueError, match=r"cannot read .*x.jpg"):
        ImageFolder(tmp_path)
    broken = ImageFolder(tmp_path, (3, 3))
    with pytest.raises(ValueError, match=r"cannot read .*x.jpg"):
        list(broken)


def test_without_pillow(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r'needs Pillow; pip install "nnpy-cpu\[images\]"'):
        ImageFolder(folder)


def test_batches_are_made_while_the_step_runs():
    """The next batches are ready, in another thread, before they are asked for."""
    made, threads = [], set()

    def batches():
        for number in range(5):
            made.append(number)
            threads.add(threading.get_ident())
            yield number

    with closing(iter(prefetch(batches(), ahead=2))) as running:
        assert next(running) == 0
        while len(made) < 4:  # 1 and 2 are ready, and 3 waits for a place
            time.sleep(0.01)
        time.sleep(0.05)
        assert made == [0, 1, 2, 3]
        assert list(running) == [1, 2, 3, 4]
    assert threads and threading.get_ident() not in threads


def test_prefetch_ends_with_its_reader():
    """Whoever stops reading leaves no thread behind; errors come where their batch would have."""
    before = _thread._count()
    with closing(iter(prefetch(iter(range(10**9))))) as running:
        next(running)
    while _thread._count() > before:  # it was not waited for where it was making a batch
        time.sleep(0.001)

    def broken():
        yield 1
        raise KeyError("no more")

    running = iter(prefetch(broken()))
    assert next(running) == 1
    with pytest.raises(KeyError, match="no more"):
        next(running)
    assert list(prefetch([1, 2])) == [1, 2] and len(prefetch([1, 2])) == 2
    for bad, text in ((3, "expected an iterable"), (None, "expected an iterable")):
        with pytest.raises(TypeError, match=text):
            prefetch(bad)
    with pytest.raises(ValueError, match="expected ahead to be a positive integer"):
        prefetch([], 0)


def test_who_stops_reading_does_not_wait_for_the_source():
    """A download that does not come: Ctrl-C ends the reader, and the thread ends when its source answers."""
    came, answer = threading.Event(), threading.Event()

    def slow():
        yield 1
        came.set()
        answer.wait()
        yield 2

    before = _thread._count()
    running = iter(prefetch(slow()))
    assert next(running) == 1 and came.wait(60)
    running.close()
    assert _thread._count() == before + 1
    answer.set()
    while _thread._count() > before:
        time.sleep(0.001)


def test_control_c_while_a_source_is_waited_for():
    """The signal comes when the reader waits for its batch, which would never come."""
    answer = threading.Event()

    def slow():
        yield 1
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        answer.wait()

    try:
        with pytest.raises(KeyboardInterrupt):
            list(prefetch(slow()))
    finally:
        answer.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_threads_of_a_pass_are_not_waited_for_in_a_forked_child(folder, archive):
    """What a thread would have to make is refused; new passes, and files of an open archive, are read."""
    ahead, data = iter(prefetch(iter(range(10**9)))), ImageFolder(archive / "inner", batch_size=1)
    whole, running = data.load()[0], iter(data)
    next(ahead), next(running)

    def refused(iterator):
        try:
            next(iterator)
        except RuntimeError as error:
            return "a forked process has no such thread" in str(error)

    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            good = refused(ahead) and refused(running) and np.array_equal(data.load()[0], whole)
            ahead.close()
            code = 7 if good and list(prefetch([1, 2])) == [1, 2] else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert next(ahead) == 1 and np.array_equal(data.load()[0], whole)
    ahead.close()


def test_fit_on_prefetched_batches():
    x, y = np.random.default_rng(0).normal(size=(64, 3)), np.ones((64, 1))
    parts = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    results = []
    for wrap in (lambda it: it, prefetch):
        nn.set_seed(1)
        model = nn.Sequential([nn.Dense(1)])
        model.compile("sgd", "mse")
        results.append(model.fit(wrap(b for _ in range(3) for b in parts), steps_per_epoch=4, epochs=3, verbose=0))
    assert results[0].history == results[1].history


def kept(value):
    return value


@pytest.mark.parametrize(
    "pack", [kept, lambda a: (a, [a]), lambda a: {"a": a}, lambda a: Images(a[:, None, None, None])]
)
def test_batches_that_are_made_in_one_array_are_copied(pack):
    array = np.zeros(4)

    def refilled():
        for number in range(6):
            array[:] = number
            yield pack(array)

    for number, batch in enumerate(list(prefetch(refilled()))):
        while isinstance(batch, tuple | list | dict):
            batch = batch["a"] if isinstance(batch, dict) else batch[-1]
        np.testing.assert_array_equal(np.unique(np.asarray(batch)), [number])


@pytest.mark.parametrize("wrap", [lambda data: data, prefetch])
def test_a_run_that_goes_on_from_a_file_sees_the_orders_that_it_would_have_seen(wrap, folder, tmp_path):
    """Another process has another seed, and an ImageFolder that nobody has read yet; images are augmented, too."""

    def fresh():
        return wrap(ImageFolder(folder, batch_size=4, padding=1, flip=True, std=255))

    model = nn.Sequential([nn.Flatten(), nn.Dropout(0.3), nn.Dense(3, activation="softmax")], seed=5)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(fresh(), epochs=2, verbose=0)
    model.save(tmp_path / "two.safetensors")
    whole = model.fit(fresh(), epochs=5, initial_epoch=2, verbose=0)
    again = nn.load_model(tmp_path / "two.safetensors")
    nn.set_seed(99)
    try:
        assert again.fit(fresh(), epochs=5, initial_epoch=2, verbose=0).history == whole.history
    finally:
        nn.set_seed(0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(set(whole.history["loss"])) == 3


def test_a_run_that_goes_on_in_the_midst_of_a_pass_over_a_folder(folder):
    """Epochs of four batches, of passes of six: the third begins in the second pass."""
    kept = []

    def keep(epoch, logs):
        if epoch == 2:
            kept[:] = [model.get_weights(), model.training.state()]

    def network():
        nn.set_seed(1)
        made = nn.Sequential([nn.Input((5, 6, 3)), nn.Flatten(), nn.Dense(3, activation="softmax")])
        made.compile("sgd", "sparse_categorical_crossentropy")
        return made

    def fit(model, **options):
        return model.fit(ImageFolder(folder, batch_size=4), epochs=5, steps_per_epoch=4, verbose=0, **options).history

    model, again = network(), network()
    model.fit(ImageFolder(folder), verbose=0)  # passes of an earlier run are counted
    again.fit(ImageFolder(folder), verbose=0)
    whole = fit(model, callbacks=nn.LambdaCallback(on_epoch_begin=keep))
    again.set_weights(kept[0])
    again.training.restore(kept[1])
    nn.set_seed(3)
    assert fit(again) == whole
    nn.set_seed(0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wrap", [kept, prefetch])
def test_evaluate_and_predict_keep_the_order(folder, wrap):
    data = ImageFolder(folder, batch_size=4)
    x, y = data.load()
    model = nn.Sequential([nn.Input(x.shape[1:]), nn.Flatten(), nn.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    np.testing.assert_allclose(model.predict(wrap(data)), model.predict(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.evaluate(wrap(data), verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-5)


def test_pixels_of_16_bits_become_8_and_numbers_without_a_range_are_refused(tmp_path):
    for name, pixels in (("grey", np.arange(81, dtype=np.uint16) * 800), ("real", np.linspace(0, 1, 81, dtype="f"))):
        (tmp_path / name / "a").mkdir(parents=True)
        Image.fromarray(pixels.reshape(9, 9)).save(tmp_path / name / "a" / "x.tif")
    x, _ = ImageFolder(tmp_path / "grey", channels=1).load()
    np.testing.assert_array_equal(x.ravel(), np.arange(81) * 800 // 256)
    with pytest.raises(ValueError, match=r"x\.tif: expected pixels of 8 or 16 bits, got Pillow's mode 'F'"):
        ImageFolder(tmp_path / "real")


def test_what_cannot_be_read_is_named(folder, archive, tmp_path):
    with pytest.raises(TypeError, match=r"ImageFolder: unexpected argument 'foo'; options are .*flip"):
        ImageFolder(folder, foo=2)
    damaged = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as made:
        first = min((i for i in made.infolist() if i.filename.endswith("bird/0.png")), key=lambda i: i.header_offset)
    start = first.header_offset + 30 + len(first.filename)
    damaged[start + first.compress_size // 2] ^= 255
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"ImageFolder: cannot read inner/bird/0.png in .*damaged.zip"):
        ImageFolder(tmp_path / "damaged.zip" / "inner")
    (tmp_path / "text" / "a").mkdir(parents=True)
    (tmp_path / "text" / "a" / "x.png").write_text("text")
    with pytest.raises(ValueError, match=r"x\.png: Pillow knows no image like this among JPEG, PNG"):
        ImageFolder(tmp_path / "text")


def zipped(path, names, content=b"", **options):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **options) as made:
        warnings.simplefilter("ignore")  # of names that come twice
        for name in names:
            made.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["/a/x.png", "C:/a/x.png", "\\a\\x.png", "a/../../x.png", "a/..\\x.png"])
def test_names_that_lead_out_of_an_archive_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"expected names within the archive in .*bad\.zip, got '") as caught:
        ImageFolder(zipped(tmp_path / "bad.zip", ["a/y.png", name]))
    assert repr(name) in str(caught.value)


def test_names_that_come_twice_in_an_archive_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected each name once in .*bad\.zip, got 'a/x\.png' twice"):
        ImageFolder(zipped(tmp_path / "bad.zip", ["a/x.png", "b/y.png", "a/x.png"]))


def test_bombs_are_refused_before_they_grow(folder, tmp_path):
    """A file in an archive that would be 64 MB, and an image of 10^10 pixels."""
    path = zipped(tmp_path / "bomb.zip", ["a/x.png"], bytes(1 << 26), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 17
    with pytest.raises(ValueError, match=r"read a/x\.png in .*bomb\.zip: expected at most 1000000 bytes, got 671088"):
        ImageFolder(path, limit=10**6)
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "png" / "a").mkdir(parents=True)
    (tmp_path / "png" / "a" / "x.png").write_bytes(png + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0x35AF061E))
    with pytest.raises(ValueError, match=r"ImageFolder: cannot read .*x\.png: "):
        ImageFolder(tmp_path / "png")
    with pytest.raises(ValueError, match=r"expected an image of at most 89 bytes, got 6 x 5 pixels; limit= takes"):
        ImageFolder(folder, limit=89)
    assert ImageFolder(folder, limit=90).load()[0].shape == (21, 5, 6, 3)
    for bad in (-1, 1.5, None):
        with pytest.raises((TypeError, ValueError), match="expected limit to be an integer >= 0"):
            ImageFolder(folder, limit=bad)


def test_images_are_opened_as_the_formats_that_are_listed_whatever_their_name(tmp_path, monkeypatch):
    """An EPS file would start Ghostscript."""
    plugin = pytest.importorskip("PIL.EpsImagePlugin")
    monkeypatch.setattr(plugin, "Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "cat.png", format="EPS")
    with pytest.raises(ValueError, match=r"cat\.png: Pillow knows no image like this among JPEG"):
        ImageFolder(tmp_path)
    for format in ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF"):
        Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "a" / "cat.png", format=format)
        x, _ = ImageFolder(tmp_path).load()
        assert x[0, 0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_archives_that_zipfile_cannot_read_are_named(tmp_path):
    whole = zipped(tmp_path / "good.zip", ["a/x.png"], b"text" * 99, compression=zipfile.ZIP_DEFLATED).read_bytes()
    directory = whole.index(b"PK\1\2")
    encrypted, strange, cut = bytearray(whole), bytearray(whole), bytearray(whole)
    encrypted[directory + 8] |= 1
    encrypted[6] |= 1
    strange[directory + 10 : directory + 12] = b"\x61\0"  # a way to pack that is none
    strange[8:10] = b"\x61\0"
    cut[directory] = 0
    for name, content in (("encrypted", encrypted), ("strange", strange), ("cut", cut)):
        (tmp_path / f"{name}.zip").write_bytes(content)
        with pytest.raises(ValueError, match=rf"ImageFolder: cannot read .*{name}\.zip: \S"):
            ImageFolder(tmp_path / f"{name}.zip")


def test_batches_have_their_size(folder):
    """``batch_size`` beside batches would say nothing, and so does ``validation_batch_size``."""
    data, model = ImageFolder(folder, batch_size=4), nn.Sequential([nn.Flatten(), nn.Dense(3)])
    x, y = data.load()
    model.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    for run in (model.fit, model.evaluate, model.predict):
        with pytest.raises(TypeError, match=r"^batch_size: expected None, .*: ImageFolder\(..., batch_size=\)$"):
            run(data, batch_size=16)
        with pytest.raises(TypeError, match=r"^batch_size: .* batches of generator have their size already$"):
            run(((x, y) for _ in range(1)), batch_size=16)
    with pytest.raises(TypeError, match=r"^validation_batch_size: expected None, as the batches of ImageFolder"):
        model.fit(x, y, validation_data=data, validation_batch_size=2, verbose=0)
    for name in ("validation_batch_size", "validation_steps", "validation_freq"):
        with pytest.raises(ValueError, match=f"expected validation_data or .* beside {name}, got neither"):
            model.fit(x, y, verbose=0, **{name: 2})
    assert model.training.update == 0
    assert model.fit(data, verbose=0).params["batch_size"] is None


def test_fit_without_shuffling_reads_a_folder_in_order(folder):
    data = ImageFolder(folder, batch_size=4)
    x, y = data.load()
    results = []
    for given in (data, prefetch(data), (x, y)):
        model = nn.Sequential([nn.Flatten(), nn.Dense(3)], seed=0)
        model.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=True))
        given, options = (given, {"batch_size": 4}) if isinstance(given, tuple) else ((given,), {})
        results.append(model.fit(*given, epochs=2, shuffle=False, verbose=0, **options).history["loss"])
    np.testing.assert_allclose(results[1:], results[:1] * 2, rtol=1e-5)


def test_an_interruption_at_any_line_leaves_no_lock_taken(folder):
    """Ctrl-C is raised between two lines of whatever Python code the reader runs, at each of them in turn: all threads
    end, and the folder is read again."""
    data = ImageFolder(folder, batch_size=8, shuffle=False)

    def read(last, over):
        lines = itertools.count()

        def trace(frame, event, _):
            if event == "line" and next(lines) == last:
                raise KeyboardInterrupt
            return trace

        sys.settrace(trace)
        try:
            for _ in data:
                pass
            data.load()
            over.append(True)
        except KeyboardInterrupt:
            over.append(False)
        finally:
            sys.settrace(None)

    for last in itertools.count():
        over = []
        thread = threading.Thread(target=read, args=(last, over), daemon=True)
        thread.start()
        thread.join(30)
        assert over, f"interrupted at line {last} it hangs"
        if over[0]:
            break
    assert last > 50
