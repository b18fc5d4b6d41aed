"""The examination of a data set: every check, once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from datamodules.base import DetectionDataModule
from datamodules.files import printable
from datamodules.problems import DataError, PixelsWarning, Problems, RowsWarning
from datamodules.records import Record, Split
from datamodules.setup_checks import require_channels
from pinpoint.doctor.checks import check_classes, check_images, check_orphans, check_shared, describe_pairs
from pinpoint.doctor.findings import Finding
from pinpoint.doctor.near_duplicates import Pair, connected, find_pairs
from pinpoint.doctor.objects import Objects, gather
from pinpoint.doctor.pixels import Pixels, read_pixels
from pinpoint.doctor.rows import check_rows

COMPARED: tuple[tuple[Split, Split], ...] = (("val", "train"), ("train", "train"), ("val", "val"))
"""Splits between which near duplicates are looked for."""


@dataclass(slots=True)
class Diagnosis:
    """What the doctor knows about a data set.

    Attributes:
        class_names: name of each class index.
        image_size: (H, W) of the network's input.
        findings: everything that is wrong or worth knowing.
        objects: the objects of each split that could be read.
        leaks: images of val with their near duplicates in train.
        groups: file names of images that show the same thing, first name first.
    """

    class_names: list[str]
    image_size: tuple[int, int]
    findings: list[Finding] = field(default_factory=list)
    objects: dict[Split, Objects] = field(default_factory=dict)
    leaks: list[tuple[Pair, Pixels, Pixels]] = field(default_factory=list)
    groups: list[list[str]] = field(default_factory=list)


def examine(data: DetectionDataModule, annotations_only: bool = False) -> Diagnosis:
    """Read a data set and check all of it.

    Args:
        data: the data module of a recipe.
        annotations_only: decode no images, and look for no near duplicates.
    """
    result = Diagnosis(data.class_names, data.image_size)
    findings, paths = result.findings, dict[str, Split]()
    records, files = dict[Split, list[Record]](), dict[Split, list[Record]]()
    pixels: dict[Split, list[Pixels]] = {}
    doubts: dict[str, Split] = {}  # each once: of what splits share, all readers warn
    for split, reader in data.readers.items():
        problems, failed = Problems("skip"), []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                images = require_channels(reader(data.class_names, problems), data.channels).images
        except DataError as error:
            images, failed = [], [Finding("unusable", split, "", str(error))]
        paths |= dict.fromkeys((*problems.images, *(record.path for record in images)), split)
        if not failed:
            files[split] = images
        if split == "test":
            continue  # its images may lie among the others; no more is asked of it
        findings += failed
        for message in _doubts(caught, annotations_only):
            doubts.setdefault(message, split)
        findings += [Finding("unusable", split, "", message) for message in problems.found]
        findings += check_rows(problems.rows, split, data.image_size)
        if not failed:
            records[split] = images
    findings += [Finding("reading", split, "", message) for message, split in doubts.items()]
    findings += check_shared(files)
    findings += check_orphans(paths)
    for split, images in records.items():
        if not annotations_only:
            pixels[split] = read_pixels(images)
        findings += check_images(images, pixels.get(split), split)
        result.objects[split] = gather(images, data.image_size)
    findings += check_classes(result.objects, data.class_names)
    alike: list[tuple[str, str]] = []
    for split, other in COMPARED:
        if split in pixels and other in pixels:
            thumbnails = {name: [image.thumbnail for image in pixels[name]] for name in (split, other)}
            pairs = find_pairs(thumbnails[split], None if other == split else thumbnails[other])
            findings += describe_pairs(pairs, records[split], records[other], split, other != split)
            names = [[image.info.file_name for image in records[name]] for name in (split, other)]
            alike += [(names[0][pair.query], names[1][pair.other]) for pair in pairs]
            result.leaks += [
                (pair, pixels[split][pair.query], pixels[other][pair.other])
                for pair in pairs
                if other != split
            ]
    result.groups = connected(alike)
    result.findings = [
        replace(finding, image=printable(finding.image), message=printable(finding.message))
        for finding in findings
    ]
    return result


def _doubts(caught: Iterable[warnings.WarningMessage], annotations_only: bool) -> Iterator[str]:
    """What a reader warned of, but for what other findings say with file and row."""
    said = (RowsWarning,) if annotations_only else (RowsWarning, PixelsWarning)
    for warning in caught:
        if issubclass(warning.category, UserWarning) and not issubclass(warning.category, said):
            yield str(warning.message)
