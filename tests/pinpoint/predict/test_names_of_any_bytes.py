"""Images whose names are no text, in every format that predict.py writes."""

import os
from pathlib import Path

import numpy as np
import pytest

from evaluation.files import write_whole
from pinpoint.predict.found import Found
from pinpoint.predict.outputs.each import EACH
from pinpoint.predict.outputs.together import TOGETHER

NAME = os.fsdecode(b"caf\xe9 1")
FOUND = Found(
    path=f"/in/{NAME}.png",
    name=NAME,
    size=(60, 80),
    boxes=np.array([[1.0, 2.0, 30.0, 40.0]]),
    scores=np.array([0.5]),
    labels=np.array([0]),
)


@pytest.mark.parametrize("name", TOGETHER)
def test_files_of_all_images(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, TOGETHER[name][1]([FOUND], ["car"]))
    text = (tmp_path / name).read_text("utf-8")
    assert r"caf\udce9 1" in text or text.count("car") == 1  # a file of the classes alone


@pytest.mark.parametrize("word", EACH)
def test_files_of_their_own(tmp_path: Path, word: str) -> None:
    path = tmp_path / EACH[word][0].format(NAME)
    write_whole(path, EACH[word][1](FOUND, ["car"], path))
    assert path.read_text("utf-8")
    assert os.fsencode(path.name).startswith(b"caf\xe9 1.")
