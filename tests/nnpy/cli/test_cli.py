"""The command line, run as a user does: its output, files, exit codes, and that errors are one line."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nncore
import nnpy
from nnpy import cli
from nnpy.cli import console, installation

COMMAND = [sys.executable, "-m", "nnpy"]
QUICK = ["train", "mnist", "--epochs", "1", "--batch-size", "500"]


def run(*arguments, **options):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The default training, its folder and the result of the command."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, run("train", "mnist", cwd=folder)


def test_default_training_reaches_96_percent(trained):
    _, result = trained
    assert result.returncode == 0 and result.stderr == "", result.stderr
    accuracy = float(re.search(r"test accuracy ([\d.]+)%", result.stdout)[1])
    assert accuracy >= 96
    assert float(re.search(r"trained for ([\d.]+) s", result.stdout)[1]) > 0
    assert re.search(r"[\d,]+ samples/s", result.stdout)


def test_default_training_shows_epochs_and_classes(trained):
    _, result = trained
    epochs = [line for line in result.stdout.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == 25
    for word in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert all(re.search(rf"\b{word} \d", line) for line in epochs), word
    table = result.stdout[result.stdout.index("precision") :]
    rows = re.findall(r"^ *(\d|all)((?: +[01]\.\d{4}){3}) +(\d+)$", table, re.MULTILINE)
    assert [row[0] for row in rows] == [*"0123456789", "all"]
    assert sum(int(row[2]) for row in rows[:-1]) == int(rows[-1][2]) == 2000
    assert all(float(value) > 0.9 for row in rows for value in row[1].split())


def test_default_training_writes_model_and_history(trained):
    folder, result = trained
    assert "wrote model.safetensors and history.json" in result.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["history.json", "model.safetensors"]
    history = json.loads((folder / "history.json").read_text())["history"]
    assert all(len(history[name]) == 25 for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
    _, (x, y) = nnpy.data.load_mnist()
    _, accuracy = nnpy.load_model(folder / "model.safetensors").evaluate(x.astype("float32") / 255, y, verbose=0)
    assert f"test accuracy {accuracy:.2%}" in result.stdout


def test_same_seed_same_model_on_any_threads(tmp_path):
    for name, threads, seed in (("a", "1", "3"), ("b", "3", "3"), ("c", "1", "4")):
        folder = tmp_path / "new" / name
        result = run(*QUICK, "--seed", seed, "--threads", threads, "--output", folder)
        assert result.returncode == 0, result.stderr
        assert f"{threads} threads, seed {seed}" in result.stdout
        assert f"wrote {folder}/model.safetensors" in result.stdout
    a, b, c = ((tmp_path / "new" / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frain"], ["frain"]),
        (["train"], ["DATASET"]),
        (["train", "cifar"], ["DATASET", "cifar", "mnist"]),
        (["train", "file"], ["DATASET", "expected a folder or a zip file"]),
        (["train", "."], ["DATASET", "expected images by class"]),
        (["train", "mnist", "--model", "rnn"], ["--model", "rnn"]),
        (["train", "mnist", "--augment"], ["--augment", "cnn"]),
        (["train", "mnist", "--image-size", "9"], ["--image-size", "28"]),
        (["train", "mnist", "--speed", "9"], ["--speed"]),
        (["train", "mnist", "--epochs", "0"], ["--epochs", "0"]),
        (["train", "mnist", "--epochs", "many"], ["--epochs", "many"]),
        (["train", "mnist", "--batch-size", "20000"], ["--batch-size", "20000", "9000"]),
        (["train", "mnist", "--learning-rate", "nan"], ["--learning-rate", "nan"]),
        (["train", "mnist", "--learning-rate", "-1"], ["--learning-rate", "-1"]),
        (["train", "mnist", "--dropout", "1"], ["--dropout", "1"]),
        (["train", "mnist", "--validation-split", "1e-9"], ["--validation-split", "1e-09"]),
        (["train", "mnist", "--threads", "0"], ["--threads", "0"]),
        (["train", "mnist", "--threads", "99999"], ["--threads", "99999"]),
        (["train", "mnist", "--seed", "-1"], ["--seed", "-1"]),
        (["train", "mnist", "--output", "file/x"], ["--output", "file/x", "Not a directory"]),
        (["train", "mnist", "--output", "file"], ["--output", "file", "exists"]),
        (["train", "mnist", "--output", "/proc/x"], ["--output", "/proc/x"]),
    ],
)
def test_wrong_use_is_one_line_before_any_work(arguments, words, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nnpy.Sequential, "fit", lambda *_, **__: pytest.fail("training began"))
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("nnpy: ") and captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_failure_to_save_is_one_line(tmp_path, capsys, monkeypatch):
    """The folder goes away during training."""

    def fit(model, *_, **__):
        model.training.history = nnpy.History()
        os.rmdir(tmp_path / "out")
        return model.history

    monkeypatch.setattr(nnpy.Sequential, "fit", fit)
    assert cli.main(["train", "mnist", "--output", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"nnpy: cannot save to {tmp_path / 'out'}") and captured.err.count("\n") == 1


def small_files(size):
    """For subprocess: files of the child cannot grow beyond so many bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path):
    result = run(*QUICK, cwd=tmp_path, preexec_fn=lambda: small_files(100_000))
    assert result.returncode == 1
    assert result.stderr == "nnpy: cannot save to .: cannot write model.safetensors: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_diverges_writes_nothing(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"an earlier one")
    result = run(*QUICK[:2], "--epochs", "50", "--learning-rate", "1e30", cwd=tmp_path)
    assert result.returncode == 1
    why, told = result.stderr.splitlines()
    assert why.startswith("nnpy: Sequential 'sequential': the loss became ") and "is a learning rate (" in why
    assert told.startswith("nnpy: the training diverged: the loss is not finite; nothing is saved;")
    assert result.stdout.count("epoch ") <= 2
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_bytes() == b"an earlier one"


def test_wrong_isa_is_one_line():
    result = run("info", env={**os.environ, "NNCORE_ISA": "v9"})
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("nnpy: NNCORE_ISA=v9: expected one of") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_save_the_model(number, code, tmp_path):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("these tests run under nohup, as all that they start")
    process = subprocess.Popen(
        [*COMMAND, "train", "mnist", "--epochs", "100000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:  # in the second epoch
            if line.startswith("epoch"):
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert "wrote model.safetensors and history.json" in out
    assert err == "nnpy: interrupted; the model is saved as it was then\n"
    assert len(json.loads((tmp_path / "history.json").read_text())["epoch"]) >= 1
    (x, y), _ = nnpy.data.load_mnist()
    _, accuracy = nnpy.load_model(tmp_path / "model.safetensors").evaluate(x.astype("float32") / 255, y, verbose=0)
    assert accuracy > 0.7


def test_signals_that_are_ignored_stay_so():
    """As under nohup; and they are what they were afterwards."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(console.Terminated) as raised, console.terminations():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert raised.value.code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_closed_pipe_loses_no_model(tmp_path):
    """``nnpy train mnist | head -1``: it trains to the end, and the model is saved."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*COMMAND, *QUICK], cwd=tmp_path, text=True, **pipes)
    assert "images to train on" in process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(120) == 0, err
    assert "stdout cannot be written to" in err and "Exception ignored" not in err
    assert nnpy.load_model(tmp_path / "model.safetensors").history is None


def test_info(capsys):
    assert cli.main(["info"]) == 0
    rows = dict(re.findall(r"^(\w+) +(.+)$", capsys.readouterr().out, re.MULTILINE))
    facts = nncore.info()
    assert set(rows) == {"nnpy", "Python", "NumPy", "Numba", "ISA", "compiled", "threads", "caches"}
    assert rows["nnpy"] == facts["nnpy"] and rows["NumPy"] == facts["numpy"]
    assert rows["ISA"] == f"{facts['isa']} ({facts['isa_reason']})"
    assert rows["compiled"].split(", ") == facts["isa_compiled"]
    assert rows["threads"] == f"{facts['threads']} on {facts['cores']} cores"


def test_cache_sizes():
    if not Path("/sys/devices/system/cpu/cpu0/cache/index0").is_dir():
        assert set(nncore.cache_sizes().values()) == {0}
        return
    sizes = nncore.cache_sizes()
    assert list(sizes) == ["L1d", "L2", "L3"] and 8 << 10 <= sizes["L1d"] <= sizes["L2"]


def test_info_obeys_isa_and_threads():
    weakest = nncore.info()["isa_compiled"][0]
    out = run("info", env={**os.environ, "NNCORE_ISA": weakest, "OMP_NUM_THREADS": "5"}).stdout
    assert re.search(rf"^ISA +{weakest} \(asked for by NNCORE_ISA\)$", out, re.MULTILINE)
    assert re.search(r"^threads +5 on \d+ cores$", out, re.MULTILINE)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help(arguments, capsys):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "train" in out and "info" in out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert nnpy.__version__ in capsys.readouterr().out


def test_wrong_use_answers_at_once():
    """Nothing that is slow to import is imported for it."""
    code = "import sys; from nnpy import cli; cli.main(['train', 'x']); print('numba' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "unknown"), (-1, "unknown"), (512, "512 B"), (49152, "48 KiB"), (2 << 20, "2 MiB"), (3 << 29, "1.5 GiB")],
)
def test_binary_size(size, text):
    assert installation.binary_size(size) == text


def test_convolutions_on_digits(tmp_path):
    result = run("train", "mnist", "--model", "cnn", "--epochs", "2", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert float(re.search(r"test accuracy ([\d.]+)%", result.stdout)[1]) > 95
    assert len(re.findall(r"^ *(?:\d|all)(?: +[01]\.\d{4}){3} +\d+$", result.stdout, re.MULTILINE)) == 11
    model = nnpy.load_model(tmp_path / "model.safetensors")
    assert any(isinstance(layer, nnpy.Conv2D) for layer in model.layers) and model.input_shape == (None, 28, 28, 1)


def pictures(path, count, size=(12, 10), mode="RGB", classes=("dark", "light", "striped")):
    """Images of three kinds, a folder each."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 60, (*size, 3), dtype=np.uint8) + np.uint8(120 * (label == 1))
            if label == 2:
                pixels[::2] += 120
            image.fromarray(pixels).convert(mode).save(path / name / f"{number}.png")
    return path


def report(out):
    """(accuracy, names of the classes)"""
    rows = re.findall(r"^ *(\w+)(?: +[01]\.\d{4}){3} +\d+$", out, re.MULTILINE)
    return float(re.search(r"test accuracy ([\d.]+)%", out)[1]), rows


def test_a_folder_of_images(tmp_path):
    pictures(tmp_path / "all", 40)
    options = ["--epochs", "12", "--batch-size", "16", "--output", tmp_path / "out"]
    result = run("train", tmp_path / "all", *options)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    accuracy, rows = report(result.stdout)
    assert accuracy > 90 and rows == ["dark", "light", "striped", "all"]
    assert "all: 87 images to train on, 9 to validate, 24 to test" in result.stdout
    assert "3 classes, cnn for images of 12 x 10 x 3, divided by 255" in result.stdout
    assert nnpy.load_model(tmp_path / "out" / "model.safetensors").input_shape == (None, 12, 10, 3)
    params = json.loads((tmp_path / "out" / "history.json").read_text())["params"]
    assert params["classes"] == ["dark", "light", "striped"] and params["pixels_divided_by"] == 255
    again = run("train", tmp_path / "all", *options)
    assert [line for line in again.stdout.splitlines() if line.startswith("test")] == [
        line for line in result.stdout.splitlines() if line.startswith("test")
    ]


def test_a_zip_file_of_images_in_two_parts(tmp_path):
    pictures(tmp_path / "data" / "train", 20)
    pictures(tmp_path / "data" / "test", 5)
    archive = shutil.make_archive(tmp_path / "data", "zip", tmp_path / "data")
    options = ["--model", "mlp", "--image-size", "8", "--epochs", "5"]  # fewer images than a batch usually has
    result = run("train", archive, *options, cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert "54 images to train on, 6 to validate, 15 to test" in result.stdout
    assert "mlp for images of 8 x 8 x 3" in result.stdout


def test_folders_that_cannot_be_trained_on(tmp_path, capsys):
    pictures(tmp_path / "one", 4, classes=("dark",))
    pictures(tmp_path / "few", 1)
    pictures(tmp_path / "broken", 10)
    (tmp_path / "broken" / "dark" / "0.png").write_bytes(b"no image")
    for name, words in (
        ("one", "expected images of at least two classes, got ['dark']"),
        ("few", "too few images of 'dark', 'light', 'striped'"),
        ("broken", "cannot read"),
        ("one/dark", "expected images by class"),
    ):
        assert cli.main(["train", str(tmp_path / name), "--output", str(tmp_path / "out")]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and words in captured.err and captured.err.count("\n") == 1
