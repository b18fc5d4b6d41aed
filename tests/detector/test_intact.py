"""Checkpoints that something happened to: one message each, and none is taken for what it is not."""

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.checkpoint import load_checkpoint
from detector.intact import not_finite, read_intact
from detector.weights import read_weights

CONFIG = "model: {network: {}, postprocess: {}}\ndata: {init_args: {image_size: [64, 64]}}\n"
PARTS = {
    "state_dict": {"network.a": torch.arange(400.0), "network.b": torch.ones(3, 5)},
    "config": CONFIG,
    "class_names": ["car", "boat"],
    "optimizer_states": [{"state": {}, "param_groups": []}],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "last.ckpt"
    torch.save(PARTS, path)
    return path.read_bytes()


def message(path: Path) -> str:
    with pytest.raises(ValueError, match="ckpt") as error:
        load_checkpoint(str(path))
    text = str(error.value)
    assert text.count("\n") == 0
    assert str(path) in text
    return text


def test_a_whole_one_is_read(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(whole)
    assert torch.equal(load_checkpoint(str(path))["state_dict"]["network.a"], torch.arange(400.0))


@pytest.mark.parametrize("share", [i / 30 for i in range(30)])
def test_cut_short(share: float, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(whole[: int(share * len(whole))])
    assert "is the file complete and unchanged" in message(path)


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit(seed: int, whole: bytes, tmp_path: Path) -> None:
    path, spoiled = tmp_path / "last.ckpt", bytearray(whole)
    chosen = random.Random(seed)
    spoiled[chosen.randrange(len(spoiled))] ^= 1 << chosen.randrange(8)
    path.write_bytes(spoiled)
    try:
        found = load_checkpoint(str(path))
    except ValueError:
        assert "complete and unchanged" in message(path)
    else:  # the bit was in what fills the file up to whole lines of memory, or in a date
        assert {name: str(value) for name, value in found.items()} == {
            name: str(value) for name, value in PARTS.items()
        }


def test_a_flipped_bit_of_a_weight_is_noticed_wherever_weights_are_read(whole: bytes, tmp_path: Path) -> None:
    path, spoiled = tmp_path / "last.ckpt", bytearray(whole)
    spoiled[whole.index(torch.arange(400.0).numpy().tobytes()) + 801] ^= 1
    path.write_bytes(spoiled)
    assert torch.load(path, weights_only=True)["state_dict"]["network.a"][200] != 200  # torch takes it
    assert "unchanged" in message(path)
    with pytest.raises(ValueError, match="is the file complete"):
        read_weights(path)


def text(path: Path) -> None:
    path.write_text("epoch,loss\n0,1\n")


def zip_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/readme.txt", "hello")


def compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\0" * 100000)


def pickled(path: Path) -> None:
    torch.save({"state_dict": {}, "x": print}, path)


STRANGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "text": text,
    "json": lambda path: path.write_text(json.dumps({"state_dict": {}})),
    "picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "arrays": lambda path: np.savez(path.open("wb"), a=np.ones(3)),
    "zip": zip_of_text,
    "compressed": compressed,
    "old torch": lambda path: torch.save(PARTS, path, _use_new_zipfile_serialization=False),
    "functions": pickled,
    "tensor": lambda path: torch.save(torch.ones(3), path),
    "list": lambda path: torch.save([1, 2], path),
    "another tool's": lambda path: torch.save({"model": {"a": torch.ones(3)}, "epoch": 3}, path),
    "weights alone": lambda path: torch.save({"a": torch.ones(3)}, path),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_files_of_another_kind(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    STRANGE[kind](path)
    message(path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("state_dict", [1, 2]),
        ("state_dict", {"a": 3}),
        ("state_dict", {"a": torch.tensor([1.0, float("nan")])}),
        ("current_model_state", {"a": torch.tensor([float("inf")])}),
        ("current_model_state", None),
        ("class_names", "car"),
        ("class_names", []),
        ("class_names", [1, 2]),
        ("config", None),
        ("config", 3),
        ("config", "model: [\n"),
        ("config", "just words"),
        ("config", "model: {network: {}}"),
        ("config", "{}"),
        ("config", CONFIG.replace("network: {}", "network: a.yaml")),
    ],
)
def test_parts_that_are_not_what_they_should_be(part: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({**PARTS, part: value}, path)
    assert part in message(path) or "not numbers" in message(path)


@pytest.mark.parametrize("part", ["state_dict", "config", "class_names"])
def test_parts_that_are_missing(part: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({name: value for name, value in PARTS.items() if name != part}, path)
    assert f"it lacks {part}" in message(path)


def test_what_is_not_finite_is_named() -> None:
    weights = {"a": torch.ones(2), "count": torch.tensor(3), "b": torch.tensor([0.0, float("inf")])}
    assert not_finite(weights) == "b"
    assert not_finite({"a": torch.ones(2)}) is None


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        read_intact(tmp_path)
