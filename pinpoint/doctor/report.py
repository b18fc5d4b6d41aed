"""What the doctor leaves behind: a report with pictures, a table of all findings, and advice."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

from evaluation.files import write_whole
from evaluation.report.figures import as_png
from evaluation.tables import markdown
from pinpoint.cli.calling import called
from pinpoint.doctor.advice import advise, as_yaml
from pinpoint.doctor.diagnosis import Diagnosis
from pinpoint.doctor.figures import draw_overview, draw_pairs
from pinpoint.doctor.findings import KINDS, by_kind
from pinpoint.doctor.objects import percentiles

EXAMPLES = 5
"""Findings of a kind that the report shows; `findings.csv` has them all."""

FILES = {"report.md", "findings.csv", "groups.csv", "advice.yaml", "overview.png", "near_duplicates.png"}
"""All that a report may consist of."""


def write_report(
    result: Diagnosis,
    folder: Path,
    name: str,
    recipes: Sequence[Path],
    command: str,
    network: Collection[str],
) -> None:
    """Write `report.md`, `findings.csv`, `groups.csv` of near duplicates, `advice.yaml` and the pictures.

    Args:
        result: see `examine`.
        folder: where to; made if need be.
        name: of the data set, for the heading.
        recipes: the recipes that the advice comes after.
        command: how the doctor was called.
        network: options of the recipes' network, see `advise`.

    Raises:
        OSError: a file cannot be written; an earlier one stays as it is.
    """
    header = ("severity", "kind", "split", "image", "message")
    files: dict[str, str | bytes] = {"findings.csv": _table(header, _rows(result))}
    if result.groups:
        members = ((member, names[0]) for names in result.groups for member in names)
        files["groups.csv"] = _table(("file", "group"), members)
    lines = [f"# The doctor on {name}", "", f"    {command}", ""]
    if result.objects:
        overview = draw_overview(result.objects, result.class_names, result.image_size)
        files["overview.png"] = as_png(overview)
        lines += [_statistics(result), "", "![statistics](overview.png)", ""]
    lines += ["## Findings", "", *_findings(result)]
    if result.leaks:
        files["near_duplicates.png"] = as_png(draw_pairs(result.leaks))
        lines += [
            "## Validation images (left) seen in training (right), the most alike first",
            "",
            "![near duplicates](near_duplicates.png)",
            "",
        ]
    train = result.objects.get("train")
    if train and (advice := advise(train, result.class_names, result.image_size, network)):
        path = folder / "advice.yaml"
        configs = " ".join(f"--config {recipe}" for recipe in (*recipes, path))
        files[path.name] = as_yaml(advice, f"{shlex.join(called('train'))} {configs}")
        rows = [
            (".".join(item.key).replace(".init_args", ""), str(item.value), item.reason) for item in advice
        ]
        lines += ["## Advice", "", markdown(["option", "value", "why"], rows), ""]
        lines += [f"As a configuration: `{path.name}`, to be given to train.py after the recipe.", ""]
    files["report.md"] = "\n".join(lines)
    for file_name, content in files.items():
        write_whole(folder / file_name, content)
    for file_name in FILES - files.keys():
        (folder / file_name).unlink(missing_ok=True)  # of an earlier call


def summary(result: Diagnosis) -> Iterator[str]:
    """Lines for the console: what was read, and how much of each kind was found."""
    for split, objects in result.objects.items():
        yield f"{split}: {len(objects.sizes)} images, {len(objects.boxes)} objects"
    groups = by_kind(result.findings)
    for kind, group in groups.items():
        yield f"{KINDS[kind].severity:8}{len(group):6}  {KINDS[kind].title}; the first: {group[0].message}"
    if not groups:
        yield "nothing is wrong"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A CSV file."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(header)
    table.writerows(rows)
    return text.getvalue()


def _rows(result: Diagnosis) -> Iterator[Sequence[str]]:
    for kind, group in by_kind(result.findings).items():
        yield from ((KINDS[kind].severity, *astuple(finding)) for finding in group)


def _findings(result: Diagnosis) -> Iterator[str]:
    groups = by_kind(result.findings)
    if not groups:
        yield "None."
    for kind, group in groups.items():
        about = KINDS[kind]
        yield f"### {about.severity}: {about.title} ({len(group)})"
        yield ""
        yield f"What helps: {about.remedy}."
        yield ""
        yield from (f"- {finding.split}: {finding.message}" for finding in group[:EXAMPLES])
        if len(group) > EXAMPLES:
            yield f"- and {len(group) - EXAMPLES} more in findings.csv"
        yield ""


def _statistics(result: Diagnosis) -> str:
    """A table with a column for each split."""
    rows = {
        "images": [f"{len(own.sizes)}" for own in result.objects.values()],
        "of them without objects": [f"{(own.per_image == 0).sum()}" for own in result.objects.values()],
        "objects": [f"{len(own.boxes)}" for own in result.objects.values()],
    }
    height, width = result.image_size
    for title, name in (
        ("side, original px", "sides"),
        (f"side at {width}x{height}, px", "input_sides"),
        ("objects an image", "per_image"),
    ):
        rows[f"{title}: least, 10 %, median, 90 %, most"] = [
            " / ".join(f"{value:.3g}" for value in percentiles(getattr(own, name)))
            for own in result.objects.values()
        ]
    rows["with a neighbour within one side"] = [
        f"{(own.neighbours()[0] > 0).sum() / max(len(own.boxes), 1):.0%}" for own in result.objects.values()
    ]
    classes = {  # apart: one may be called "objects"
        name: [f"{(own.labels == label).sum()}" for own in result.objects.values()]
        for label, name in enumerate(result.class_names)
    }
    table = [(title, *cells) for title, cells in (*rows.items(), *classes.items())]
    return markdown(["", *result.objects], table)
