"""Exported files that were damaged, of which their runtimes say nothing."""

from pathlib import Path

import onnx
import openvino
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from detector import load
from detector.sealed import require_unchanged, seal

WEIGHTS = torch.arange(1.0, 9.0).numpy()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """An ONNX file with a weight, whose metadata is not ours."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]) for name in "xy"]
    weights = [numpy_helper.from_array(WEIGHTS, "w")]
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "other", value[:1], value[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"by": "somebody"})
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def pair(written: Path) -> Path:
    """The same for OpenVINO."""
    core = openvino.Core()
    openvino.save_model(core.read_model(written), written.with_suffix(".xml"), compress_to_fp16=False)
    return written.with_suffix(".xml")


def flip(path: Path, part: bytes) -> None:
    """One bit of the file, where it holds these bytes."""
    content = bytearray(path.read_bytes())
    content[content.index(part) + 2] ^= 64
    path.write_bytes(content)


def test_an_onnx_file_keeps_its_metadata_and_its_sum(written: Path) -> None:
    require_unchanged(written)  # of another tool, without a sum
    before = onnx.load(written)
    seal(written)
    model = onnx.load(written)
    onnx.checker.check_model(model)
    (other, own) = model.metadata_props
    assert (other.key, other.value, own.key, len(own.value)) == ("by", "somebody", "pinpoint.sha256", 64)
    del model.metadata_props[1]
    assert model == before
    with pytest.raises(ValueError, match="was not written by export"):  # it can be opened, that is
        load(written)
    flip(written, WEIGHTS.tobytes())
    with pytest.raises(ValueError, match=r"model\.onnx has changed since export\.py wrote it"):
        load(written)


@pytest.mark.parametrize("damaged", ["model.xml", "model.bin"])
def test_openvinos_pair_of_files(pair: Path, damaged: str) -> None:
    require_unchanged(pair)
    seal(pair)
    with pytest.raises(ValueError, match="was not written by export"):
        load(pair)
    flip(pair.with_name(damaged), WEIGHTS.tobytes() if damaged == "model.bin" else b"Multiply")
    with pytest.raises(ValueError, match=r"model\.xml has changed since export\.py wrote it"):
        load(pair)


def test_weights_that_are_not_beside_their_file(pair: Path) -> None:
    pair.with_suffix(".bin").unlink()
    with pytest.raises(
        ValueError, match=r"model\.xml cannot be read: its weights, model\.bin, must lie beside"
    ):
        load(pair)


def test_a_torch_export_has_sums_of_its_own(tmp_path: Path) -> None:
    layer = torch.nn.Linear(8, 1, bias=False)
    layer.weight.data[:] = torch.from_numpy(WEIGHTS)
    torch.export.save(torch.export.export(layer, (torch.zeros(1, 8),)), tmp_path / "model.pt2")
    flip(tmp_path / "model.pt2", WEIGHTS.tobytes())
    with pytest.raises(ValueError, match=r"model\.pt2 cannot be read: .*check sum of .* is wrong"):
        load(tmp_path / "model.pt2")
