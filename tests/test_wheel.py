"""What an installation gets: all modules and recipes, and the command."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pinpoint", "detector", "datamodules", "evaluation", "losses")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel, built from a copy so that the tree stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in (*PACKAGES, "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def files_of(root: Path, kinds: tuple[str, ...]) -> set[Path]:
    return {
        path.relative_to(root)
        for name in PACKAGES
        for path in (root / name).rglob("*")
        if path.suffix in kinds and not path.is_relative_to(root / "pinpoint" / "recipes")
    }


def test_the_wheel_holds_every_module_every_page_and_every_recipe(installed: Path) -> None:
    wanted = files_of(ROOT, (".py", ".html"))
    assert Path("evaluation/report/page.html") in wanted
    assert files_of(installed, (".py", ".html")) == wanted
    recipes = {path.name: path.read_text() for path in (installed / "pinpoint" / "recipes").iterdir()}
    assert recipes == {path.name: path.read_text() for path in (ROOT / "configs").iterdir()}


def test_only_our_packages_reach_site_packages(installed: Path) -> None:
    folders = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert folders == set(PACKAGES)
    (entries,) = installed.glob("*.dist-info/entry_points.txt")
    assert "pinpoint = pinpoint.__main__:main" in entries.read_text()


def test_the_recipes_of_the_package_are_found_from_any_folder(installed: Path, tmp_path: Path) -> None:
    (installed / "configs").mkdir(exist_ok=True)  # somebody else's
    (installed / "configs" / "default.yaml").touch()
    code = "from pinpoint.cli.recipes import RECIPES, find_recipe; print(find_recipe('quickstart'))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(run.stdout.strip()) == installed / "pinpoint" / "recipes" / "quickstart.yaml"
