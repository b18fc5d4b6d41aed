"""Tables of text and Markdown, character by character."""

import math

import pytest

from evaluation.coco import CocoScores
from evaluation.tables import cell_text, columns, limit_names, markdown, plain, range_title

HEADER = ["class", "AP"]
ROWS = [("a|b", 0.12345), ("car", math.nan), ("van", 12)]


def test_plain():
    assert plain(HEADER, ROWS).splitlines() == [
        "class     AP",
        "------------",
        "a|b    0.123",
        "car        -",
        "van       12",
    ]


def test_columns():
    assert columns(["variant", "in words"], [("ciou", "baseline")]).splitlines() == [
        "variant  in words",
        "ciou     baseline",
    ]


def test_markdown_escapes_its_own_sign():
    assert markdown(HEADER, ROWS).splitlines() == [
        "| class | AP    |",
        "|-------|-------|",
        "| a\\|b  | 0.123 |",
        "| car   | -     |",
        "| van   | 12    |",
    ]


@pytest.mark.parametrize(("value", "text"), [(0.0005, "0.001"), (math.nan, "-"), (7, "7"), ("x", "x")])
def test_cells(value, text):
    assert cell_text(value) == text


def test_range_titles():
    names = ("small", "medium", "large", "0_8", "8_16")
    assert [range_title(name) for name in names] == [
        "small (< 32)",
        "medium (32-96)",
        "large (96+)",
        "< 8",
        "8-16",
    ]


def test_limit_names_leave_sizes_out():
    assert limit_names(CocoScores(["a"], max_detections=50).compute()) == ["AR1", "AR10", "AR50"]
