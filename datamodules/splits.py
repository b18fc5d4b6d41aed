"""Validation images taken from the training images, where a data set has none of its own."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from datamodules.files import read_text
from datamodules.problems import DataError, Problems, Reader
from datamodules.records import Record, Records, Split


@dataclass(frozen=True)
class Division:
    """How training images are divided into training and validation.

    Args:
        fraction: share of the images that validate; of `folds` one part in that many.
        group: regular expression, found in the file name; images in which it finds the same text (its groups,
            if it has any) stay together, as do frames of one flight. Each image for itself if not given.
        groups: CSV of `file` and `group`, such as the doctor's groups.csv of near duplicates; what it does
            not name goes by `group`.
        folds: number of parts for cross-validation.
        fold: which of them validates, from 0.
        seed: which images validate.

    Raises:
        ValueError: if a parameter lies outside its range.
    """

    fraction: float | None = None
    group: str | None = None
    groups: Path | None = None
    folds: int | None = None
    fold: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise ValueError(f"data.val_fraction must lie between 0 and 1, got {self.fraction}")
        if self.fraction is not None and self.folds is not None:
            raise ValueError("data.val_fraction and data.folds exclude each other: give one of them")
        if self.folds is not None and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise ValueError(
                f"data.folds must be at least 2 and data.fold below it, not {self.folds}, {self.fold}"
            )
        if not self and (self.group is not None or self.groups is not None or self.fold):
            raise ValueError(
                "data.val_group, data.val_groups and data.fold need data.val_fraction or data.folds"
            )
        try:
            re.compile(self.group or "")
        except re.error as error:
            raise ValueError(f"data.val_group is no regular expression ({error}): {self.group}") from None

    def __bool__(self) -> bool:
        """Whether anything is divided."""
        return self.fraction is not None or self.folds is not None

    def validates(self, images: Sequence[Record]) -> set[str]:
        """File names of the images that validate.

        The order of the groups is a hash of seed and name, so a new image moves hardly any other. Of each in
        turn it is asked whether the share comes nearer to what is wanted with it.

        Raises:
            DataError: if there are not enough groups, or the expression finds none.
        """
        names: dict[str, list[str]] = {}
        known = _read_groups(self.groups) if self.groups else {}
        for name in (image.info.file_name for image in images):
            names.setdefault(known.get(name) or self._group(name), []).append(name)
        parts = self.folds or 2
        if len(names) < parts:
            of = f" by data.val_group ({self.group})" if self.group else ""
            raise DataError(
                f"{len(images)} training images make {len(names)} groups{of}, too few for {parts} parts: "
                "give images to validate, or another data.val_group"
            )
        order = sorted(names, key=lambda group: hashlib.sha256(f"{self.seed}/{group}".encode()).digest())
        if self.folds is not None:
            chosen: list[list[str]] = [[] for _ in range(self.folds)]
            for group in order:
                min(chosen, key=len).extend(names[group])
            return set(chosen[self.fold])
        assert self.fraction is not None
        wanted, validating = self.fraction * len(images), list[str]()
        for group in order:
            left = len(images) - len(validating) - len(names[group])  # to train on
            if left and abs(len(validating) + len(names[group]) - wanted) < abs(len(validating) - wanted):
                validating += names[group]
        return set(validating or names[min(order, key=lambda group: len(names[group]))])

    def doubt(self, share: float) -> str | None:
        """What to say where groups leave a share of validation images that is far from what is wanted."""
        if self.fraction is None or abs(share - self.fraction) <= self.fraction / 3:
            return None
        return (
            f"{share:.0%} of the images validate, data.val_fraction asks for {self.fraction:.0%}: groups are "
            "too large to come nearer"
        )

    def _group(self, name: str) -> str:
        if self.group is None:
            return name
        found = re.search(self.group, name)
        if found is None:
            raise DataError(f"data.val_group ({self.group}) finds nothing in the file name {name}")
        return "/".join(part or "" for part in found.groups()) if found.groups() else found.group()


def _read_groups(file: Path) -> dict[str, str]:
    """Group of each file name."""
    try:
        rows = list(csv.DictReader(read_text(file).splitlines()))
        return {row["file"]: row["group"] for row in rows}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{file} cannot be read ({error!r}): it must have columns file and group") from None


def divided(readers: Mapping[Split, Reader], division: Division) -> dict[Split, Reader]:
    """Readers whose training and validation split both come from the training split.

    Args:
        readers: those of the data set; its own validation split is not used.
        division: how they are divided.
    """
    read_all = readers["train"]

    def part(validating: bool) -> Reader:
        def read(class_names: Sequence[str], problems: Problems) -> Records:
            records = read_all(class_names, problems)
            names = division.validates(records.images)
            kept = [image for image in records.images if (image.info.file_name in names) == validating]
            if validating and (doubt := division.doubt(len(kept) / len(records.images))):
                rank_zero_warn(doubt)
            paths = {image.path for image in kept} | problems.images
            problems.rows = {path: rows for path, rows in problems.rows.items() if path in paths}
            return replace(records, images=kept)

        return read

    return {**readers, "train": part(validating=False), "val": part(validating=True)}


@rank_zero_only
def write_division(records: Mapping[Split, Records], folder: Path) -> None:
    """Write which image was of which split to `split.csv` in a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "split.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "split"))
        writer.writerows(
            (image.info.file_name, split) for split, found in records.items() for image in found.images
        )
