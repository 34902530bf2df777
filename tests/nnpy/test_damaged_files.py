"""Files that are damaged, foreign, of other versions or half written are told, and change nothing."""

import errno
import json
import os
import resource

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from saved import small

import nnpy as nn


def test_what_does_not_fit_is_told_and_changes_nothing(tmp_path):
    path = tmp_path / "w.safetensors"
    small().save_weights(path)
    net = small(5)
    before = net.get_weights()
    with pytest.raises(
        ValueError, match=r"w.safetensors: Dense 'hidden': expected hidden/kernel of shape \(3, 5\), got \(3, 4\)"
    ):
        net.load_weights(path)
    last = nn.Dense(2, name="out", use_bias=False)
    net = nn.Sequential([nn.Input((3,)), nn.Dense(4, name="hidden"), last], name="small")
    with pytest.raises(ValueError, match=r"does not fit Sequential 'small': the file has also out/bias"):
        net.load_weights(path)
    net = nn.Sequential(
        [nn.Input((3,)), nn.Dense(4, name="hidden"), nn.Dense(2, name="out"), nn.Dense(2, name="more")], name="small"
    )
    with pytest.raises(ValueError, match=r"the file lacks more/kernel, more/bias"):
        net.load_weights(path)
    net = small(5)
    net.set_weights(before)
    with pytest.raises(ValueError):
        net.load_weights(path)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="no file"):
        nn.load_model(path)
    path.write_bytes(b"this is not one")
    with pytest.raises(ValueError, match=r"net.safetensors: not a safetensors file, or a damaged one"):
        nn.load_model(path)
    small().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="damaged"):
        nn.load_model(path)
    save_file({"hidden/kernel": np.zeros((3, 4), "f4")}, path)
    with pytest.raises(ValueError, match="holds weights alone"):
        nn.load_model(path)
    with pytest.raises(ValueError, match="the file lacks hidden/bias, out/kernel, out/bias"):
        small().load_weights(path)


def edited(path, change):
    """Rewrite the JSON of a saved model."""
    with safe_open(path, framework="np") as file:
        value = json.loads(file.metadata()["nnpy"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(value)
    save_file(tensors, path, {"nnpy": json.dumps(value)})


def test_files_of_other_versions_and_unknown_layers(tmp_path):
    path = tmp_path / "net.safetensors"
    small().save(path)
    edited(path, lambda value: value.update(format=99))
    with pytest.raises(ValueError, match="expected format 4, got 99"):
        nn.load_model(path)
    small().save(path)
    edited(path, lambda value: value["layers"][2].update({"class": "layer/Nowhere"}))
    with pytest.raises(ValueError, match=r"cannot make its model: unknown layer 'Nowhere'"):
        nn.load_model(path)


def _drop(*names):
    def change(value):
        for name in names[:-1]:
            value = value[name]
        del value[names[-1]]

    return change


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda value: value.update(dtype="int8"), "expected dtype 'float32' or 'float64', got 'int8'"),
        (lambda value: value.update(layers=value["layers"][2:3]), "expected a model, got Dense"),
        (lambda value: value.update(layers=[]), "make its model: expected a list of 1 to 20000 layers, got 0 of them"),
        (lambda value: value.update(layers=[3] * 30_000), "expected a list of 1 to 20000 layers, got 30000 of them"),
        (_drop("layers", 0, "config", "name"), "Sequential: expected its configuration to have .* got no 'name'"),
        (_drop("position", "seed"), "cannot compile its model: 'seed' is missing"),
        (lambda value: value["position"].update(update=-1), "cannot compile its model: position: expected update"),
        (_drop("settings", "optimizer"), "cannot compile its model"),
    ],
)
def test_damaged_metadata(change, text, tmp_path):
    path = tmp_path / "net.safetensors"
    net = small()
    net.compile("adam", "mse")
    net.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    net.save(path)
    edited(path, change)
    with pytest.raises(ValueError, match=text) as caught:
        nn.load_model(path)
    assert str(path) in str(caught.value)


def test_metadata_that_are_no_object(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({"hidden/kernel": np.zeros((3, 4), "f4")}, path, {"nnpy": "[]"})
    with pytest.raises(ValueError, match="its metadata are no JSON object"):
        nn.load_model(path)


def test_plain_safetensors_from_elsewhere(tmp_path):
    path = tmp_path / "w.safetensors"
    net = small()
    arrays = {p.name: np.full(p.shape, 0.5, "f4") for p in net.weights}
    save_file(arrays, path)
    net.load_weights(path)
    assert all(np.all(w == 0.5) for w in net.get_weights())


@pytest.fixture
def small_files():
    """As on a full disk: files cannot grow beyond 1,000,000 bytes, which what pytest writes is far from."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path, small_files):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"earlier")
    net = nn.Sequential([nn.Input((600,)), nn.Dense(600)])
    for save in (net.save, net.save_weights):
        with pytest.raises(OSError, match=r"^cannot write .*net.safetensors: File too large$") as error:
            save(path)
        assert error.value.errno == errno.EFBIG
    history = nn.History()
    history.history["loss"] = [0.125] * 200_000
    with pytest.raises(OSError, match=r"^History: cannot write .*h.json: File too large$"):
        history.save(tmp_path / "h.json")
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"] and path.read_bytes() == b"earlier"


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    net = small()
    net.save(path)
    before = path.read_bytes()
    net.set_weights([w * 0 for w in net.get_weights()])

    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        net.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]
    net.save(path)
    assert not nn.load_model(path).get_weights()[0].any()


def test_a_part_of_the_optimizers_state_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    net = small()
    net.compile("adam", "mse", loss_weights=[np.float32(0.5)])
    net.fit(np.ones((4, 3)), np.zeros((4, 2)), verbose=0)
    net.save(path)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys() if "velocity" not in name}  # noqa: SIM118
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match="the file lacks /optimizer/velocity/hidden/bias, /optimizer/"):
        nn.load_model(path)
