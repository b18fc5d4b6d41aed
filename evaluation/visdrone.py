"""VisDrone's official detection protocol, number for number.

It differs from COCO's in what is dropped, in which detections count, in the precision curve and in how
classes are averaged, so that the two scores of one detector may be points apart. The numbers equal those
of VisDrone's MATLAB toolkit, its peculiarities included.

n rows of one image, I images, D detections, G annotations, C classes, T thresholds.
Source: Zhu et al. 2021, "Detection and tracking meet drones challenge"; VisDrone2018-DET-toolkit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.files import write_whole
from evaluation.matching import Boxes, Ints, Reals, find_pairs, match, rank_in_class
from evaluation.results import Results

Rows = NDArray[np.float64]
"""(n, 6) x, y, width, height (pixels), score, category; in a ground truth, score 0 means ignored."""

CATEGORIES = range(1, 11)
"""Scored ones; 0 is an ignored region, 11 an object of another kind."""

LIMITS = (1, 10, 100, 500)
SCORES = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AR500")
_REGION = 0
# Summed as the toolkit's loop does in Octave, where 0.85 comes out one bit larger than the decimal.
_THRESHOLDS = 0.5 + 0.05 * np.arange(10)


def evaluate(
    ground_truth: Path,
    detections: Path | Mapping[str, Rows],
    class_names: Sequence[str],
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, float]:
    """Score detections by the official protocol.

    Args:
        ground_truth: folder of VisDrone annotation files, one an image.
        detections: folder of result files of the same names, or rows by image name (without ending).
        class_names: names of `CATEGORIES`.
        image_sizes: (width, height) by image name. Without it, nothing is clipped to the image, which can
            only matter to a box that leaves its image beside an ignored region.

    Returns:
        Percentages: `AP`, `AP50`, `AP75`, `AR1`, `AR10`, `AR100` and `AR500`, averaged over classes as the
        toolkit does, weighted by the number of images that contain the class; `plain/AP` and so on, the
        plain mean over the classes that occur; `AP/car` and so on. NaN where a class, or every class, is
        absent.

    Raises:
        ValueError: if a file or an image size is missing or a row cannot be read.
    """
    images = [_without_ignored(*image) for image in _read_images(ground_truth, detections, image_sizes)]
    values = _score_classes([truth for truth, _ in images], [found for _, found in images])
    weights = np.array([sum((truth[:, 5] == c).any() for truth, _ in images) for c in CATEGORIES])
    present = weights > 0
    scores = {}
    for prefix, weight in (("", weights), ("plain/", present)):
        for name, value in zip(SCORES, values.T, strict=True):
            total = np.sum(np.where(present, value, 0) * weight)
            scores[prefix + name] = float(total / weight.sum()) if present.any() else float("nan")
    for c, class_name in enumerate(class_names):
        for name, value in zip(SCORES, values[c], strict=True):
            scores[f"{name}/{class_name}"] = float(value)
    return scores


def detection_rows(
    results: Results, image_names: Mapping[int, str], categories: Sequence[int] = CATEGORIES
) -> dict[str, Rows]:
    """Rows of the official result files, best detection first, rounded to what the files hold.

    Args:
        results: detections.
        image_names: name (without ending) of each image id.
        categories: VisDrone category of each class index.

    Returns:
        Rows of every image by its name, see `Rows`; none for an image without a detection.
    """
    corners = results.boxes.astype(np.float64)
    boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1).round(3)
    category = np.asarray(categories)[results.labels]
    rows = np.column_stack((boxes, results.scores.astype(np.float64).round(6), category))
    order = np.lexsort((-rows[:, 4], results.image_index))
    cuts = np.searchsorted(results.image_index[order], np.arange(1, len(results.image_ids)))
    parts = np.split(rows[order], cuts) if len(results.image_ids) else []
    return {image_names[i]: part for i, part in zip(results.image_ids.tolist(), parts, strict=True)}


def result_names(file_names: Mapping[int, str]) -> dict[int, str]:
    """Name of the result file of each image, without its ending.

    Args:
        file_names: file name of each image id.

    Raises:
        ValueError: if two images would have the same.
    """
    names = {image_id: Path(file_name).stem for image_id, file_name in file_names.items()}
    first: dict[str, str] = {}
    for image_id, name in names.items():
        if name in first:
            raise ValueError(
                f"{file_names[image_id]} and {first[name]} would have the same result file, {name}.txt: "
                "VisDrone's format needs file names that differ; use predictions.json"
            )
        first[name] = file_names[image_id]
    return names


def write_submission(folder: Path, detections: Mapping[str, Rows]) -> None:
    """Write the official result files, `<image name>.txt`, one row a detection.

    Args:
        folder: created if missing.
        detections: rows by image name, see `detection_rows`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in detections.items():
        lines = (f"{x:.3f},{y:.3f},{w:.3f},{h:.3f},{s:.6f},{c:.0f},-1,-1\n" for x, y, w, h, s, c in rows)
        write_whole(folder / f"{name}.txt", lines)


def annotation_files(folder: Path) -> list[Path]:
    """Annotation files of a folder, one an image, by name; hidden ones (macOS's `._a.txt`) are none."""
    return sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))


def _read_images(
    ground_truth: Path, detections: Path | Mapping[str, Rows], sizes: Mapping[str, tuple[int, int]] | None
) -> Iterator[tuple[Rows, Rows, tuple[float, float]]]:
    """Annotations, detections and size of each image, in the order of file names."""
    files = annotation_files(ground_truth)
    if not files:
        raise ValueError(f"{ground_truth}: no annotation files (*.txt); give VisDrone's `annotations` folder")
    for file in files:
        if isinstance(detections, Path):
            found = _read_rows(detections / file.name)
        elif file.stem in detections:
            found = detections[file.stem]
        else:
            raise ValueError(f"{file}: no detections for this image; give an empty array if there are none")
        if sizes is not None and file.stem not in sizes:
            raise ValueError(f"{file}: image size unknown; add {file.stem!r} to `image_sizes`")
        yield _read_rows(file), found, sizes[file.stem] if sizes is not None else (np.inf, np.inf)


def _read_rows(path: Path) -> Rows:
    """Read a VisDrone text file: commas or blanks between columns, rows may end with a comma."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; write an empty one if the image has no detection")
    lines = path.read_text(encoding="utf-8-sig").replace(",", " ").splitlines()
    if not any(line.strip() for line in lines):
        return np.empty((0, 6))
    try:
        return np.loadtxt(lines, usecols=range(6), ndmin=2)
    except ValueError as error:
        message = f"{path}: {error}; a row is x,y,width,height,score,category,truncation,occlusion"
        raise ValueError(message) from error


def _without_ignored(truth: Rows, found: Rows, size: tuple[float, float]) -> tuple[Rows, Rows]:
    """Drop annotations and detections with half of their area or more in the ignored regions."""
    is_region = truth[:, 5] == _REGION
    regions, truth = truth[is_region], truth[~is_region]
    if not len(regions):
        return truth, found
    kept_truth, kept_found = (_ignored_share(rows, regions, size) < 0.5 for rows in (truth, found))
    return truth[kept_truth], found[kept_found]


def _ignored_share(rows: Rows, regions: Rows, size: tuple[float, float]) -> Reals:
    """Share of each box's own area that the union of the regions covers: (n,), as the toolkit counts pixels.

    A region covers columns x to x + w, a box columns x + 1 to x + w (likewise rows), counted from 1 and
    clipped to the image; the area is w * h, not clipped. Instead of the toolkit's integral image, the
    edges of the regions cut the plane into cells, each wholly inside or outside the union.
    """
    low = np.maximum(regions[:, :4], 1)
    region = np.concatenate((low[:, :2] - 1, low[:, :2] + low[:, 2:]), axis=1)
    region = np.minimum(region, size * 2)  # which clips the boxes too, as only the common part counts
    box = np.maximum(_round(rows[:, :4]), 1)
    sides = box[:, 2:]
    box = np.concatenate((box[:, :2], box[:, :2] + sides), axis=1)

    edges = [np.unique(region[:, axis::2]) for axis in (0, 1)]
    inside = [
        (region[:, None, axis] <= cut[:-1]) & (cut[1:] <= region[:, None, axis + 2])
        for axis, cut in enumerate(edges)
    ]
    union = np.einsum("rx,ry->xy", *inside) > 0
    across, down = (
        (np.minimum(box[:, None, axis + 2], cut[1:]) - np.maximum(box[:, None, axis], cut[:-1])).clip(min=0)
        for axis, cut in enumerate(edges)
    )
    share: Reals = ((across @ union) * down).sum(axis=1) / sides.prod(axis=1)
    return share


def _round(values: Reals) -> Reals:
    """Round half away from zero, as MATLAB does."""
    return np.sign(values) * np.floor(np.abs(values) + 0.5)


def _score_classes(truths: list[Rows], founds: list[Rows]) -> Reals:
    """The scores of each category in percent: (C, 7), in the order of `SCORES`; NaN for an absent one."""
    truth, objects, _ = _flatten(truths)
    found, detections, place = _flatten(founds)
    ignored = truth[:, 4] == 0
    pairs = find_pairs(detections, objects, ignored, least=_THRESHOLDS[0])
    rank = rank_in_class(detections, found[:, 4])
    # The limit counts detections in file order but matching goes by score: a smaller limit may match anew.
    hits = []
    for limit in LIMITS:
        matched = match(pairs[place[pairs.detection] < limit], rank, ignored, _THRESHOLDS)
        hits.append(np.append(np.where(ignored, -1, 1), 0)[matched])  # the last is that of -1, nothing found

    # Ties in score: earlier image first, then file order.
    by_score = np.argsort(-found[:, 4], kind="stable")
    values = np.full((len(CATEGORIES), len(SCORES)), np.nan)
    for row, category in zip(values, CATEGORIES, strict=True):
        # The toolkit keeps ignored objects in the denominator of the recall.
        number = (objects.labels == category).sum()
        if number:
            mine = by_score[detections.labels[by_score] == category]
            counted = mine[place[mine] < LIMITS[-1]]
            precision = _average_precision(hits[-1][counted], number)
            row[:3] = precision.mean(), precision[0], precision[5]
            row[3:] = [(hit[mine] == 1).sum(axis=0).mean() / number for hit in hits]
    return values * 100


def _average_precision(hits: NDArray[np.int64], number: int) -> Reals:
    """Area under the envelope of the precision over all recalls: (T,).

    Args:
        hits: (n, T) 1 for a true, 0 for a false and -1 for an ignored detection, best score first.
        number: number of objects.
    """
    true = np.cumsum(hits == 1, axis=0)
    precision = true / np.maximum(np.cumsum(hits >= 0, axis=0), 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    area: Reals = np.sum(envelope * (hits == 1), axis=0) / number
    return area


def _flatten(parts: list[Rows]) -> tuple[Rows, Boxes, Ints]:
    """All rows, their boxes, and the place of each in its image."""
    lengths = [len(part) for part in parts]
    rows = np.concatenate(parts)
    boxes = Boxes(
        image_index=np.repeat(np.arange(len(parts)), lengths),
        corners=np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:4]), axis=1),
        areas=rows[:, 2] * rows[:, 3],
        labels=rows[:, 5].astype(np.int64),
    )
    return rows, boxes, np.concatenate([np.arange(n) for n in lengths])
