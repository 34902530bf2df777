"""Files are written whole or not at all, whoever else writes, whatever dies, whatever the path is."""

import errno
import fcntl
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import nnpy as nn
import nnpy.files
from nnpy.files import write_whole


def content(text):
    return lambda file: file.write(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writers_of_one_path_do_not_meet(tmp_path):
    """Two threads, and a writer inside of another one's writing: each file is one of those written."""
    path = tmp_path / "file"
    texts = [bytes([number]) * 100_000 for number in range(4)]
    bad = []

    def work(text):
        for _ in range(30):
            write_whole(path, content(text))
            if path.read_bytes() not in texts:
                bad.append(text[:1])

    threads = [threading.Thread(target=work, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not bad and names(tmp_path) == ["file"]

    def nested(file):
        write_whole(path, content(b"inner"))  # sees a file that is being written, and leaves it
        assert len(names(tmp_path)) == 2
        file.write(b"outer")

    write_whole(path, nested)
    assert path.read_bytes() == b"outer" and names(tmp_path) == ["file"]


def killed(path):
    """A process that dies while it writes."""
    code = f"import os, nnpy.files as f; f.write_whole({str(path)!r}, lambda file: os.kill(os.getpid(), 9))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9


def test_what_killed_writers_left_is_removed(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    for _ in range(3):
        killed(path)
    killed(other)
    assert len(names(tmp_path)) == 2  # each removes what the ones before left
    write_whole(path, content(b"new"))
    left = [name for name in names(tmp_path) if name != "file"]
    assert len(left) == 1 and left[0].endswith(".tmp")  # of the other path
    write_whole(other, content(b"new"))
    assert names(tmp_path) == ["file", "other"]


def test_planted_links_are_not_followed(tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    mine.write_bytes(b"precious")
    prefix = nnpy.files._prefix(tmp_path / "file")
    tokens = iter([b"1", b"2"])
    monkeypatch.setattr(os, "urandom", lambda count: next(tokens))
    (tmp_path / f"{prefix}{b'1'.hex()}.tmp").symlink_to(mine)
    with pytest.raises(FileExistsError, match="cannot write"):
        write_whole(tmp_path / "file", content(b"new"))
    write_whole(tmp_path / "file", content(b"new"))
    assert mine.read_bytes() == b"precious" and (tmp_path / "file").read_bytes() == b"new"


def test_the_longest_names(tmp_path):
    for name in ("x" * 255, "\N{SNOWMAN}" * 85):
        write_whole(tmp_path / name, content(b"new"))
        assert (tmp_path / name).read_bytes() == b"new"
    assert write_whole(os.fsencode(tmp_path / "bytes"), content(b"new")) == tmp_path / "bytes"


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder/file")
    for text in (b"made", b"replaced"):
        assert write_whole(link, content(text)) == link
        assert link.is_symlink() and (folder / "file").read_bytes() == text
    assert names(folder) == ["file"] and names(tmp_path) == ["folder", "link"]
    link.unlink()
    link.symlink_to("nowhere/file")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        write_whole(link, content(b""))
    link.unlink()
    link.symlink_to("link")
    with pytest.raises(OSError, match=r"cannot write .*link: Too many levels"):
        write_whole(link, content(b""))


def test_pipes_and_devices_are_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    thread = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    thread.start()
    write_whole(pipe, content(b"new"))
    thread.join()
    assert read == [b"new"] and pipe.is_fifo()
    device = tmp_path / "device"
    device.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write .*device: No space left") as caught:
        write_whole(device, content(b"new"))
    assert caught.value.errno == errno.ENOSPC and device.is_char_device()
    with pytest.raises(IsADirectoryError, match="cannot write"):
        write_whole(tmp_path, content(b"new"))
    assert names(tmp_path) == ["device", "pipe"]


def test_the_file_and_its_folder_are_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")))
    write_whole(tmp_path / "file", content(b"new"))
    assert synced[0].endswith(".tmp") and synced[1:] == [str(tmp_path)]


def failing(number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("module, name", [(os, "fsync"), (os, "fchmod"), (fcntl, "flock")])
def test_what_a_mount_does_not_have_is_no_error(module, name, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    for number in (errno.EINVAL, errno.EPERM, errno.ENOTSUP):
        monkeypatch.setattr(module, name, failing(number))
        write_whole(path, content(os.strerror(number).encode()))
        assert path.read_bytes() == os.strerror(number).encode() and names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "module, name", [(os, "fsync"), (os, "fchmod"), (fcntl, "flock"), (os, "replace"), (os, "open")]
)
def test_what_fails_leaves_the_file_as_it_was(module, name, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(module, name, failing(errno.EIO))
    with pytest.raises(OSError, match=r"^Someone: cannot write .*file: Input/output error$") as caught:
        write_whole(path, content(b"new"), "Someone")
    assert caught.value.errno == errno.EIO
    assert path.read_bytes() == b"earlier" and names(tmp_path) == ["file"]


def test_interrupted_writing_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")

    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, interrupted)
    assert path.read_bytes() == b"earlier" and names(tmp_path) == ["file"]


def test_a_private_file_is_never_open_to_others(tmp_path):
    path = tmp_path / "file"
    path.touch(0o600)
    path.chmod(0o600)
    modes = []

    def look(file):
        modes.append(os.fstat(file.fileno()).st_mode & 0o777)

    write_whole(path, look)
    assert modes == [0o600] and path.stat().st_mode & 0o777 == 0o600


def test_paths_may_be_bytes(tmp_path):
    x = np.ones((4, 3), "f4")
    net = nn.Sequential([nn.Input((3,)), nn.Dense(3)])
    net.compile("sgd", "mse")
    names = "m.safetensors", "w.safetensors", "h", "b.safetensors"
    model, weights, log, best = (os.fsencode(tmp_path / name) for name in names)
    net.fit(x, x, verbose=0, callbacks=nn.ModelCheckpoint(best)).save(log)
    assert net.save(model) == tmp_path / "m.safetensors" and net.save_weights(weights) == tmp_path / "w.safetensors"
    for path in (model, best):
        np.testing.assert_array_equal(nn.load_model(path).predict(x), net.predict(x))
    net.load_weights(weights)
    assert len(list(tmp_path.iterdir())) == 4
    for name, use in (("load_model", nn.load_model), ("load_weights", net.load_weights), ("save", net.save)):
        with pytest.raises(TypeError, match=f"{name}: expected path to be a path, got 3"):
            use(3)
        with pytest.raises(ValueError, match=f"{name}: expected path to be a path, .* a null character"):
            use("a\0b.safetensors")
