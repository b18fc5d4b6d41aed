"""The Python face: kinds of images, thresholds, coordinates, threads."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import Run
from torch import Tensor

from datamodules.images.decoding import read_image_file
from datamodules.images.windows import Decoded
from detector import load
from detector.checkpoint import load_checkpoint
from detector.inference import FALLBACK, Model, ModelFacts, to_pixels
from detector.postprocess import Postprocess
from detector.tiling.views import Tiling
from evaluate import main as evaluate
from evaluation.analysis import LEAST_SHOWN

FACTS = ModelFacts(
    class_names=("red", "blue"),
    image_size=(64, 96),
    thresholds=(0.5, 0.2),
    postprocess=Postprocess().arguments(),
)


def see_colours(images: Tensor) -> tuple[Tensor, Tensor]:
    """A detector of plain rectangles: their bounds in the first channel (score 0.9) and third (score 0.3)."""
    logits, boxes = torch.full((len(images), 2, 2), -20.0), torch.zeros(len(images), 2, 4)
    for b, image in enumerate(images):
        for label, (channel, score) in enumerate(((0, 0.9), (2, 0.3))):
            other = image[2 - channel].int()
            ys, xs = torch.nonzero(image[channel].int() - other > 50, as_tuple=True)
            if len(xs):
                logits[b, label, label] = torch.logit(torch.tensor(score))
                boxes[b, label] = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    return logits, boxes


MODEL = Model(see_colours, FACTS)


def picture() -> np.ndarray:
    """128x96: a red rectangle at (40, 20)-(80, 60), a blue one at (96, 64)-(120, 88); RGB."""
    image = np.full((96, 128, 3), 100, np.uint8)
    image[20:60, 40:80], image[64:88, 96:120] = (250, 0, 0), (0, 0, 250)
    return image


EXPECTED = torch.tensor([[40.0, 20, 80, 60], [96, 64, 120, 88]])
"""At scale 2/3 both rectangles have edges within 2/3 of a pixel of whole ones, 1 pixel of the original."""


def write(folder: Path) -> Path:
    Image.fromarray(picture()).save(folder / "image.png")
    return folder / "image.png"


KINDS: dict[str, Callable[[Path], object]] = {
    "path": write,
    "name": lambda folder: str(write(folder)),
    "array": lambda _: picture(),
    "pil": lambda _: Image.fromarray(picture()),
    "rgba": lambda _: np.dstack([picture(), np.zeros((96, 128), np.uint8)]),
    "tensor": lambda _: torch.from_numpy(picture()).permute(2, 0, 1),
    "float": lambda _: torch.from_numpy(picture()).permute(2, 0, 1) / 255,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_gives_boxes_in_its_own_pixels(kind: str, tmp_path: Path) -> None:
    found = MODEL.predict(KINDS[kind](tmp_path))
    assert found.names == ["red", "blue"]
    assert found.labels.tolist() == [0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.3]))
    assert (found.boxes - EXPECTED).abs().max() <= 1


def test_blue_green_red_is_said_explicitly() -> None:
    swapped = cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR)
    assert MODEL.predict(swapped, bgr=True).boxes.equal(MODEL.predict(picture()).boxes)
    first = MODEL.predict(swapped).boxes[0]  # unsaid, red is blue
    assert (first - EXPECTED[1]).abs().max() <= 1


def test_a_list_gives_a_list_whatever_the_batch() -> None:
    images = [picture(), picture()[:, ::-1], np.zeros((7, 300), np.uint8), picture()[:50]]
    together = MODEL.predict(images, batch_size=3)
    for image, found in zip(images, together, strict=True):
        assert found.boxes.equal(MODEL.predict(image).boxes)
    assert [len(found) for found in together] == [2, 2, 0, 1]
    assert MODEL.predict([]) == []


def large() -> np.ndarray:
    """400x300: red (70, 60)-(110, 100), over the border of tiles of 96x64, and blue (200, 20)-(390, 50)."""
    image = np.full((300, 400, 3), 100, np.uint8)
    image[60:100, 70:110], image[20:50, 200:390] = (250, 0, 0), (0, 0, 250)
    return image


LARGE = torch.tensor([[70.0, 60, 110, 100], [200, 20, 390, 50]])


@pytest.mark.parametrize(
    "options", [{}, {"whole": True}, {"flip": True}, {"merge": "wbf"}, {"tile": (96, 192)}]
)
def test_tiles_find_objects_at_their_borders_and_larger_than_themselves(options: dict) -> None:
    found = MODEL.predict(large(), **{"tile": 96, "overlap": 0.3, "thresholds": 0.01} | options)
    assert found.names == ["red", "blue"]
    # The coarsest view of these two shows the image at a fifth of its size.
    assert (found.boxes - LARGE).abs().max() <= (5 if "tile" in options or "whole" in options else 1)


def test_tiles_batched_are_tiles_one_by_one(tmp_path: Path) -> None:
    Image.fromarray(large()).save(tmp_path / "large.png")
    images = [large(), picture(), str(tmp_path / "large.png")]
    for tiling in (
        {"tile": 96},
        {"tile": 96, "flip": True, "scales": (1, 2)},
        {"scales": (1, 1.5), "whole": True},
    ):
        together = MODEL.predict(images, batch_size=7, **tiling)
        for image, found in zip(images, together, strict=True):
            alone = MODEL.predict(image, batch_size=1, **tiling)
            assert found.boxes.equal(alone.boxes)
            assert found.scores.equal(alone.scores)
        assert together[0].boxes.equal(together[2].boxes)
        assert together[2].image == images[2]


def test_a_tile_larger_than_the_image_is_the_whole_image() -> None:
    assert MODEL.predict(large(), tile=1000).boxes.equal(MODEL.predict(large()).boxes)


def test_steps_make_what_predict_makes() -> None:
    tiling, source = Tiling(tile=96, whole=True), Decoded(large())
    views = MODEL.views(source.size, tiling)
    kept = list(MODEL.look(((source, view) for view in views[:5]), batch_size=2))  # and interrupted
    kept += MODEL.look((source, view) for view in views[5:])
    merged = MODEL.merge(views, kept, source.size, tiling)
    shown = MODEL.shown(merged, MODEL.thresholds(None), "large.png")
    expected = MODEL.predict(large(), tile=96, whole=True)
    assert shown.boxes.equal(expected.boxes)
    assert shown.names == expected.names == ["red", "blue"]


def test_suppression_can_be_changed_for_one_call() -> None:
    model = MODEL.suppressing("soft", True)
    assert (model.postprocess.suppression, model.postprocess.class_agnostic) == ("soft", True)
    assert MODEL.suppressing(None, None).postprocess.arguments() == MODEL.postprocess.arguments()

    def see_twice(images: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes = see_colours(images)
        return torch.cat((logits, logits - 1), 1), torch.cat((boxes, boxes + 2), 1)

    model = Model(see_twice, FACTS)
    assert len(model.predict(picture(), thresholds=0.01)) == 2
    softened = model.predict(picture(), thresholds=0.01, suppression="soft")
    assert len(softened) == 4
    assert softened.scores.min() < 0.2


@pytest.mark.parametrize("thresholds", [30.0, -1, float("nan"), {"red": 30}, {"red": "high"}, {"green": 0.5}])
@pytest.mark.parametrize("options", [{}, {"tile": 64}])
def test_thresholds_that_are_none(thresholds: object, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"a threshold (must be a score in \[0, 1\], not|for 'green', but)"):
        MODEL.predict(picture(), thresholds=thresholds, **options)


@pytest.mark.parametrize("device", ["gpu", "0", "xpu:7"])
def test_a_device_that_is_not_here(run: Run, device: str) -> None:
    with pytest.raises(ValueError, match=rf"^no device {device} here \(.*give auto, cpu, cuda"):
        load(run.last, device)


def test_thresholds_by_class() -> None:
    assert MODEL.predict(picture(), thresholds=0.5).names == ["red"]
    assert MODEL.predict(picture(), thresholds={"red": 0.95}).names == ["blue"]  # of blue: the model's own
    assert MODEL.predict(picture(), thresholds={"blue": 0.31}).names == ["red"]
    with pytest.raises(ValueError, match="'green', but the model's classes are red, blue"):
        MODEL.predict(picture(), thresholds={"green": 0.5})


def test_a_prediction_draws_itself(tmp_path: Path) -> None:
    image = picture()
    for seen in (image, write(tmp_path)):
        found = MODEL.predict(seen)
        drawn = found.draw()
        changed = (drawn != image).any(axis=2)
        left, top, right, bottom = found.boxes[0].floor().int().tolist()
        assert changed[top, left : right - 1].all()
        assert not changed[top + 4 : bottom - 4, left + 4 : right - 4].any()
        assert np.array_equal(image, picture())  # what was given stays as it is


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((9, 9, 3), np.float32), "array of uint8, not float32"),
        (np.zeros((9, 9, 2), np.uint8), "3 or 4 channels"),
        (np.zeros((0, 9, 3), np.uint8), "3 or 4 channels"),
        (None, "not NoneType"),
        (Image.new("RGB", (9, 9)), "4 channels"),
        (torch.full((3, 9, 9), 255.0), r"must lie in \[0, 1\]"),
        (torch.full((3, 9, 9), float("nan")), r"must lie in \[0, 1\]"),
    ],
)
def test_what_is_no_image(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_pixels(image, bands=4 if isinstance(image, Image.Image) else 3)


def test_a_pil_image_is_seen_as_its_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8))
    turned.save(tmp_path / "turned.png", exif=exif)
    deep = np.linspace(0, 65535, 60 * 100).astype(np.uint16).reshape(60, 100)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for name in ("turned.png", "deep.png"):
        with Image.open(tmp_path / name) as image:
            assert (to_pixels(image, bgr=True) == read_image_file(str(tmp_path / name))).all()


def test_images_of_four_channels(tmp_path: Path) -> None:
    seen = []

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(images[0, :, 32, 48].tolist())
        return torch.full((len(images), 1, 2), -9.0), torch.zeros(len(images), 1, 4)

    pixels = np.empty((64, 96, 4), np.uint8)
    pixels[:] = 10, 20, 30, 40
    Image.fromarray(pixels).save(tmp_path / "four.tif")
    np.save(tmp_path / "four.npy", pixels)
    model = Model(forward, replace(FACTS, in_channels=4))
    every = [tmp_path / "four.tif", tmp_path / "four.npy", pixels, torch.from_numpy(pixels).permute(2, 0, 1)]
    for found in model.predict(every, batch_size=1):
        assert found.draw().shape == (64, 96, 3)
    model.predict(pixels, bgr=True)
    assert seen == [[10, 20, 30, 40]] * 4 + [[30, 20, 10, 40]]
    Image.fromarray(pixels[..., :3]).save(tmp_path / "three.png")
    with pytest.raises(ValueError, match=r"three\.png has 3 channels, and 4 are wanted"):
        model.predict(tmp_path / "three.png")
    # A model of three takes the colours of the same file.
    Model(forward, FACTS).predict(tmp_path / "four.tif")
    assert seen[-1] == [10, 20, 30]


def test_thresholds_of_any_number() -> None:
    model = Model(lambda images: (torch.zeros(1, 1, 2), torch.zeros(1, 1, 4)), FACTS)
    assert model.thresholds(np.float32(0.25)).tolist() == [0.25, 0.25]
    with pytest.raises(ValueError, match=r"a score, or scores by class name, not '0\.3'"):
        model.thresholds("0.3")
    sure = replace(FACTS, thresholds=(0.9999, 1.0))
    assert len(Model(model.forward, sure).predict(np.zeros((64, 96, 3), np.uint8))) == 0


def test_facts_survive_json() -> None:
    facts = replace(FACTS, fill=114)
    assert ModelFacts.from_json(facts.to_json()) == facts
    with pytest.raises(ValueError, match="not the facts"):
        ModelFacts.from_json('{"class_names": []}')
    with pytest.raises(ValueError, match="not the facts"):
        ModelFacts.from_json("[")
    for tampered in ({"thresholds": (0.5,)}, {"image_size": (0, 0)}, {"fill": 999}, {"postprocess": None}):
        with pytest.raises(ValueError, match="not the facts"):
            ModelFacts.from_json(replace(FACTS, **tampered).to_json())


def test_nothing_is_found_in_the_grey_around_an_image() -> None:
    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        boxes = torch.tensor([[0.0, 0, 96, 9], [10, 30, 40, 40]])  # the first lies above a wide image
        return torch.full((1, 2, 2), 3.0), boxes[None]

    found = Model(forward, FACTS).predict(np.zeros((20, 96, 3), np.uint8), thresholds=0.0)
    assert found.boxes.unique(dim=0).tolist() == [[10, 8, 40, 18]]


def test_sixteen_bits_are_said(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((64, 96), 4000, np.uint16))
    model = Model(lambda images: (torch.zeros(1, 1, 2), torch.zeros(1, 1, 4)), FACTS)
    for image in (tmp_path / "deep.png", Image.open(tmp_path / "deep.png")):
        with pytest.warns(UserWarning, match="of 16 bits a pixel is read as value / 256"):
            model.predict(image)


def test_a_checkpoint_finds_what_evaluate_finds(run: Run, tmp_path: Path) -> None:
    """Each box of predictions.json, in the same order, to float32's last digits."""
    evaluate([f"--ckpt_path={run.best}", f"--output={tmp_path}", "--no-report", "--data.num_workers=0"])
    written = json.loads((tmp_path / "predictions.json").read_text())
    file = max((run.folder.parents[1] / "scenes").rglob("*-val3/annotations.json"))
    truth = json.loads(file.read_text())
    grad, threads, state = torch.is_grad_enabled(), torch.get_num_threads(), torch.get_rng_state()
    model = load(run.best, device="cpu")
    assert model.facts.class_names == tuple(load_checkpoint(str(run.best))["class_names"])
    assert len(written) > 10
    for image in truth["images"]:
        mine = [row for row in written if row["image_id"] == image["id"]]
        found = model.predict(file.parent / "images" / image["file_name"], thresholds=0.0)
        x, y, w, h = torch.tensor([row["bbox"] for row in mine]).unbind(1)
        torch.testing.assert_close(found.boxes, torch.stack((x, y, x + w, y + h), 1), atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(found.scores, torch.tensor([row["score"] for row in mine]))
    assert (torch.is_grad_enabled(), torch.get_num_threads()) == (grad, threads)
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_share_a_model(run: Run) -> None:
    model = load(run.best, device="cpu")
    images = [np.random.default_rng(i).integers(0, 255, (96, 96, 3), np.uint8) for i in range(8)]
    alone = [model.predict(image, thresholds=0.0) for image in images]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: model.predict(image, thresholds=0.0), images))
    for one, other in zip(alone, together, strict=True):
        assert one.boxes.equal(other.boxes)
        assert one.scores.equal(other.scores)


def test_training_keeps_the_scores_of_best_f1(run: Run, tmp_path: Path) -> None:
    evaluate([f"--ckpt_path={run.last}", f"--output={tmp_path}", "--no-report", "--data.num_workers=0"])
    curves = json.loads((tmp_path / "metrics.json").read_text())["analysis"]["best_f1"]
    best = [curve["threshold"] for curve in curves.values()]
    expected = [FALLBACK if score is None else max(score, LEAST_SHOWN) for score in best]
    assert set(expected) != {FALLBACK}
    assert load(run.last, device="cpu").facts.thresholds == pytest.approx(expected, abs=1e-5)


def test_thresholds_of_a_checkpoint_that_has_none(run: Run, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(run.best))
    checkpoint.pop("thresholds", None)
    torch.save(checkpoint, tmp_path / "old.ckpt")
    assert set(load(tmp_path / "old.ckpt").facts.thresholds) == {FALLBACK}


def test_weights_that_do_not_fit(run: Run, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(run.best))
    del checkpoint["state_dict"]["network.mean"]
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="does not fit the networks of this version"):
        load(tmp_path / "other.ckpt")


def test_a_network_of_ones_own_is_named(run: Run, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(run.best))
    config = yaml.safe_load(checkpoint["config"])
    config["model"]["network"]["class_path"] = "mine.MyNet"
    torch.save(checkpoint | {"config": yaml.safe_dump(config)}, tmp_path / "own.ckpt")
    with pytest.raises(
        ValueError, match=r"^the checkpoint is of mine\.MyNet, no network of Pinpoint's: import"
    ):
        load(tmp_path / "own.ckpt")
