"""Who may import whom, as `docs/decisions/layout.md` says."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"pinpoint", "detector", "losses", "datamodules", "evaluation"}
OURS = PACKAGES | {"train", "evaluate", "compare", "tests"}
ALLOWED = {
    "losses": {"losses"},
    "evaluation": {"evaluation"},
    "datamodules": {"datamodules"},
    "detector": {"detector", "losses", "datamodules", "evaluation"},
    "pinpoint": {"pinpoint", "detector", "losses", "datamodules", "evaluation"},
}
WITHOUT_LIGHTNING = ["network", "backbone", "neck", "head", "layers", "assigner", "postprocess"]


def imported(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_those_below(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert len(files) > 2
    for path in files:
        assert imported(path) & OURS <= ALLOWED[package], path


def test_losses_need_torch_alone() -> None:
    for path in (ROOT / "losses").rglob("*.py"):
        assert not imported(path) & {"lightning", "torchmetrics", "torchvision", "albumentations", "timm"}, (
            path
        )


def test_the_network_can_be_taken_without_lightning() -> None:
    for name in WITHOUT_LIGHTNING:
        assert "lightning" not in imported(ROOT / "detector" / f"{name}.py"), name


@pytest.mark.parametrize(
    "module", ["train", "evaluate", "compare", "pinpoint.comparison.cell", "pinpoint.doctor.__main__"]
)
def test_how_threads_wait_is_set_before_torch_is_imported(module: str) -> None:
    code = f"""
import os, sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("GOMP_SPINCOUNT =", os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()
sys.meta_path.insert(0, Spy())
import {module}
import torch
"""
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout == "GOMP_SPINCOUNT = 1000\n"


HEAVY = {
    "torch",
    "lightning",
    "matplotlib",
    "albumentations",
    "tensorboard",
    "timm",
    "cv2",
    "scipy",
    "jsonargparse",
}


@pytest.mark.parametrize("command", ["train", "evaluate", "compare", "doctor"])
def test_help_waits_for_no_library(command: str) -> None:
    code = f"""
import sys
from pinpoint.__main__ import main
try:
    main(["{command}", "--help"])
finally:
    print(sorted({HEAVY} & sys.modules.keys()), file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stderr == "[]\n"
    assert "--config" in run.stdout
