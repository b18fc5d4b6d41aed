"""What the packages import against what pyproject.toml declares."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("pinpoint", "detector", "datamodules", "evaluation", "losses")


def normal(name: str) -> str:
    """A distribution's name as PyPI compares it, without version and extras."""
    return re.split(r"[\[<>=!~; ]", name)[0].lower().replace("_", "-")


def imported() -> set[str]:
    """Top-level names of all third-party modules that the packages import."""
    names = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names - set(PACKAGES)


def declared() -> set[str]:
    """Names of all that pyproject.toml asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {
        normal(line)
        for lines in (project["dependencies"], *project["optional-dependencies"].values())
        for line in lines
    }


def test_every_import_is_declared():
    wanted, distributions = declared(), packages_distributions()
    missing = {
        name for name in imported() if not wanted & {normal(one) for one in distributions.get(name, [name])}
    }
    assert not missing


def test_ci_pins_all_that_is_declared():
    pinned = {normal(line) for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()}
    assert declared() <= pinned
