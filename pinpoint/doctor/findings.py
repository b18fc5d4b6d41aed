"""What the doctor can find, how bad it is, and what helps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from datamodules.records import Split

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        severity: "error" loses data or falsifies scores, "warning" is probably a mistake, "note" is
            something to know.
        title: what it is.
        remedy: what to do about it.
    """

    severity: Severity
    title: str
    remedy: str


KINDS = {
    "unusable": Kind(
        "error",
        "rows and images that training cannot use",
        "each message says how to correct it; with data.on_error=skip their images are left out",
    ),
    "unreadable": Kind("error", "images that cannot be decoded", "copy or download them again"),
    "no-size": Kind("error", "boxes of zero or negative size", "draw them again, or remove them"),
    "outside": Kind("error", "boxes wholly outside their image", "check the order x, y, width, height"),
    "leak": Kind(
        "error",
        "validation or test images seen in training",
        "split by flight, place or day; until then the scores are too high",
    ),
    "unseen": Kind("error", "classes of val that are not in train", "split again, or drop the class"),
    "chosen-on": Kind(
        "warning",
        "test images that are validation images too",
        "best.ckpt is chosen by them, so its test scores are a little too high: give others",
    ),
    "damaged": Kind(
        "warning",
        "JPEGs that decode with complaints: pixels may be wrong",
        "look at them; copy or download them again",
    ),
    "cut": Kind("warning", "boxes that reach out of their image", "none needed: they are clipped"),
    "duplicate": Kind("warning", "objects annotated twice", "remove one of the two rows"),
    "mode": Kind("warning", "images of an unusual pixel format", "convert all to one format"),
    "orphan": Kind("warning", "files that nothing refers to", "annotate them, or remove them"),
    "tiny": Kind("warning", "objects below 2 px at the input", "enlarge data.image_size, or train on tiles"),
    "rare": Kind("warning", "classes with few objects", "annotate more, or merge the class with another"),
    "reading": Kind(
        "warning", "what was left out or looks odd as the files were read", "correct it unless it is meant so"
    ),
    "case": Kind(
        "warning",
        "classes whose names differ in capital letters alone",
        "give them one name, unless they are two classes",
    ),
    "empty": Kind("note", "images without objects", "none needed if nothing is on them"),
    "turned": Kind(
        "note",
        "images stored turned or mirrored (EXIF)",
        "none needed: pixels are turned, and boxes belong to the image as it is displayed",
    ),
    "repeat": Kind("note", "images much like an earlier one of their split", "they add little"),
}
"""By name, the worst first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        kind: a name in `KINDS`.
        split: the split that it is in.
        image: path of the image concerned; empty for none.
        message: file, row and what is wrong with it.
    """

    kind: str
    split: Split
    image: str
    message: str


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings of each kind that occurs, in the order of `KINDS`."""
    groups: dict[str, list[Finding]] = {name: [] for name in KINDS}
    for finding in findings:
        groups[finding.kind].append(finding)
    return {name: group for name, group in groups.items() if group}


def count(findings: Sequence[Finding], severity: Severity) -> int:
    """Number of findings of a severity."""
    return sum(KINDS[finding.kind].severity == severity for finding in findings)
