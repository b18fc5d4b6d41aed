"""Results of two models that had the same name are not mixed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.facts import ModelFacts
from detector.inference import Model
from detector.postprocess import Postprocess
from pinpoint.predict import predict as command
from pinpoint.predict.__main__ import main

FACTS = ModelFacts(("car",), (32, 32), (0.5,), Postprocess().arguments())


@pytest.mark.parametrize(
    ("model", "parts", "replaced"),
    [
        ("hub", ["hub/config.json", "hub/model.safetensors"], "hub/model.safetensors"),
        ("best.xml", ["best.xml", "best.bin"], "best.bin"),
        ("best.ckpt", ["best.ckpt"], "best.ckpt"),
    ],
)
def test_a_model_replaced_in_its_place(
    model: str, parts: list[str], replaced: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((len(images), 1, 1), -20.0), torch.zeros(len(images), 1, 4)

    monkeypatch.setattr(command, "load", lambda path, device: Model(nothing, FACTS))
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    for part in parts:
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).touch()
    call = [str(tmp_path / "a.png"), "--ckpt_path", str(tmp_path / model), "--output", str(tmp_path / "out")]
    assert main(call) == 0
    assert main(call) == 0  # the same model goes on
    os.utime(tmp_path / replaced, ns=(1, 1))  # an older one moved there
    with pytest.raises(ValueError, match=r"other arguments \(written"):
        main(call)
