"""Everything that evaluate.py writes about a finished evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation import coco, visdrone
from evaluation.analysis import Analysis, analyse
from evaluation.difference import differences, read_predictions, require_same_images
from evaluation.report.pictures import LoadImage
from evaluation.report.text import (
    format_differences,
    format_table,
    format_visdrone,
    write_metrics,
    write_predictions,
)
from evaluation.results import Results


@dataclass(frozen=True, slots=True)
class ScoredData:
    """What was scored, as far as the outputs need to know it.

    Attributes:
        class_names: name of each class index.
        category_ids: id that the data set gives each class index.
        file_names: file name of each image id, as the annotations name it.
        sizes: (height, width) of each image id, pixels.
        load_image: reads the original image of an id.
        visdrone_annotations: folder of the split's files for VisDrone's official protocol; None for data
            without them.
        visdrone_names: class names in that protocol's order.
    """

    class_names: Sequence[str]
    category_ids: Sequence[int]
    file_names: Mapping[int, str]
    sizes: Mapping[int, tuple[int, int]]
    load_image: LoadImage
    visdrone_annotations: Path | None = None
    visdrone_names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Outputs:
    """What to write, and where.

    Attributes:
        folder: existing folder of metrics.json, predictions.json and images.json.
        submission: folder of VisDrone's result files; None for none.
        against: predictions.json of another run to compare with; None for none.
    """

    folder: Path
    submission: Path | None = None
    against: Path | None = None


def write_evaluation(
    data: ScoredData,
    results: Results,
    scores: Mapping[str, float],
    max_detections: int,
    facts: Mapping[str, object],
    outputs: Outputs,
) -> tuple[str, Analysis]:
    """Write everything about a finished evaluation but the report.

    Args:
        data: what was scored.
        results: everything that was found in it.
        scores: COCO's scores of the results, see `evaluation.coco.evaluate`.
        max_detections: number of detections an image that they count.
        facts: what else metrics.json says, such as the checkpoint, by name.
        outputs: what to write, and where.

    Returns:
        The scores as text, and what the report shows.

    Raises:
        ValueError: if the other run has other images, or result files would have the same name; all else is
            written by then.
    """
    names, limit = data.class_names, max_detections
    counts = {"images": len(results.image_ids), "objects": len(results.gt_labels)}
    metrics: dict[str, object] = {**facts, **counts, **scores}
    texts = [format_table(scores, names)]
    if len(results.ignore_boxes):
        bare = coco.evaluate(results, names, limit, ignore_regions=False)["AP"]
        metrics["AP_without_ignored_regions"] = bare
        texts.append(f"AP with detections in ignored regions counted as false: {bare:.3f}")
    if data.visdrone_annotations is not None:
        images = len(visdrone.annotation_files(data.visdrone_annotations))
        if len(results.image_ids) < images:
            texts.append(
                f"no scores by VisDrone's protocol: it needs all images, only {len(results.image_ids)} of "
                f"{images} were scored"
            )
        else:
            official = visdrone_scores(data.visdrone_annotations, data, results)
            metrics["visdrone"] = official
            texts.append(format_visdrone(official))
    complaint: ValueError | None = None
    if outputs.against is not None:  # read first: it may be the very file that is written below
        try:
            require_same_images(outputs.against, _images(results, data))
            other = read_predictions(outputs.against, results, data.category_ids)
            found = differences(results, other, len(names), limit)
            metrics["against"] = {
                "predictions": str(outputs.against),
                **{name: asdict(d) | {"difference": d.mean} for name, d in found.items()},
            }
            texts.append(f"against {outputs.against}\n{format_differences(found)}")
        except ValueError as error:
            complaint = error

    analysis = analyse(results, names, limit)
    write_metrics(outputs.folder / "metrics.json", metrics | {"analysis": analysis.metrics()})
    write_predictions(outputs.folder / "predictions.json", results, data.category_ids)
    write_images(outputs.folder / "images.json", results, data)
    if complaint is not None:
        raise complaint
    if outputs.submission is not None:
        rows = visdrone.detection_rows(results, visdrone.result_names(data.file_names), data.category_ids)
        visdrone.write_submission(outputs.submission, rows)
    return "\n\n".join(texts), analysis


def write_images(path: Path, results: Results, data: ScoredData) -> None:
    """Write what the ids of predictions.json stand for, as COCO's `images` and `categories`.

    Args:
        path: file to write.
        results: names the images that were scored.
        data: what was scored.
    """
    categories = [
        {"id": category, "name": name}
        for category, name in zip(data.category_ids, data.class_names, strict=True)
    ]
    write_metrics(path, {"images": _images(results, data), "categories": categories})


def _images(results: Results, data: ScoredData) -> list[dict[str, object]]:
    """The images that were scored, as COCO lists them."""
    return [
        {
            "id": image_id,
            "file_name": data.file_names[image_id],
            "width": data.sizes[image_id][1],
            "height": data.sizes[image_id][0],
        }
        for image_id in results.image_ids.tolist()
    ]


def visdrone_scores(folder: Path, data: ScoredData, results: Results) -> dict[str, float]:
    """Scores of VisDrone's official protocol in percent, see `evaluation.visdrone.evaluate`.

    Args:
        folder: annotation files of the split, read as they are, for the protocol drops other rows than
            COCO's.
        data: what was scored.
        results: the detections.
    """
    names = visdrone.result_names(data.file_names)
    sizes = {names[image_id]: (width, height) for image_id, (height, width) in data.sizes.items()}
    rows = visdrone.detection_rows(results, names, data.category_ids)
    return visdrone.evaluate(folder, rows, data.visdrone_names, sizes)
