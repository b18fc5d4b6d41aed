"""The scripts of examples/, run as their first lines say."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from coco_folder import CocoFolder
from tiny import TINY_MODEL
from tiny_data import write_yolo

from examples.custom_loss import CornerLoss
from examples.picture_of_tiles import main as draw_tiles
from examples.score_predictions import score
from examples.train_on_a_folder import train
from losses.detection import DetectionLoss

ROOT = Path(__file__).parents[1]


def test_they_can_be_read_at_a_glance():
    scripts = list((ROOT / "examples").glob("*.py"))
    assert len(scripts) == 4
    for path in scripts:
        assert len(path.read_text().splitlines()) < 40, path


def test_train_on_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    options = [*TINY_MODEL, "--data.image_size=[96,96]", "--data.batch_size=2", "--data.num_workers=0"]
    options += ["--trainer.max_epochs=1", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    loss = ["--model.loss.box=examples.custom_loss.CornerLoss", "--model.loss.box.power=1.5"]
    scores = train(str(write_yolo(tmp_path)), *options, *loss)
    assert 0 <= scores["AP"] <= 1
    assert "{'car': 2, 'unclear': 2}" in capsys.readouterr().out
    config = next(tmp_path.rglob("config.yaml")).read_text()
    assert "CornerLoss" in config
    assert "power: 1.5" in config


def test_custom_loss():
    # Both boxes are 4 px to the right of their targets, whose sides are 8 and 16 px; two of the four
    # coordinates differ, by 4: (4 + 4) / 4 = 2, over the side 1/4 and 1/8.
    target = torch.tensor([[0.0, 0, 8, 8], [0, 0, 16, 16]])
    pred = target + torch.tensor([4.0, 0, 4, 0])
    loss, factors = CornerLoss()(pred, target, torch.ones(2), torch.tensor(2.0))
    assert loss == pytest.approx((1 / 4 + 1 / 8) / 2)
    assert factors.tolist() == [1, 1]
    assert DetectionLoss(box=CornerLoss(power=2)).box.power == 2


def test_score_predictions(tmp_path, capsys):
    data = CocoFolder(tmp_path)  # six images, each with one car (category 3) at x 10, y 10, 20 x 10 px
    found = [
        {"image_id": i, "category_id": 3, "bbox": [10, 10, 20, 10], "score": 0.5 + i / 10} for i in (1, 2, 3)
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(found))
    scores = score(str(data.images), str(data.json), str(tmp_path / "predictions.json"))
    # Three of six, all exact: precision 1 up to a recall of 0.5, which 51 of 101 recalls reach.
    assert scores["AP/car"] == pytest.approx(51 / 101)
    assert scores["AR"] == pytest.approx(0.5)
    assert "car" in capsys.readouterr().out


def test_picture_of_tiles(tmp_path):
    draw_tiles(str(ROOT / "detector" / "pretrained" / "scenes"), str(tmp_path / "tiles.jpg"))
    drawn = cv2.imread(str(tmp_path / "tiles.jpg")).astype(int)
    assert drawn.shape == (832, 1280, 3)
    green = (drawn[:512, :, 1] > 180) & (drawn[:512, :, [0, 2]] < 110).all(axis=2)  # boxes of persons
    assert green[:, 640:].sum() > green[:, :640].sum() > 0
