"""evaluate.py in tiles: all the usual scores of what is merged, beside those of whole images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_evaluate import score
from test_scripts import fails
from tiny import Run

import evaluate
from detector import load
from evaluation.coco import evaluate as coco_scores
from evaluation.report.text import format_trade
from evaluation.results import Results


@pytest.fixture(scope="module")
def tiled(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiled")
    score(run.best, folder, "--no-report", "--tile", "64", "--overlap", "0.3")
    return folder


def test_the_merged_boxes_are_those_of_predict(run: Run, tiled: Path) -> None:
    file = max((run.folder.parents[1] / "scenes").rglob("*-val3/annotations.json"))
    written = json.loads((tiled / "predictions.json").read_text())
    model = load(run.best, device="cpu")
    assert len(written) > 10
    for image in json.loads(file.read_text())["images"]:
        path = file.parent / "images" / image["file_name"]
        found = model.predict(path, tile=64, overlap=0.3, thresholds=0.0)
        mine = [row for row in written if row["image_id"] == image["id"]]
        x, y, w, h = torch.tensor([row["bbox"] for row in mine]).unbind(1)
        boxes = torch.stack((x, y, x + w, y + h), 1)
        # Equal scores may come in another order, so each is looked for.
        nearest = (found.boxes[None] - boxes[:, None]).abs().amax(2).amin(1)
        assert nearest.max() <= 1e-3
        torch.testing.assert_close(found.scores[: len(mine)], torch.tensor([row["score"] for row in mine]))


def test_metrics_hold_both_scores_and_how_the_images_were_looked_at(
    run: Run, tiled: Path, tmp_path: Path
) -> None:
    metrics, whole = (
        json.loads((tiled / "metrics.json").read_text()),
        score(run.best, tmp_path, "--no-report"),
    )
    assert metrics["views"]["tile"] == [64]
    assert metrics["views"]["overlap"] == 0.3
    assert metrics["whole_images"]["AR"] == pytest.approx(whole["AR"], abs=1e-9)
    assert metrics["AR"] != whole["AR"]
    assert metrics["images"] == 3


def test_one_tile_scores_as_the_whole_does(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = score(run.best, tmp_path, "--no-report", "--tile", "1000")
    assert metrics["AR"] == pytest.approx(metrics["whole_images"]["AR"], abs=1e-9)
    assert metrics["AP50"] == pytest.approx(metrics["whole_images"]["AP50"], abs=1e-9)
    assert "whole images beside tiles 1000" in capsys.readouterr().out


def test_flips_scales_and_suppression_are_switches(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moved = tmp_path / "best.ckpt"
    moved.write_bytes(run.best.read_bytes())
    soft = "--model.postprocess.suppression=soft"
    evaluate.main(["--ckpt_path", str(moved), "--no-report", "--flip", "--scales", "1", "1.5", soft])
    (folder,) = tmp_path.glob("evaluation_*")
    assert folder.name == "evaluation_val_scales-1-1.5-flip_suppression-soft"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["views"] | {"tile": None, "flip": True, "scales": [1, 1.5]} == metrics["views"]
    assert 0 < metrics["AR"] != metrics["whole_images"]["AR"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tile", "0"], "at least one pixel, got [0]"),
        (["--tile", "640", "--trainer.limit_val_batches", "1"], "limit_val_batches does not go with tiles"),
        (["--tile", "640", "--overlap", "1"], "must lie in [0, 1), got 1"),
        (["--scales", "500"], "does not fit in memory"),
    ],
)
def test_views_that_cannot_be_had(options, message, run: Run, capsys, monkeypatch, tmp_path: Path) -> None:
    args = ["--ckpt_path", str(run.best), "--output", str(tmp_path), *options]
    assert message in fails(capsys, monkeypatch, evaluate.main, args)


def test_the_trade_by_size_side_by_side() -> None:
    empty, nobody = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    objects = np.array([[0, 0, 6, 6], [50, 50, 150, 150]], np.float32)
    two = np.array([0, 0])

    def scores(found: np.ndarray) -> dict[str, float]:
        one, areas = np.ones(len(found), np.float32), np.array([36, 10_000], np.float32)
        label = np.zeros(len(found), np.int64)
        results = Results(
            np.array([1]), found, one, label, label, objects, areas, two, two, empty, nobody, nobody
        )
        return coco_scores(results, ["car"])

    text = format_trade(scores(objects[1:]), scores(objects[:1]))
    table = {line[:15].strip(): line[15:].split() for line in text.splitlines()}
    assert table["< 8"] == ["0.000", "1.000", "0.000", "1.000"]
    assert table["large (96+)"] == ["1.000", "0.000", "1.000", "0.000"]
    assert table["16-32"] == ["-", "-", "-", "-"]
