"""What evaluate.py leaves behind: data and scores brought together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.base import DetectionDataModule
from datamodules.images.decoding import read_image
from datamodules.records import Records
from detector.module import Detector
from evaluation import coco, visdrone
from evaluation.analysis import analyse
from evaluation.difference import differences, read_predictions
from evaluation.report.figures import LoadImage
from evaluation.report.page import write_report
from evaluation.report.text import (
    format_differences,
    format_table,
    format_visdrone,
    write_metrics,
    write_predictions,
)
from evaluation.results import Results


@dataclass(frozen=True, slots=True)
class Outputs:
    """What to write, and where.

    Attributes:
        folder: existing folder of metrics.json, predictions.json, report.html and figures.
        report: whether to write the last two.
        submission: folder of VisDrone's result files; None for none.
        against: predictions.json of another run to compare with; None for none.
    """

    folder: Path
    report: bool = True
    submission: Path | None = None
    against: Path | None = None


def write_evaluation(
    model: Detector, data: DetectionDataModule, results: Results, facts: Mapping[str, str], outputs: Outputs
) -> str:
    """Write everything about a finished evaluation.

    Args:
        model: the detector, which has just been scored.
        data: what it was scored on.
        results: everything it found.
        facts: what else metrics.json says, such as the checkpoint, by name.
        outputs: what to write, and where.

    Returns:
        The scores as text.

    Raises:
        ValueError: if the other run has other images, or result files would have the same name.
    """
    names, limit, scores = model.class_names, model.postprocess.max_detections, model.last_scores
    metrics: dict[str, object] = {**facts, **scores}
    texts = [format_table(scores, names)]
    if len(results.ignore_boxes):
        bare = coco.evaluate(results, names, limit, ignore_regions=False)["AP"]
        metrics["AP_without_ignored_regions"] = bare
        texts.append(f"AP with detections in ignored regions counted as false: {bare:.3f}")
    if data.visdrone_annotations is not None:
        images = len(list(data.visdrone_annotations.glob("*.txt")))
        if len(results.image_ids) < images:
            texts.append(
                f"no scores by VisDrone's protocol: it needs all images, only {len(results.image_ids)} of "
                f"{images} were scored"
            )
        else:
            official = visdrone_scores(data.visdrone_annotations, data.evaluated, results)
            metrics["visdrone"] = official
            texts.append(format_visdrone(official))
    if outputs.against is not None:
        other = read_predictions(outputs.against, results, data.category_ids)
        found = differences(results, other, len(names), limit)
        metrics["against"] = {
            "predictions": str(outputs.against),
            **{name: asdict(d) | {"difference": d.mean} for name, d in found.items()},
        }
        texts.append(f"against {outputs.against}\n{format_differences(found)}")
    if outputs.submission is not None:
        rows = visdrone.detection_rows(results, image_names(data.evaluated), data.category_ids)
        visdrone.write_submission(outputs.submission, rows)

    analysis = analyse(results, names, limit)
    write_metrics(outputs.folder / "metrics.json", metrics | {"analysis": analysis.metrics()})
    write_predictions(outputs.folder / "predictions.json", results, data.category_ids)
    if outputs.report:
        title = ", ".join(facts.values())
        write_report(outputs.folder, title, results, scores, analysis, image_loader(data.evaluated))
    return "\n\n".join(texts)


def visdrone_scores(folder: Path, records: Records, results: Results) -> dict[str, float]:
    """Scores of VisDrone's official protocol in percent, see `evaluation.visdrone.evaluate`.

    Args:
        folder: annotation files of the split, read as they are, for the protocol drops other rows than
            COCO's.
        records: the images of the split.
        results: the detections.
    """
    names = image_names(records)
    sizes = {names[r.info.image_id]: (r.info.size[1], r.info.size[0]) for r in records.images}
    rows = visdrone.detection_rows(results, names, records.category_ids)
    return visdrone.evaluate(folder, rows, sizes)


def image_names(records: Records) -> dict[int, str]:
    """File name of each image id, without folder and ending.

    Raises:
        ValueError: if two images have the same.
    """
    names: dict[int, str] = {}
    by_name: dict[str, str] = {}
    for record in records.images:
        name = Path(record.info.file_name).stem
        if name in by_name:
            raise ValueError(
                f"{record.path} and {by_name[name]} would have the same result file, {name}.txt: VisDrone's "
                "format needs file names that differ; use predictions.json"
            )
        names[record.info.image_id], by_name[name] = name, record.path
    return names


def image_loader(records: Records) -> LoadImage:
    """Function that reads the original image of an id."""
    by_id = {record.info.image_id: record for record in records.images}
    return lambda image_id: read_image(by_id[image_id])
