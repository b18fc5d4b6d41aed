"""What is said about files that cannot be used; what good files compute is tested with export.py."""

import sys
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from detector import load
from detector.exported import ExportedForward, need


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """An ONNX file of somebody else."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "yolo.onnx")
    return tmp_path / "yolo.onnx"


def test_an_onnx_file_of_somebody_else(foreign: Path) -> None:
    with pytest.raises(ValueError, match=r"yolo\.onnx was not written by export\.py"):
        load(foreign)


def test_a_torch_export_of_somebody_else(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(1),))
    torch.export.save(program, tmp_path / "other.pt2")
    with pytest.raises(ValueError, match=r"other\.pt2 was not written by export\.py"):
        load(tmp_path / "other.pt2")


@pytest.mark.parametrize("name", ["cut.onnx", "cut.xml", "cut.pt2"])
def test_damaged_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x08\x0a<ne")
    with pytest.raises(ValueError, match=rf"{name} cannot be read"):
        load(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file at .*absent\.onnx"):
        ExportedForward(tmp_path / "absent.onnx")


def test_a_runtime_that_is_not_installed(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install 'pinpoint-detector\[onnx\]'"):
        load(foreign)


def test_need_imports_what_is_there() -> None:
    assert need("onnx", "onnx") is onnx
