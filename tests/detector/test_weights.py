import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detector.weights import read_weights, without_prefix

TENSORS = {"a.weight": torch.tensor([1.0, 2.0]), "a.bias": torch.tensor([3.0])}


def test_files_of_tensors_and_what_wraps_them(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "plain.safetensors")
    torch.save(TENSORS, tmp_path / "plain.pth")
    torch.save({"state_dict": TENSORS, "epoch": 3}, tmp_path / "lightning.ckpt")
    torch.save({"model": TENSORS, "optimizer": {"lr": 1.0}}, tmp_path / "other.pt")
    for name in ("plain.safetensors", "plain.pth", "lightning.ckpt", "other.pt"):
        weights = read_weights(tmp_path / name)
        assert weights.tensors.keys() == TENSORS.keys(), name
        assert weights.tensors["a.bias"].item() == 3
        assert weights.class_names is None


def test_a_checkpoint_of_ours_tells_classes_and_levels(tmp_path: Path) -> None:
    config = "model: {network: {class_path: Network, init_args: {strides: [4, 8]}}}"
    torch.save({"state_dict": TENSORS, "config": config, "class_names": ["b"]}, tmp_path / "best.ckpt")
    weights = read_weights(tmp_path / "best.ckpt")
    assert weights.class_names == ["b"]
    assert weights.strides == [4, 8]


@pytest.mark.parametrize(
    "network", [{"strides": [8]}, {"class_path": "Network", "init_args": {"strides": [8]}}]
)
def test_a_folder_of_the_hub(tmp_path: Path, network: dict[str, object]) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    config = {"class_names": ["b", "c"], "config": {"model": {"network": network}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = read_weights(tmp_path)
    assert weights.tensors.keys() == TENSORS.keys()
    assert weights.class_names == ["b", "c"]
    assert weights.strides == [8]


class Anything:
    """A class of somebody's code."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no tensors by name"),
        ({"model": Anything()}, r"holds more than tensors.*torch\.save\(model\.state_dict\(\), FILE\)"),
        ([torch.ones(1)], "holds a list, not tensors by name"),
        (None, "cannot be read as weights: are they, and is the file complete"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, content: object, message: str) -> None:
    file = tmp_path / "x.pt"
    if content is None:
        file.write_bytes(b"PK\3\4 and no more")
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=message):
        read_weights(file)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no weights at .*absent\.pt"):
        read_weights(tmp_path / "absent.pt")
    with pytest.raises(ValueError, match=r"holds no model\.safetensors"):
        read_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="is the file complete"):
        read_weights(tmp_path)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "network.", "model.model.", "a.b.c.d."])
def test_prefixes_are_taken_off(prefix: str) -> None:
    given = {prefix + name: value for name, value in TENSORS.items()} | {"step": torch.tensor(1)}
    assert without_prefix(given, TENSORS).keys() == {*TENSORS, "step"}


def test_names_that_are_known_stay() -> None:
    # "a." stands before a known name here, but without it fewer are known.
    known = {"a.x", "a.y", "x"}
    assert without_prefix({"a.x": torch.ones(1), "a.y": torch.ones(1)}, known).keys() == {"a.x", "a.y"}


@pytest.mark.parametrize(
    ("more", "names", "strides"),
    [
        ({"config": "yolov9-s"}, None, None),
        ({"config": "model: yolo"}, None, None),
        ({"config": "a: b: c: ["}, None, None),
        ({"config": "model: {network: {strides: 8}}"}, None, None),
        ({"config": "model: {network: {strides: '8,16'}}"}, None, None),
        ({"config": "model: {network: {init_args: {strides: [8, 16]}}}"}, None, [8, 16]),
        ({"class_names": {0: "person", 1: "car"}}, ["person", "car"], None),
        ({"class_names": [0, 1]}, None, None),
        ({"class_names": 3}, None, None),
        ({0: torch.zeros(2)}, None, None),
    ],
)
def test_what_other_tools_keep_under_our_names(more, names, strides, tmp_path):
    torch.save({"state_dict": {"a.b": torch.ones(3)}} | more, tmp_path / "other.pt")
    found = read_weights(tmp_path / "other.pt")
    assert (found.class_names, found.strides, list(found.tensors)) == (names, strides, ["a.b"])


@pytest.mark.parametrize("config", [None, "x", [1], {"model": None}])
def test_hub_folders_of_other_tools(config, tmp_path):
    save_file({"a.b": torch.ones(3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"config": config}))
    assert list(read_weights(tmp_path).tensors) == ["a.b"]
