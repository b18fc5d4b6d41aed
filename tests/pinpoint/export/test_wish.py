"""What can be asked of export.py, where the results go, and what is refused before anything is read."""

from pathlib import Path

import onnx
import pytest

from detector.postprocess import Postprocess
from pinpoint.export import onnx_file
from pinpoint.export.__main__ import main
from pinpoint.export.exporter import Wish


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--format=onnx", "--half", "--int8"], "exclude each other"),
        (["--format=pt2", "--nms"], "for onnx and openvino"),
        (["--format=onnx", "--images=0"], "at least 1"),
        (["--format=onnx", "--output=model.xml"], r"must end in \.onnx"),
        (["--format=weights", "--output=w.onnx"], "taken for another format"),
        (["--format=hub", "--output=hub.xml"], "taken for another format"),
    ],
)
def test_wishes_that_exclude_each_other(options: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        main(["--ckpt_path=best.ckpt", *options])


def test_no_place_where_something_would_be_lost(tmp_path: Path) -> None:
    checkpoint = tmp_path / "best_weights.ckpt"
    checkpoint.write_bytes(b"weights")
    for name in ("last.ckpt", "other_weights.ckpt", "photo.jpg", "model.onnx", "own.bin", "v.xml", "v.bin"):
        (tmp_path / name).touch()
    (tmp_path / "best_weights_hub").mkdir()
    lost, itself = "is there already and would be lost", "is the checkpoint itself"
    for form, output, complaint in (
        ("weights", "last.ckpt", lost),
        ("weights", "photo.jpg", lost),
        ("weights", ".", lost),
        ("weights", "best_weights.ckpt", itself),
        ("openvino", "own.xml", lost),  # whose weights would be own.bin
        ("hub", ".", lost),
        ("hub", "last.ckpt", lost),
        ("hub", None, lost),  # beside the checkpoint
    ):
        with pytest.raises(ValueError, match=complaint):
            Wish(form, str(checkpoint), None if output is None else tmp_path / output).require_place()
    free = (("weights", "other_weights.ckpt"), ("onnx", "model.onnx"), ("hub", "new"), ("openvino", "v.xml"))
    for form, output in free:
        Wish(form, str(checkpoint), tmp_path / output).require_place()


def test_a_hub_folder_gives_its_whole_name(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "det-v1.2"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for path in (str(folder), "."):
        assert Wish("onnx", path, half=True).path == tmp_path / "det-v1.2_half.onnx"
        assert Wish("hub", path).path == tmp_path / "det-v1.2_hub"


def test_onnx_knows_no_other_suppression() -> None:
    for chosen in ({"suppression": "soft"}, {"class_agnostic": True}):
        with pytest.raises(ValueError, match="export without --nms"):
            onnx_file.add_suppression(onnx.ModelProto(), Postprocess(**chosen))
