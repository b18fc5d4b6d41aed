"""What the configuration of a checkpoint may have imported: nothing that its user did not name."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.module import Detector
from losses.regression import BoxLoss
from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.strangers import naming

EVIL = """
from pathlib import Path

from losses.regression import BoxLoss

Path("was_here").touch()


class Evil(BoxLoss):
    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, *given):
        pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module that tells when it is run."""
    (tmp_path / "evil_module.py").write_text(EVIL)
    (tmp_path / "evil_folder").mkdir()
    (tmp_path / "evil_folder" / "inner.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("evil_")]:
        del sys.modules[name]


def rebuild(section: str, value: Any, *options: str) -> Detector:
    """The model of a checkpoint whose configuration has a value of a stranger's in a section."""
    config: dict[str, Any] = {
        "data": {"class_path": "ScenesDataModule", "init_args": {"image_size": [64, 64], "num_workers": 0}},
        "model": {"network": {"class_path": "Network", "init_args": {"strides": [8, 16], "channels": 16}}},
    }
    place, *inner = reversed(section.split("."))
    part = config
    for name in reversed(inner):
        part = part.setdefault(name, {})
    part[place] = value
    text = yaml.safe_dump(config)
    return DetectionCLI._for_evaluation(text, ["car"], ["--trainer.accelerator=cpu", *options]).model


INNER = "evil_folder.inner.Evil"
"""Of a folder without `__init__.py`."""


@pytest.mark.parametrize(
    ("section", "value", "path"),
    [
        ("model.loss.box", {"class_path": INNER, "init_args": {"power": 2.0}}, INNER),
        ("model.loss.box", "evil_module.Evil", "evil_module.Evil"),
        ("model.loss.box", "{class_path: evil_module.Evil}", "evil_module.Evil"),
        ("model.network", {"class_path": "evil_module.Evil"}, "evil_module.Evil"),
        ("model.optimizer", INNER, INNER),
        ("data", {"class_path": "this.s"}, "this.s"),  # of Python's own that prints
    ],
)
def test_a_module_that_a_stranger_names_is_not_run(section: str, value: Any, path: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=f"{path} is no class of Pinpoint's") as error:
        rebuild(section, value)
    said = str(error.value)
    assert f"if you trust it, name it yourself with --{section.replace('.init_args', '')}" in said
    assert said.count("\n") == 0
    assert not (folder / "was_here").exists()
    assert path.partition(".")[0] not in sys.modules


def test_nor_is_one_that_a_file_names_which_it_names(folder: Path) -> None:
    (folder / "box.yaml").write_text("class_path: evil_module.Evil")
    with pytest.raises(ValueError):  # noqa: PT011  # of several kinds; what counts is that nothing is run
        rebuild("model.loss.box", "box.yaml")
    assert not (folder / "was_here").exists()


def test_a_class_that_its_user_names_is_built_with_the_options_of_the_checkpoint(folder: Path) -> None:
    stored = {"class_path": "evil_module.Evil", "init_args": {"power": 2.0}}
    box = rebuild("model.loss.box", stored, "--model.loss.box=evil_module.Evil").loss.box
    assert (type(box).__name__, box.power) == ("Evil", 2.0)
    assert (folder / "was_here").exists()


def test_so_is_one_of_a_recipe(folder: Path) -> None:
    (folder / "mine.yaml").write_text("model: {loss: {box: {class_path: evil_module.Evil}}}")
    box = rebuild("model.loss.box", {"class_path": "evil_module.Evil"}, "--config=mine.yaml").loss.box
    assert type(box).__name__ == "Evil"


class Mine(BoxLoss):
    """Of a module that is loaded already, as that of a user's script is."""

    def forward(self, *given: Any) -> Any: ...


def test_so_is_one_that_is_loaded_already() -> None:
    assert type(rebuild("model.loss.box", f"{__name__}.Mine").loss.box) is Mine


def test_the_command_that_evaluates_names_it_again() -> None:
    own = "--model.loss.box=examples.custom_loss.CornerLoss"
    given = [own, "--model.loss.box.power=1.5", "--data.yaml=data.yaml", "--model.loss.gain_box=5.0"]
    assert naming([*given, "--model.network.backbone=resnet18"]) == [own]
    assert naming(["--data=own.MyData", "--data.yaml=data.yaml"]) == ["--data=own.MyData"]


def test_what_starts_programs_stays_refused() -> None:
    with pytest.raises(ValueError, match="'subprocess"):
        rebuild("model.optimizer", {"class_path": "subprocess.Popen", "init_args": {"args": "true"}})


def test_augmentations_are_no_part_of_an_evaluation(folder: Path) -> None:
    rebuild("data.init_args.augment", {"extra": [{"class_path": INNER}]})
    assert not (folder / "was_here").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "evil_broken.L",
            r"evil_broken cannot be imported \(ModuleNotFoundError: No module named 'nosuch",
        ),
        (
            "evil_nowhere.L",
            r"evil_nowhere cannot be imported \(ModuleNotFoundError: No module named 'evil_",
        ),
        ("evil_module.Evli", r"evil_module has no Evli; did you mean Evil\?"),
    ],
)
def test_what_is_wrong_with_a_class_of_ones_own_is_said(path: str, said: str, folder: Path) -> None:
    (folder / "evil_broken.py").write_text("import nosuch")
    with pytest.raises(ValueError, match=rf"^--model\.loss\.box={path}: {said}"):
        DetectionCLI(["--data=ScenesDataModule", f"--model.loss.box={path}"])
