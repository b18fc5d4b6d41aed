"""House rules that a count can hold."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("pinpoint", "detector", "datamodules", "evaluation", "losses", "benchmarks", "examples", "docs")


def python_files(*folders: str) -> list[Path]:
    return [path for name in folders for path in sorted((ROOT / name).rglob("*.py"))]


def test_a_file_can_be_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files(*CODE)
        if (lines := len(path.read_text("utf-8").splitlines())) > 400
    }
    assert not long
    assert len(python_files(*CODE)) > 100


def test_no_two_test_files_share_a_name() -> None:
    # pytest imports them by their names alone, and would not collect the second.
    names = Counter(path.name for path in python_files("tests") if path.name.startswith("test_"))
    assert [name for name, count in names.items() if count > 1] == []
