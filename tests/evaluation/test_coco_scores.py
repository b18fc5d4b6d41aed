import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from evaluation_cases import annotations, detections, random_image, square
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import distributed
from torchmetrics.detection import MeanAveragePrecision

from evaluation.coco import CocoScores, evaluate

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco_crosscheck"


def scores_of(*images, classes=("a", "b"), max_detections=500):
    metric = CocoScores(classes, max_detections)
    for image_id, (found, truth) in enumerate(images):
        metric.update(image_id, found, truth)
    return metric.compute()


# ---- hand-solved ------------------------------------------------------------------------------------------


def test_one_hit_one_miss():
    # Two objects of class a, one found exactly: precision 1 up to recall 0.5, that is at 51 of the 101
    # recall points 0, 0.01, ..., 0.50, at every IoU threshold.
    truth = annotations([square(0, 0, 10), square(50, 50, 10)], [0, 0])
    scores = scores_of((detections([square(0, 0, 10)], [0.9], [0]), truth))
    for name in ("AP", "AP/a", "AP50", "AP50/a"):
        assert scores[name] == pytest.approx(51 / 101)
    assert scores["AR"] == pytest.approx(0.5)


def test_each_iou_threshold_has_its_ap():
    # The detection covers 7 of 10 columns of its object: IoU 0.7, so it counts at 0.50 to 0.70 only.
    scores = scores_of((detections([[0, 0, 7, 10]], [0.9], [0]), annotations([[0, 0, 10, 10]], [0])))
    assert [scores[f"AP{t}"] for t in range(50, 100, 5)] == [1.0] * 5 + [0.0] * 5
    assert scores["AP"] == pytest.approx(0.5)


def test_undefined_scores_are_nan():
    # Class b, medium and large have no object; a detection of b does not change that.
    found = detections([square(0, 0, 10), square(0, 0, 10)], [0.9, 0.8], [0, 1])
    scores = scores_of((found, annotations([square(0, 0, 10)], [0])))
    undefined = {name for name, value in scores.items() if math.isnan(value)}
    assert undefined == {
        *("AP_medium", "AP_large", "AP_0_8", "AP_16_32", "AP/b", "AP50/b"),
        *("AR_medium", "AR_large", "AR_0_8", "AR_16_32"),
    }
    assert scores["AP"] == 1.0


def test_nothing_at_all_is_nan():
    assert all(math.isnan(value) for value in scores_of().values())
    assert all(math.isnan(value) for value in scores_of((detections(), annotations())).values())
    found = detections([square(0, 0, 10)], [0.5], [0])
    assert all(math.isnan(value) for value in scores_of((found, annotations())).values())


def test_objects_without_a_detection_score_zero():
    scores = scores_of((detections(), annotations([square(0, 0, 10)], [0])))
    assert scores["AP"] == scores["AR"] == scores["AP_8_16"] == 0.0


@pytest.mark.parametrize(
    ("side", "names"),
    [
        (6, {"small", "0_8"}),
        (8, {"small", "0_8", "8_16"}),
        (12, {"small", "8_16"}),
        (20, {"small", "16_32"}),
        (32, {"small", "medium", "16_32"}),
        (40, {"medium"}),
        (96, {"medium", "large"}),
        (200, {"large"}),
    ],
)
def test_size_ranges_include_both_bounds(side, names):
    scores = scores_of((detections([square(0, 0, side)], [0.9], [0]), annotations([square(0, 0, side)], [0])))
    ranges = ("small", "medium", "large", "0_8", "8_16", "16_32")
    assert {r for r in ranges if scores[f"AP_{r}"] == 1.0} == names
    assert {r for r in ranges if math.isnan(scores[f"AR_{r}"])} == set(ranges) - names


def test_size_is_the_annotations_area():
    # A 40 px box (medium) whose object covers 100 px (side 10: small). The miss at 300 is of 40 px.
    truth = annotations([square(0, 0, 40), square(300, 0, 40)], [0, 0], areas=[100, 1600])
    scores = scores_of((detections([square(0, 0, 40)], [0.9], [0]), truth))
    assert scores["AP_small"] == scores["AP_8_16"] == 1.0
    assert scores["AP_medium"] == 0.0


def test_detections_of_another_size_are_no_false_positives():
    # The unmatched 100 px detection scores higher, yet small AP ignores it; overall AP halves.
    found = detections([square(200, 0, 100), square(0, 0, 10)], [0.9, 0.8], [0, 0])
    scores = scores_of((found, annotations([square(0, 0, 10)], [0])))
    assert scores["AP_small"] == 1.0
    assert scores["AP"] == pytest.approx(0.5)


IN_REGION = square(110, 110, 10)
OUTSIDE = square(0, 0, 10)
REGION = square(100, 100, 50)


@pytest.mark.parametrize(
    ("region_label", "expected"),
    [
        # One object of each class, each found with score 0.8; a false box of each class with score 0.9 lies
        # wholly in the region. Counted, it makes precision 1/2 at every recall; ignored, 1.
        ([], {"a": 0.5, "b": 0.5}),
        ([0], {"a": 1.0, "b": 0.5}),
        ([1], {"a": 0.5, "b": 1.0}),
        ([-1], {"a": 1.0, "b": 1.0}),
    ],
)
def test_region_ignores_its_class(region_label, expected):
    found = detections([IN_REGION, OUTSIDE, IN_REGION, OUTSIDE], [0.9, 0.8, 0.9, 0.8], [0, 0, 1, 1])
    regions = {"ignore_boxes": [REGION] * len(region_label), "ignore_labels": region_label}
    scores = scores_of((found, annotations([OUTSIDE, OUTSIDE], [0, 1], **regions)))
    assert {name: scores[f"AP/{name}"] for name in "ab"} == expected


def test_without_ignore_regions_detections_inside_are_false():
    found = detections([IN_REGION, OUTSIDE], [0.9, 0.8], [0, 0])
    metric = CocoScores(["a", "b"])
    metric.update(7, found, annotations([OUTSIDE], [0], ignore_boxes=[REGION], ignore_labels=[-1]))
    assert metric.compute()["AP"] == 1.0
    assert evaluate(metric.gather(), ["a", "b"], ignore_regions=False)["AP"] == pytest.approx(0.5)


def test_region_takes_any_number_of_detections_and_is_no_object():
    found = detections([IN_REGION, IN_REGION, square(130, 130, 8)], [0.9, 0.8, 0.7], [0, 0, 0])
    scores = scores_of((found, annotations(ignore_boxes=[REGION], ignore_labels=[0])))
    assert math.isnan(scores["AP"])
    assert math.isnan(scores["AR"])


def test_every_limit_counts_its_own_number_of_detections():
    # 150 objects, all found, best first: n detections recall n / 150.
    boxes = [square(20 * (i % 15), 20 * (i // 15), 10) for i in range(150)]
    image = (detections(boxes, np.linspace(0.9, 0.1, 150), [0] * 150), annotations(boxes, [0] * 150))
    scores = scores_of(image)
    limits = {"AR1": 1 / 150, "AR10": 10 / 150, "AR100": 100 / 150, "AR500": 1, "AR": 1}
    assert {name: scores[name] for name in limits} == pytest.approx(limits)
    assert scores["AP"] == 1.0
    at_100 = scores_of(image, max_detections=100)
    assert "AR500" not in at_100
    assert at_100["AR"] == at_100["AR100"] == pytest.approx(100 / 150)
    # 100 of 150 found: precision 1 at recall 0, 0.01, ..., 0.66.
    assert at_100["AP"] == pytest.approx(67 / 101)


def test_an_image_is_scored_once():
    metric = CocoScores(["a"])
    for image_id in (3, 5, 3):
        metric.update(image_id, detections(), annotations())
    with pytest.raises(AssertionError, match=r"more than once: \[3\]"):
        metric.compute()


def test_results_are_in_the_order_of_ids():
    metric = CocoScores(["a", "b"])
    metric.update(9, detections([OUTSIDE], [0.5], [1]), annotations([REGION, REGION], [0, 1]))
    metric.update(4, detections(), annotations([OUTSIDE], [1], ignore_boxes=[REGION], ignore_labels=[-1]))
    results = metric.gather()
    assert results.image_ids.tolist() == [4, 9]
    assert results.image_index.tolist() == [1]
    assert results.labels.tolist() == [1]
    assert results.gt_image_index.tolist() == [0, 1, 1]
    assert results.gt_boxes.tolist() == [OUTSIDE, REGION, REGION]
    assert results.gt_areas.tolist() == [100, 2500, 2500]
    assert results.ignore_image_index.tolist() == [0]
    assert results.ignore_labels.tolist() == [-1]


def test_reset_and_recompute():
    image = (detections([OUTSIDE], [0.9], [0]), annotations([OUTSIDE], [0]))
    metric = CocoScores(["a"])
    metric.update(1, *image)
    assert metric.compute()["AP"] == 1.0
    metric.update(2, detections(), annotations([OUTSIDE], [0]))
    assert metric.compute()["AR"] == 0.5  # not the cached value
    metric.reset()
    metric.update(2, *image)
    assert metric.compute()["AR"] == 1.0


# ---- against pycocotools ----------------------------------------------------------------------------------


def pycocotools_scores(images, class_names, max_detections):
    """The scores by pycocotools; `images` maps ids to (detections, annotations)."""
    objects, found = [], []
    for image_id, (d, t) in images.items():
        rows = [*zip(t.boxes, t.labels, t.areas, [0] * len(t.boxes), strict=True)]
        ignored = ((b, label, 1.0, 1) for b, label in zip(t.ignore_boxes, t.ignore_labels, strict=True))
        for box, label, area, crowd in [*rows, *ignored]:
            every = range(len(class_names)) if label == -1 else [label]
            x1, y1, x2, y2 = box.astype(float)
            for c in every:
                row = {"id": len(objects) + 1, "image_id": image_id, "category_id": int(c), "iscrowd": crowd}
                objects.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(area)})
        for box, score, label in zip(d.boxes.double(), d.scores, d.labels, strict=True):
            x1, y1, x2, y2 = box.tolist()
            row = {"image_id": image_id, "category_id": int(label), "score": float(score)}
            found.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": i} for i in images],
            "categories": [{"id": c, "name": n} for c, n in enumerate(class_names)],
            "annotations": objects,
        }
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(found), "bbox")
        limits = [n for n in (1, 10, 100) if n < max_detections] + [max_detections]
        sides = {"small": (0, 32), "medium": (32, 96), "large": (96, 1e5)}
        sides |= {"0_8": (0, 8), "8_16": (8, 16), "16_32": (16, 32)}
        run.params.maxDets = limits
        run.params.areaRng = [[0, 1e10], *([low**2, high**2] for low, high in sides.values())]
        run.params.areaRngLbl = ["all", *sides]
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]

    def mean(values):
        return values[values > -1].mean() if (values > -1).any() else math.nan

    scores = {"AP": mean(precision[..., 0, -1]), "AR": mean(recall[..., 0, -1])}
    for t, threshold in enumerate(range(50, 100, 5)):
        scores[f"AP{threshold}"] = mean(precision[t, ..., 0, -1])
    for a, name in enumerate(sides, 1):
        scores[f"AP_{name}"] = mean(precision[..., a, -1])
        scores[f"AR_{name}"] = mean(recall[..., a, -1])
    for m, limit in enumerate(limits):
        scores[f"AR{limit}"] = mean(recall[..., 0, m])
    for c, name in enumerate(class_names):
        scores[f"AP/{name}"] = mean(precision[:, :, c, 0, -1])
        scores[f"AP50/{name}"] = mean(precision[0, :, c, 0, -1])
    return scores


@pytest.mark.parametrize("max_detections", [1, 10, 100, 500])
@pytest.mark.parametrize("every_class", [False, True])
def test_equals_pycocotools(max_detections, every_class):
    rng = np.random.default_rng(max_detections + every_class)
    names = ["a", "b", "c", "absent"]
    # Ids neither sorted nor contiguous, as a sampler gives them; the last class never occurs.
    images = {int(i): random_image(rng, 3) for i in rng.permutation(1000)[:8]}
    # One class with more than 500 detections, in a fixed image.
    crowded = random_image(rng, 1)[1]
    some = np.concatenate([crowded.boxes, np.array([square(5, 5, 40)], np.float32)])
    found = np.tile(some, (700 // len(some) + 1, 1))[:700] + rng.normal(0, 2, (700, 4))
    images[1000] = (detections(found, rng.integers(1, 11, 700) / 10, [0] * 700), crowded)
    if every_class:
        for _, truth in images.values():
            truth.ignore_labels[::2] = -1

    metric = CocoScores(names, max_detections)
    for image_id, image in images.items():
        metric.update(image_id, *image)
    scores = metric.compute()
    assert 0 < scores["AP"] < 1
    assert math.isnan(scores["AP/absent"])
    expected = pycocotools_scores(images, names, max_detections)
    assert scores == pytest.approx(expected, abs=1e-6, nan_ok=True)
    # The regions matter here, except for the single best detections.
    without = evaluate(metric.gather(), names, max_detections, ignore_regions=False)
    assert max_detections == 1 or without["AP"] < scores["AP"]


@pytest.mark.parametrize("limits", [[1, 10, 100], [1, 100, 500]])
def test_equals_torchmetrics(limits):
    # Its defaults are float32, which moves a recall or an IoU on the grid to the other side of it.
    ious, recalls = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
    theirs = MeanAveragePrecision("xyxy", "bbox", ious, recalls, limits, True, backend="faster_coco_eval")
    theirs.warn_on_many_detections = False
    names, rng = ["a", "b", "c"], np.random.default_rng(limits[-1])
    ours = CocoScores(names, limits[-1])
    for image_id in range(12):
        found, truth = random_image(rng, 3)
        ours.update(image_id, found, truth)
        boxes = np.concatenate((truth.boxes, truth.ignore_boxes))
        rows = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(np.concatenate((truth.labels, truth.ignore_labels))),
            "area": torch.from_numpy(np.concatenate((truth.areas, np.ones(len(truth.ignore_boxes))))),
            "iscrowd": (torch.arange(len(boxes)) >= len(truth.boxes)).long(),
        }
        theirs.update([{"boxes": found.boxes, "scores": found.scores, "labels": found.labels}], [rows])
    scores, expected = ours.compute(), theirs.compute()
    pairs = {"AP": "map", "AP50": "map_50", "AP75": "map_75"}
    pairs |= {f"A{x}_{size}": f"ma{x.lower()}_{size}" for x in "PR" for size in ("small", "medium", "large")}
    pairs |= {f"AR{limit}": f"mar_{limit}" for limit in limits}
    assert scores["AP"] > 0.01
    for name, other in pairs.items():
        value = float(expected[other])
        value = math.nan if value == -1 else value  # its way to say that there is no such object
        assert scores[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    assert [scores[f"AP/{n}"] for n in names] == pytest.approx(expected["map_per_class"].tolist(), abs=1e-6)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_cocoapi_published_numbers():
    truth = json.loads((SHARED / "instances_val2014_100.json").read_text())
    found = json.loads((SHARED / "instances_val2014_fakebbox100_results.json").read_text())
    expected = json.loads((SHARED / "expected.json").read_text())["bbox"]
    index = {category["id"]: i for i, category in enumerate(truth["categories"])}

    def xyxy(rows):
        boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes.astype(np.float32)

    metric = CocoScores([category["name"] for category in truth["categories"]], max_detections=100)
    for image in truth["images"]:
        rows = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        objects, crowds = ([r for r in rows if r["iscrowd"] == crowd] for crowd in (0, 1))
        mine = [row for row in found if row["image_id"] == image["id"]]
        metric.update(
            image["id"],
            detections(xyxy(mine), [r["score"] for r in mine], [index[r["category_id"]] for r in mine]),
            annotations(
                xyxy(objects),
                [index[r["category_id"]] for r in objects],
                [r["area"] for r in objects],
                xyxy(crowds),
                [index[r["category_id"]] for r in crowds],
            ),
        )
    scores = metric.compute()
    keys = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    keys += ["AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"]
    assert [round(scores[key], 6) for key in keys] == list(expected.values())


# ---- several ranks ----------------------------------------------------------------------------------------

SHARDINGS = {
    "seven on two": [[6, 0, 2, 4], [5, 1, 3]],
    "one on two": [[], [0]],
    "none": [[], []],
}


def _images():
    rng = np.random.default_rng(5)
    return {i: random_image(rng, 3) for i in range(7)}


def _rank(rank, ranks, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
    images, metric, scores = _images(), CocoScores(["a", "b", "c"]), {}
    for name, shards in SHARDINGS.items():
        for i in shards[rank]:
            metric.update(i, *images[i])
        scores[name] = metric.compute()
        metric.reset()
    # Computing again after one rank alone saw more must not hang.
    metric.update(rank, *images[rank])
    metric.compute()
    if rank == 0:
        metric.update(2, *images[2])
    scores["three on two, in two steps"] = metric.compute()
    # An image on both ranks stops both.
    metric.reset()
    metric.update(0, *images[0])
    with pytest.raises(AssertionError, match="more than once"):
        metric.compute()
    Path(folder, f"{rank}.json").write_text(json.dumps(scores))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path):
    mp.spawn(_rank, args=(2, str(tmp_path)), nprocs=2)
    gathered = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    images = _images()
    for name, shards in (SHARDINGS | {"three on two, in two steps": [[0, 1, 2]]}).items():
        metric = CocoScores(["a", "b", "c"])
        for i in sorted(i for shard in shards for i in shard):
            metric.update(i, *images[i])
        alone = metric.compute()
        for rank in range(2):
            # repr tells every bit of a float and lets NaN equal NaN
            assert repr(gathered[rank][name]) == repr(alone), (name, rank)
