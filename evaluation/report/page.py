"""`report.html`: one page without links to anything, and its pictures as PNG files beside it."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation.analysis import Analysis
from evaluation.coco import IOU_PERCENT, SIDE_RANGES
from evaluation.errors import ERRORS
from evaluation.files import write_whole
from evaluation.report.figures import as_png, attempt, draw_all
from evaluation.report.pictures import LoadImage, worst_images
from evaluation.results import Results
from evaluation.tables import Cell, cell_text, limit_names, range_title

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)
TEMPLATES.filters["cell_text"] = cell_text


def write_report(
    folder: Path,
    title: str,
    results: Results,
    scores: Mapping[str, float],
    analysis: Analysis,
    load_image: LoadImage,
    file_names: Mapping[int, str],
    worst: int = 8,
) -> None:
    """Write `report.html`, which holds its pictures, and the pictures as `figures/*.png`.

    Args:
        folder: existing folder.
        title: heading of the page.
        results: detections and annotations.
        scores: COCO's scores, see `evaluation.coco.evaluate`.
        analysis: see `evaluation.analysis.analyse`.
        load_image: gives the (H, W, 3) RGB pixels of the original image of an id.
        file_names: file name of each image id.
        worst: number of images to show.
    """
    figures = draw_all(results, scores, analysis, load_image, worst)
    images = worst_images(results, analysis.shown, worst)
    pictures = {}
    for name, figure in figures.items():
        with attempt(name):
            png = as_png(figure)
            write_whole(folder / "figures" / f"{name}.png", png)
            pictures[name] = base64.b64encode(png).decode("ascii")
    overall = ["AP", *(f"AP{percent}" for percent in IOU_PERCENT), *limit_names(scores)]
    page = TEMPLATES.get_template("page.html").render(
        title=title,
        results=results,
        overall=overall,
        overall_row=[scores[name] for name in overall],
        size_rows=[(range_title(name), scores[f"AP_{name}"], scores[f"AR_{name}"]) for name in SIDE_RANGES],
        class_rows=_class_rows(scores, analysis),
        errors=list(ERRORS),
        error_rows=_error_rows(analysis),
        pictures=pictures,
        worst_names=[file_names[image_id] for image_id in results.image_ids[images].tolist()],
    )
    write_whole(folder / "report.html", page)


def _class_rows(scores: Mapping[str, float], analysis: Analysis) -> Iterable[Sequence[Cell]]:
    for c, name in enumerate(analysis.class_names):
        threshold, f1, precision, recall = analysis.curves[c].best
        best = (threshold, f1, precision, recall) if f1 else (math.nan,) * 4
        ap, miou = (scores[f"AP/{name}"], scores[f"AP50/{name}"]), analysis.mean_iou[name]
        yield name, int(analysis.objects[c]), *ap, *best, miou


def _error_rows(analysis: Analysis) -> Iterable[Sequence[Cell]]:
    yield "number", *analysis.error_counts.values()
    for name, costs in analysis.error_costs.items():
        title = name if name == "all" else range_title(name)
        yield f"AP50 lost, {title}", *(costs[error] for error in ERRORS)
