"""The report of a comparison: report.md, cells.csv, differences.csv, pictures and TensorBoard's HParams."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from evaluation.bootstrap import SCORE_NAMES
from evaluation.coco import SIDE_RANGES
from evaluation.tables import columns, markdown, range_title
from pinpoint.comparison.differences import CURVES, Cell, Difference, paired_difference, verdict

OVERALL = ("AP", "AP50", "AP75")
BY_SIZE = ("AP_0_8", "AP_8_16", "AP_16_32", "AP_medium", "AP_large")
"""Scores by size whose ranges do not overlap; `AP_small` is the first three together."""
ERROR_COLUMNS = ("variant", "seeds", "images", "degrees of freedom", "smallest difference it could show")


def write_report(
    folder: Path,
    variants: Mapping[str, str],
    cells: Sequence[Cell],
    facts: Mapping[str, str],
    missing: Sequence[str] = (),
) -> str:
    """Write the whole report.

    Args:
        folder: where; must exist.
        variants: options of each variant by its name; the first is the baseline.
        cells: finished cells, at least one of the baseline, all scored on the same images.
        facts: what else a reader should know, such as command and machine, by title.
        missing: names of the cells that are not finished.

    Returns:
        The verdicts as a table of text.

    Raises:
        ValueError: if the cells were scored on different images.
    """
    sets = {cell.image_set for cell in cells} - {""}  # cells of an older version do not say
    if len({cell.images for cell in cells}) > 1 or len(sets) > 1:
        raise ValueError(
            "the cells were scored on different images, so they cannot be paired: vary options of training "
            "alone, not data.fold or what else chooses the validation images"
        )
    by_variant = {name: [cell for cell in cells if cell.variant == name] for name in variants}
    by_variant = {name: mine for name, mine in by_variant.items() if mine}
    baseline, *others = by_variant
    seeds = {cell.seed for cell in by_variant[baseline]}
    differences = {
        name: {
            score: paired_difference(by_variant[name], by_variant[baseline], score) for score in SCORE_NAMES
        }
        for name in others
        if seeds & {cell.seed for cell in by_variant[name]}
    }
    _write_cells(folder / "cells.csv", cells)
    _write_differences(folder / "differences.csv", by_variant, differences)
    sizes = [score for score in BY_SIZE if not math.isnan(by_variant[baseline][0].scores[score])]
    verdicts = _verdicts(by_variant, differences)
    (folder / "report.md").write_text(
        _markdown(variants, by_variant, differences, sizes, facts, missing), "utf-8"
    )
    _draw_differences(folder / "differences.png", baseline, differences, OVERALL)
    _draw_differences(folder / "sizes.png", baseline, differences, sizes)
    _draw_curves(folder / "curves.png", by_variant)
    _write_hparams(folder / "hparams", variants, cells)
    return columns(*verdicts)


def _markdown(
    variants: Mapping[str, str],
    by_variant: Mapping[str, Sequence[Cell]],
    differences: Mapping[str, Mapping[str, Difference]],
    sizes: Sequence[str],
    facts: Mapping[str, str],
    missing: Sequence[str],
) -> str:
    """The text of report.md."""
    baseline = next(iter(by_variant))
    cells = [cell for mine in by_variant.values() for cell in mine]
    seeds = sorted({cell.seed for cell in cells})
    count, images = len(differences), cells[0].images
    resumed = [f"{cell.variant}, seed {cell.seed}" for cell in cells if cell.attempts > 1]
    scores = [*OVERALL, "AP_small", *sizes]
    header = ["variant", *map(_title, scores)]
    means = [
        [name, *(_mean_and_spread(np.array([cell.scores[score] for cell in mine])) for score in scores)]
        for name, mine in by_variant.items()
    ]
    changes = [
        [name, *(_with_interval(found[score]) for score in scores)] for name, found in differences.items()
    ]
    errors = [[name, *_errors(found["AP"])] for name, found in differences.items()]

    parts = [
        f"# {len(by_variant)} variants, {len(seeds)} seeds, compared with {baseline}",
        "All scores are COCO's, shares of 1, on the validation images, with the averaged weights of "
        "the last epoch: no epoch is chosen by the score that is reported.",
        markdown(*_verdicts(by_variant, differences)),
        *([f"**Not finished, so left out:** {'; '.join(missing)}."] if missing else []),
        "## Scores",
        f"Mean and standard deviation over the seeds {', '.join(map(str, seeds))}.",
        markdown(header, means),
        "## Differences",
        f"Mean difference from {baseline}, seed by seed, and its 95 % interval over seeds and images. Bold: "
        "without 0, as one in 20 would be by chance.",
        markdown(header, changes),
        "![paired differences](differences.png)",
        "### By object size",
        "Sides in pixels of the original images.",
        "![paired differences by object size](sizes.png)",
        "## What this can tell",
        f"A difference of AP has two errors: by the choice of seeds ({len(seeds)}) and of images "
        f"({images}, bootstrapped). Their squares add up; the interval is as wide as Student's t asks. "
        "It speaks of other seeds, and other images of the same kind, under this very recipe: not of other "
        "data, schedules or networks.",
        markdown(ERROR_COLUMNS, errors),
        _several(count),
        "## Training curves",
        "Mean over the seeds; the band spans them.",
        "![training curves](curves.png)",
        "## How it was made",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "- options of the variants:",
        *(f"  - {name}: `{options}`" for name, options in variants.items()),
        f"- time of a cell: {_mean_time(cells)}",
        f"- interrupted and resumed: {'; '.join(resumed) if resumed else 'none'}",
        "- every cell: cells.csv; every difference: differences.csv; settings and scores side by side: "
        "`tensorboard --logdir hparams`",
    ]
    return _joined(parts)


def _mean_time(cells: Sequence[Cell]) -> str:
    """Mean time of the cells that were trained in one go; of a resumed one only the last attempt is known."""
    whole = [cell.seconds for cell in cells if cell.attempts == 1]
    return f"{np.mean(whole):.0f} s on average" if whole else "not known, all were interrupted"


def _several(count: int) -> str:
    """What several comparisons at once do to an interval of 95 %."""
    if count == 0:
        return "No comparison was made yet."
    if count == 1:
        return "One comparison was made, so the level of 95 % is what it says."
    return (
        f"{count} comparisons were made: were all variants equal, the chance that at least one interval "
        f'would exclude 0 is up to {100 * (1 - 0.95**count):.0f} %. "Beyond noise" above therefore asks for '
        f"{100 * (1 - 0.05 / count):.1f} % (Bonferroni)."
    )


def _errors(difference: Difference) -> list[str]:
    """The cells below `ERROR_COLUMNS`, after the variant."""
    low, high = difference.interval()
    degrees = f"{difference.degrees:.1f}" if difference.error > 0 else "-"
    errors = (_score(difference.seed_error), _score(difference.image_error))
    return [*errors, degrees, _score((high - low) / 2)]


def _verdicts(
    by_variant: Mapping[str, Sequence[Cell]], differences: Mapping[str, Mapping[str, Difference]]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the short answer: AP, its difference and what to think of it."""
    rows = []
    for name, mine in by_variant.items():
        ap = _mean_and_spread(np.array([cell.scores["AP"] for cell in mine]))
        if name in differences:
            difference = differences[name]["AP"]
            rows.append([name, ap, _with_interval(difference), verdict(difference, len(differences))])
        else:
            rows.append([name, ap, "", "baseline" if name == next(iter(by_variant)) else "no seed in common"])
    return ["variant", "AP", "difference [95 %]", "in words"], rows


def _write_cells(path: Path, cells: Sequence[Cell]) -> None:
    """One row a cell, scores in [0, 1]."""
    names = list(cells[0].scores)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", "seconds", "attempts", *names])
        for cell in cells:
            scores = (cell.scores[name] for name in names)
            writer.writerow([cell.variant, cell.seed, round(cell.seconds, 1), cell.attempts, *scores])


def _write_differences(
    path: Path,
    by_variant: Mapping[str, Sequence[Cell]],
    differences: Mapping[str, Mapping[str, Difference]],
) -> None:
    """One row a variant and score, scores in [0, 1]."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "variant",
                "score",
                "seeds",
                "mean",
                "sd",
                "difference",
                "low",
                "high",
                "seed_error",
                "image_error",
            ]
        )
        for name, mine in by_variant.items():
            for score in SCORE_NAMES:
                values = np.array([cell.scores[score] for cell in mine])
                spread = values.std(ddof=1) if len(values) > 1 else math.nan
                row = [name, score, len(values), values.mean(), spread]
                if name in differences:
                    d = differences[name][score]
                    row += [d.mean, *d.interval(), d.seed_error, d.image_error]
                writer.writerow(row)


def _write_hparams(folder: Path, variants: Mapping[str, str], cells: Sequence[Cell]) -> None:
    """One run a cell for TensorBoard's HParams page."""
    shutil.rmtree(folder, ignore_errors=True)
    for cell in cells:
        settings = {"variant": cell.variant, "seed": cell.seed, "options": variants[cell.variant]}
        scores = {f"score/{name}": cell.scores[name] for name in SCORE_NAMES}
        with SummaryWriter(str(folder / f"{cell.variant}-seed{cell.seed}")) as writer:
            writer.add_hparams(settings, scores, run_name=".")


def _draw_differences(
    path: Path, baseline: str, differences: Mapping[str, Mapping[str, Difference]], scores: Sequence[str]
) -> None:
    """A panel a score, a line a variant: the mean difference with its interval, a dot a seed."""
    figure = Figure(figsize=(2 + 2.2 * len(scores), 1.3 + 0.4 * len(differences)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(len(scores), 1), sharey=True))
    for panel, score in zip(panels, scores, strict=False):
        panel.axvline(0, color="0.6", linewidth=1)
        for row, mine in enumerate(differences.values()):
            low, high = mine[score].interval()
            colour = "black" if low > 0 or high < 0 else "tab:blue"
            panel.plot([low, high], [row, row], color=colour, linewidth=1.5)
            panel.plot(mine[score].mean, row, "s", color=colour, markersize=5)
            per_seed = mine[score].per_seed
            panel.plot(per_seed, np.full(len(per_seed), row + 0.2), ".", color="tab:orange", markersize=6)
        panel.set_title(_title(score), fontsize=10)
        panel.tick_params(labelsize=8)
        panel.locator_params(axis="x", nbins=5)  # numbers that do not touch
    panels[0].set_yticks(range(len(differences)), list(differences), fontsize=9)
    panels[0].set_ylim(max(len(differences), 1) - 0.5, -0.5)
    figure.supxlabel(f"more than {baseline}: mean and 95 % interval; orange: each seed", fontsize=9)
    figure.savefig(path, dpi=100)


def _draw_curves(path: Path, by_variant: Mapping[str, Sequence[Cell]]) -> None:
    """A panel a score, a line a variant: the mean over the seeds by step, and their range."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    for panel, (tag, title) in zip(panels, CURVES.items(), strict=True):
        for k, (name, mine) in enumerate(by_variant.items()):
            curves = [cell.curves[tag] for cell in mine if len(cell.curves[tag][0])]
            if not curves:  # no validation while they were trained
                continue
            steps = curves[0][0]
            values = [np.interp(steps, *curve) for curve in curves]
            colour = f"C{k % 10}"
            panel.plot(steps, np.mean(values, axis=0), color=colour, label=name, linewidth=1.5)
            panel.fill_between(
                steps, np.min(values, axis=0), np.max(values, axis=0), color=colour, alpha=0.12
            )
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("step", fontsize=9)
        panel.tick_params(labelsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=100)


def _title(score: str) -> str:
    """`AP_8_16` as "AP 8-16"."""
    name = score.removeprefix("AP_")
    return f"AP {range_title(name)}" if name in SIDE_RANGES else score


def _score(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.4f}"


def _mean_and_spread(values: np.typing.NDArray[np.float64]) -> str:
    mean = _score(float(values.mean()))
    return f"{mean} ± {_score(float(values.std(ddof=1)))}" if len(values) > 1 else mean


def _with_interval(difference: Difference) -> str:
    low, high = difference.interval()
    text = _score(difference.mean, "+")
    if math.isnan(low):
        return text
    text += f" [{_score(low, '+')}, {_score(high, '+')}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _joined(parts: Sequence[str]) -> str:
    """Join parts by blank lines, list items by line breaks."""
    text = parts[0]
    for before, part in pairwise(parts):
        both_items = before.lstrip().startswith("- ") and part.lstrip().startswith("- ")
        text += ("\n" if both_items else "\n\n") + part
    return text + "\n"
