"""What the doctor leaves behind: a report with pictures, a table of all findings, and advice."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

from evaluation.tables import markdown
from pinpoint.cli.calling import called
from pinpoint.doctor.advice import advise, write_yaml
from pinpoint.doctor.diagnosis import Diagnosis
from pinpoint.doctor.figures import draw_overview, draw_pairs
from pinpoint.doctor.findings import KINDS, by_kind
from pinpoint.doctor.objects import percentiles

EXAMPLES = 5
"""Findings of a kind that the report shows; `findings.csv` has them all."""


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
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in ("groups.csv", "advice.yaml", "near_duplicates.png", "overview.png"):
        (folder / left).unlink(missing_ok=True)  # of an earlier call, which this one may not write again
    with (folder / "findings.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("severity", "kind", "split", "image", "message"))
        for kind, group in by_kind(result.findings).items():
            table.writerows((KINDS[kind].severity, *astuple(finding)) for finding in group)
    if result.groups:
        with (folder / "groups.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("file", "group"))
            table.writerows((member, names[0]) for names in result.groups for member in names)
    lines = [f"# The doctor on {name}", "", f"    {command}", ""]
    if result.objects:
        draw_overview(result.objects, result.class_names, result.image_size).savefig(folder / "overview.png")
        lines += [_statistics(result), "", "![statistics](overview.png)", ""]
    lines += ["## Findings", "", *_findings(result)]
    if result.leaks:
        draw_pairs(result.leaks).savefig(folder / "near_duplicates.png")
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
        write_yaml(advice, path, f"{shlex.join(called('train'))} {configs}")
        rows = [
            (".".join(item.key).replace(".init_args", ""), str(item.value), item.reason) for item in advice
        ]
        lines += ["## Advice", "", markdown(["option", "value", "why"], rows), ""]
        lines += [f"As a configuration: `{path.name}`, to be given to train.py after the recipe.", ""]
    (folder / "report.md").write_text("\n".join(lines), encoding="utf-8")


def summary(result: Diagnosis) -> Iterator[str]:
    """Lines for the console: what was read, and how much of each kind was found."""
    for split, objects in result.objects.items():
        yield f"{split}: {len(objects.sizes)} images, {len(objects.boxes)} objects"
    groups = by_kind(result.findings)
    for kind, group in groups.items():
        yield f"{KINDS[kind].severity:8}{len(group):6}  {KINDS[kind].title}; the first: {group[0].message}"
    if not groups:
        yield "nothing is wrong"


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
