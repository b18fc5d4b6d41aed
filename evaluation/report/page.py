"""`report.html`: one page without links to anything, and its pictures as PNG files beside it."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from evaluation.analysis import Analysis
from evaluation.coco import IOU_PERCENT, SIDE_RANGES
from evaluation.errors import ERRORS
from evaluation.report.figures import LoadImage, draw_all, worst_images
from evaluation.results import Results

Cell = str | float | int

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222 }
body { max-width: 1080px; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd }
div.wide { overflow-x: auto } img { max-width: 100%; height: auto }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
td, th { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #eee }
td:first-child, th:first-child { text-align: left } figure { margin: 1.5rem 0 }
figcaption { color: #555 }
div.pair { display: flex; flex-wrap: wrap; align-items: flex-end; gap: 0 2rem }
div.pair figure { flex: 1 1 420px; min-width: 0 }
.true { color: #2ca02c } .false { color: #d62728 } .missed { color: #b38600 }
"""


def write_report(
    folder: Path,
    title: str,
    results: Results,
    scores: Mapping[str, float],
    analysis: Analysis,
    load_image: LoadImage,
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
        worst: number of images to show.
    """
    figures = draw_all(results, scores, analysis, load_image, worst)
    images = worst_images(results, analysis.shown, worst).tolist()
    (folder / "figures").mkdir(exist_ok=True)
    pictures = {}
    for name, figure in figures.items():
        pictures[name] = _png(figure)
        (folder / "figures" / f"{name}.png").write_bytes(pictures[name])

    def show(name: str, caption: str) -> str:
        data = base64.b64encode(pictures[name]).decode("ascii")
        return (
            f'<figure><div class="wide"><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
            f"</div><figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    limits = [name for name in scores if name.startswith("AR") and name[2:].isdigit()]
    overall = ["AP", *(f"AP{t}" for t in IOU_PERCENT), *limits]
    counts = (
        f"{len(results.image_ids)} images, {len(results.gt_labels)} objects, {len(results.labels)} detections"
    )
    parts = [
        f"<h1>{html.escape(title)}</h1><p>{counts}</p>",
        "<h2>Scores</h2>",
        _table(overall, [[scores[name] for name in overall]]),
        _table(["size, px", "AP", "AR"], _size_rows(scores)),
        show("sizes", "AP and AR by object size (COCO ranges; medium is 32-96, large 96 and more)."),
        "<h2>Classes</h2>",
        _table(
            ["class", "objects", "AP", "AP50", "threshold", "F1", "precision", "recall", "MIoU"],
            _class_rows(scores, analysis),
        ),
        show("curves", "Precision by recall, and F1 by score threshold, at IoU 0.5."),
        "<h2>Errors</h2>",
        _table(["TIDE", *ERRORS], _error_rows(analysis)),
        show("errors", "AP50 that each type of error costs: what mending it alone would gain."),
        '<div class="pair">',
        show(
            "confusion", "Objects (rows) and what they were taken for, at each class's threshold of best F1."
        ),
        show("size_confusion", "Sizes of objects (rows) and of the boxes that found them."),
        show("crowding", "Recall of objects alone and in crowds, all detections counted."),
        show("calibration", "Scores against the share of true detections."),
        "</div>",
        "<h2>Worst images</h2>",
        '<p>At each class\'s threshold of best F1: <b class="true">true</b> and <b class="false">false</b> '
        'detections, <b class="missed">missed</b> objects; ignored regions grey.</p>',
        '<div class="pair">',
        *(show(f"worst_{i}", f"Image {results.image_ids[image]}") for i, image in enumerate(images, 1)),
        "</div>",
        "<h2>By size</h2>" if "gallery" in pictures else "",
        show("gallery", "Missed and found objects of each size.") if "gallery" in pictures else "",
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def _size_rows(scores: Mapping[str, float]) -> Iterable[Sequence[Cell]]:
    for name, (low, high) in SIDE_RANGES.items():
        bounds = f"{low} and more" if high == 1e5 else f"{low}-{high}"
        title = bounds if name[0].isdigit() else f"{name} ({bounds})"
        yield title, scores[f"AP_{name}"], scores[f"AR_{name}"]


def _class_rows(scores: Mapping[str, float], analysis: Analysis) -> Iterable[Sequence[Cell]]:
    for c, name in enumerate(analysis.class_names):
        threshold, f1, precision, recall = analysis.curves[c].best
        best = (threshold, f1, precision, recall) if f1 else (math.nan,) * 4
        ap, miou = (scores[f"AP/{name}"], scores[f"AP50/{name}"]), analysis.mean_iou[name]
        yield name, int(analysis.objects[c]), *ap, *best, miou


def _error_rows(analysis: Analysis) -> Iterable[Sequence[Cell]]:
    yield "number", *analysis.error_counts.values()
    for name, costs in analysis.error_costs.items():
        yield f"AP50 lost, {name.replace('_', '-')}", *(costs[error] for error in ERRORS)


def _table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return "-" if math.isnan(cell) else f"{cell:.3f}"
    return html.escape(str(cell))


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
