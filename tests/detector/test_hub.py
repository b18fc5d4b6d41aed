"""Shared models that cannot be read; good ones are tested with export.py."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detector.checkpoint import load_checkpoint
from detector.hub import is_shared, load_shared


def folder(path: Path, config: str) -> str:
    save_file({"network.mean": torch.zeros(3)}, path / "model.safetensors")
    (path / "config.json").write_text(config)
    return str(path)


def test_a_folder_is_a_checkpoint_again(tmp_path: Path) -> None:
    config = {"library_name": "pinpoint", "class_names": ["car"], "config": {"model": {"network": {}}}}
    path = folder(tmp_path, json.dumps(config))
    assert is_shared(path)
    assert not is_shared(str(tmp_path / "absent"))
    checkpoint = load_shared(path)
    assert checkpoint["class_names"] == ["car"]
    assert checkpoint["config"] == "model:\n  network: {}\n"
    assert checkpoint["state_dict"]["network.mean"].tolist() == [0, 0, 0]


def test_a_folder_of_another_library(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made by transformers, not by Pinpoint"):
        load_shared(folder(tmp_path, '{"library_name": "transformers"}'))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "made by something else"),
        ('{"library_name": "pinpoint"}', "lacks class_names"),
        ('{"library_name": "pinpoint", "class_names": "car"}', "class_names are not a list of names"),
        ('{"library_name": "pinpoint", "class_names": ["car"]}', "config is not a configuration"),
        ('{"library_name": "pinpoint", "class_names": ["car"], "config": {"model": 1}}', "is not a config"),
    ],
)
def test_folders_with_parts_that_are_missing_or_wrong(config: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_checkpoint(folder(tmp_path, config))


def test_damaged_folders(tmp_path: Path) -> None:
    path = folder(tmp_path, "{")
    with pytest.raises(ValueError, match="is not a model of export"):
        load_shared(path)
    (tmp_path / "config.json").write_text('{"library_name": "pinpoint"}')
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="is not a model of export"):
        load_shared(path)


def test_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a network the hub's client ends in one of many exceptions.
    asked = []

    def refuse(repository: str, **options: object) -> str:
        asked.append((repository, options["revision"]))
        raise ConnectionError("no route to host\nand two pages more")

    monkeypatch.setattr("detector.hub.snapshot_download", refuse)
    message = r"hf://org/name@v2 cannot be fetched, .*connect.*ConnectionError: no route to host\)"
    with pytest.raises(ValueError, match=message):
        load_shared("hf://org/name@v2")
    assert asked == [("org/name", "v2")]
