"""Who may import whom, as `docs/decisions/layout.md` says."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = {"train", "evaluate", "predict", "export", "compare"}
BELOW = {
    "losses": set(),
    "evaluation": set(),
    "datamodules": set(),
    "detector": {"losses", "datamodules", "evaluation"},
    "pinpoint": {"losses", "datamodules", "evaluation", "detector"},
}
"""The packages that each package may import."""

FALL = [
    {"batch", "drawing", "files", "freed_memory", "limits", "parsing", "progress", "storage"},
    {"records", "transforms"},
    {"problems"},
    {"download", "images", "scenes"},
    {"formats", "loading", "setup_checks", "splits"},
    {"base"},
    {"modules"},
]
"""Rooms of datamodules from the bottom up; each may import those of the rows below its own."""

WITH_LIGHTNING = {"training", "module"}
"""The rooms and modules of detector that may use it."""


def forbidden(importer: str, imported: str) -> str | None:
    """Why one module of ours must not import another; None if it may.

    Args:
        importer: dotted name of the module that imports.
        imported: dotted name of what it imports.
    """
    (package, *rooms), (other, *other_rooms) = importer.split("."), imported.split(".")
    if other in SCRIPTS | {"tests"}:
        return "nothing imports scripts or tests"
    if other not in BELOW:
        return None
    if package != other:
        return None if other in BELOW[package] else f"{package} knows nothing of {other}"
    room, other_room = (names[0] if names else "" for names in (rooms, other_rooms))
    if room == other_room or "" in (room, other_room):
        return None
    if package == "datamodules":
        levels = {name: level for level, names in enumerate(FALL) for name in names}
        return (
            None if levels[other_room] < levels[room] else f"{other_room} stands above {room}, or beside it"
        )
    if package == "detector" and room == "networks" and other_room != "weights":
        return "networks know files of weights, and no more of the detector"
    if package == "evaluation" and other_room == "report":
        return "scores know nothing of the report"
    if package == "pinpoint" and other_room != "cli" and room != "__main__":
        return "commands know the command line, not each other"
    return None


def modules_of(package: str) -> list[tuple[str, Path]]:
    """Dotted names and files of a package."""
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 2
    return [
        (".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), file)
        for file in files
    ]


def imports_of(file: Path) -> set[str]:
    """Dotted names of all that a file imports; of `from a import b`, both a and a.b if that is a module."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide who imports whom"
            assert node.module
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            here = {name for name in inner if (ROOT / f"{name.replace('.', '/')}.py").is_file()}
            here |= {name for name in inner if (ROOT / name.replace(".", "/")).is_dir()}
            names |= here or {node.module}
    return names


@pytest.mark.parametrize("package", BELOW)
def test_imports_fall(package: str) -> None:
    reasons = [
        f"{module} imports {name}: {reason}"
        for module, file in modules_of(package)
        for name in sorted(imports_of(file))
        if (reason := forbidden(module, name))
    ]
    assert not reasons, "\n".join(reasons)


@pytest.mark.parametrize(
    ("importer", "imported", "reason"),
    [
        ("losses.boxes", "detector.networks.head", "losses knows nothing of detector"),
        ("evaluation.report.outputs", "datamodules.base", "evaluation knows nothing of datamodules"),
        ("datamodules.formats.coco", "datamodules.modules", "modules stands above formats, or beside it"),
        (
            "datamodules.formats.coco",
            "datamodules.loading.loader",
            "loading stands above formats, or beside it",
        ),
        (
            "datamodules.transforms.plan",
            "datamodules.records",
            "records stands above transforms, or beside it",
        ),
        ("evaluation.coco", "evaluation.report.text", "scores know nothing of the report"),
        ("detector.module", "pinpoint.cli.detection", "detector knows nothing of pinpoint"),
        (
            "detector.networks.fusion",
            "detector.assigner",
            "networks know files of weights, and no more of the detector",
        ),
        ("detector.networks.backbone", "detector.weights", None),
        (
            "pinpoint.doctor.report",
            "pinpoint.comparison.report",
            "commands know the command line, not each other",
        ),
        ("pinpoint.cli.detection", "train", "nothing imports scripts or tests"),
        ("pinpoint.doctor.report", "pinpoint.cli.recipes", None),
        ("datamodules.loading.loader", "datamodules.transforms.plan", None),
        ("evaluation.report.text", "evaluation.coco", None),
        ("detector.module", "torch.nn", None),
    ],
)
def test_the_rules_can_be_broken(importer: str, imported: str, reason: str | None) -> None:
    assert forbidden(importer, imported) == reason


def test_every_room_of_datamodules_has_its_level() -> None:
    rooms = {name.split(".")[1] for name, _ in modules_of("datamodules") if "." in name}
    assert rooms == set().union(*FALL)


def test_losses_need_torch_alone() -> None:
    for _, file in modules_of("losses"):
        tops = {name.split(".")[0] for name in imports_of(file)}
        assert tops <= {"losses", "torch"} | set(sys.stdlib_module_names), file


def test_the_network_can_be_taken_without_lightning() -> None:
    for file in (ROOT / "detector").rglob("*.py"):
        room = file.relative_to(ROOT / "detector").parts[0].removesuffix(".py")
        tops = {name.split(".")[0] for name in imports_of(file)}
        assert "lightning" not in tops or room in WITH_LIGHTNING, file


def test_the_package_alone_is_light() -> None:
    code = "import detector, sys; print({'lightning', 'timm', 'torch', 'albumentations'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.parametrize(
    "module",
    ["train", "evaluate", "predict", "compare", "pinpoint.comparison.cell", "pinpoint.doctor.__main__"],
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


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *((command, "--config") for command in ("train", "evaluate", "compare", "doctor")),
        ("predict", "--threshold"),
        ("export", "--format"),
    ],
)
def test_help_waits_for_no_library(command: str, option: str) -> None:
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
    assert option in run.stdout


def test_every_module_can_be_imported_on_windows() -> None:
    for package in ("pinpoint", "detector", "datamodules", "losses", "evaluation"):
        for _, file in modules_of(package):
            body = ast.parse(file.read_text("utf-8")).body
            names = [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
            names += [str(node.module) for node in body if isinstance(node, ast.ImportFrom)]
            assert not {"fcntl", "resource", "pwd", "termios"} & set(names), file
