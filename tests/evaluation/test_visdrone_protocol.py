import json
import math

import numpy as np
import pytest
from visdrone_cases import CAR, OTHERS, REGION, SHARED, VAN, one, row, score

from datamodules.formats.visdrone import CLASS_NAMES
from evaluation.visdrone import SCORES, evaluate

# ---- (1) ignored regions drop annotations and detections ---------------------------------------------------


@pytest.mark.parametrize(
    ("x", "dropped"),
    [
        # The region x 100, w 20 covers columns 100..120. A box of w 10 at x covers columns x+1..x+10: half of
        # it, 5 columns, are inside when its first column is 116 (x = 115), 4 when x = 116. On the left, the
        # last column x+10 reaches 104 when x = 94 (5 inside), 103 when x = 93.
        (115, True),
        (116, False),
        (94, True),
        (93, False),
        # Detections are rounded half away from zero: 115.5 counts as 116, 115.49 as 115.
        (115.5, False),
        (115.49, True),
    ],
)
def test_half_of_the_own_area_inside_is_dropped(tmp_path, x, dropped):
    # One car far away, found with score 0.5. The detection at x has score 0.9: if it stays it is a false
    # positive before the hit, so AP is 1/2 instead of 1.
    truth = [row(100, 100, 20, 20, REGION, 0), row(500, 500, 10, 10)]
    found = [row(x, 105, 10, 10, score=0.9), row(500, 500, 10, 10, score=0.5)]
    assert one(tmp_path, truth, found)["AP"] == pytest.approx(100 if dropped else 50)


def test_halves_are_not_rounded_to_even(tmp_path):
    # With the region at 101, a box at 116 is dropped and at 117 kept; 116.5 counts as 117.
    truth = [row(101, 100, 20, 20, REGION, 0), row(500, 500, 10, 10)]
    found = [row(116.5, 105, 10, 10, score=0.9), row(500, 500, 10, 10, score=0.5)]
    assert one(tmp_path, truth, found)["AP"] == pytest.approx(50)


def test_annotations_in_regions_are_dropped(tmp_path):
    # The car inside would be a miss (recall 1/2).
    truth = [row(100, 100, 50, 50, REGION, 0), row(110, 110, 10, 10), row(500, 500, 10, 10)]
    scores = one(tmp_path, truth, [row(500, 500, 10, 10, score=0.5)])
    assert scores["AR500"] == scores["AP"] == 100


def test_overlapping_regions_are_one_union(tmp_path):
    # Both regions cover columns 100..103 of a box with columns 101..110: 3 of 10 columns. Added twice, 6.
    regions = [row(100, 100, 3, 50, REGION, 0), row(100, 100, 3, 60, REGION, 0)]
    found = [row(100, 110, 10, 10, score=0.9), row(500, 500, 10, 10, score=0.5)]
    assert one(tmp_path, [*regions, row(500, 500, 10, 10)], found)["AP"] == pytest.approx(50)


def test_two_regions_add_up(tmp_path):
    # Columns 101..110 of the box: regions cover 100..103 and 108..120, so 3 + 3 = 6 of 10.
    regions = [row(100, 100, 3, 50, REGION, 0), row(108, 100, 12, 60, REGION, 0)]
    found = [row(100, 110, 10, 10, score=0.9), row(500, 500, 10, 10, score=0.5)]
    assert one(tmp_path, [*regions, row(500, 500, 10, 10)], found)["AP"] == pytest.approx(100)


def test_box_is_clipped_to_the_image_but_not_its_area(tmp_path):
    # Image of 200 columns, region 181..200 and more. A box of w 20 at x 190 has 10 columns inside: half of
    # 20, dropped; of w 21: 10 of 21, kept. Without the image's size the region 181..221 holds it all.
    truth = [row(181, 100, 40, 50, REGION, 0), row(50, 50, 10, 10)]
    for width, ap in ((20, 100), (21, 50)):
        found = [row(190, 110, width, 10, score=0.9), row(50, 50, 10, 10, score=0.5)]
        assert one(tmp_path, truth, found, sizes=(200, 200))["AP"] == pytest.approx(ap)
        assert one(tmp_path, truth, found, sizes=None)["AP"] == pytest.approx(100)


def test_sides_are_at_least_one_pixel(tmp_path):
    # x 0 counts as column 1, so a region x 0 w 10 covers columns 1..11; a box of w 0.4 counts as w 1 and
    # covers column x + 1 = 11: inside, dropped. At x 11 it is outside.
    truth = [row(0, 0, 10, 50, REGION, 0), row(500, 500, 10, 10)]
    for x, ap in ((10, 100), (11, 50)):
        found = [row(x, 10, 0.4, 10, score=0.9), row(500, 500, 10, 10, score=0.5)]
        assert one(tmp_path, truth, found)["AP"] == pytest.approx(ap)


@pytest.mark.parametrize("seed", range(3))
def test_drop_equals_counting_pixels(tmp_path, seed):
    # The rule as written, pixel by pixel.
    rng = np.random.default_rng(seed)
    width, height = 60, 40
    regions = [[*rng.integers(0, 55, 2), *rng.integers(1, 20, 2), 0, REGION] for _ in range(5)]
    boxes = np.column_stack((rng.uniform(-3, 62, (300, 2)), rng.uniform(0.2, 15, (300, 2))))
    mask = np.zeros((height + 1, width + 1))  # row and column 0 stay unused: the rule counts from 1
    for x, y, w, h, *_ in regions:
        x, y = max(x, 1), max(y, 1)
        mask[y : min(y + h, height) + 1, x : min(x + w, width) + 1] = 1
    # A car far outside the image keeps the class alive; each box is one image.
    far = row(3000, 3000, 10, 10)
    for i, box in enumerate(boxes):
        x, y, w, h = (max(1, math.floor(v + 0.5)) for v in box)
        x, y = min(x, width), min(y, height)
        inside = mask[y + 1 : min(y + h, height) + 1, x + 1 : min(x + w, width) + 1].sum()
        dropped = inside / (w * h) >= 0.5
        if i < 20 or abs(inside / (w * h) - 0.5) < 0.05:
            found = [[*box, 0.9, CAR], row(3000, 3000, 10, 10, score=0.5)]
            scores = one(tmp_path, [*regions, far], found, sizes=(width, height))
            assert scores["AP"] == pytest.approx(100 if dropped else 50), (box, inside)


# ---- (2) others --------------------------------------------------------------------------------------------


def test_others_ignore_nothing_and_are_not_scored(tmp_path):
    # The car detection on the "others" box is false; a detection of category 11 has no class.
    truth = [row(100, 100, 10, 10, OTHERS, 0), row(500, 500, 10, 10)]
    found = [
        row(100, 100, 10, 10, score=0.9),
        row(100, 100, 10, 10, OTHERS, 0.8),
        row(500, 500, 10, 10, score=0.5),
    ]
    scores = one(tmp_path, truth, found)
    assert scores["AP"] == pytest.approx(50)
    assert scores["plain/AP"] == pytest.approx(50)


# ---- (3) score 0 in the ground truth -----------------------------------------------------------------------


def test_score_zero_is_ignored_by_intersection_over_detection(tmp_path):
    # The ignored car is 100 px wide; detections inside it have an IoU of 0.01 and yet are no errors, however
    # many. The toolkit keeps the ignored car in the recall's denominator: recall 1/2, so AP is 50.
    truth = [row(100, 100, 100, 100, score=0), row(500, 500, 10, 10)]
    found = [
        row(110, 110, 10, 10, score=0.9),
        row(150, 110, 10, 10, score=0.8),
        row(500, 500, 10, 10, score=0.5),
    ]
    scores = one(tmp_path, truth, found)
    assert scores["AP"] == scores["AR500"] == pytest.approx(50)


def test_an_object_is_preferred_to_an_ignored_one(tmp_path):
    # The detection's overlap is 0.72 with the car and 1 with the ignored one: the car is found at 0.50 to
    # 0.70, half of the thresholds; with the ignored car in the denominator that is a quarter.
    truth = [row(110, 110, 10, 10), row(100, 100, 100, 100, score=0)]
    assert one(tmp_path, truth, [row(110, 110, 9, 8, score=0.9)])["AR500"] == pytest.approx(25)


# ---- (4) limits --------------------------------------------------------------------------------------------


def test_limits_count_all_classes_together_in_file_order(tmp_path):
    # The first row is a van, so at 1 detection no car is found; at 10, both.
    truth = [row(100, 100, 10, 10), row(500, 500, 10, 10, VAN)]
    found = [row(500, 500, 10, 10, VAN, 0.3), row(100, 100, 10, 10, CAR, 0.9)]
    scores = one(tmp_path, truth, found)
    assert (scores["AR1/car"], scores["AR1/van"]) == (0, 100)
    assert scores["AR1"] == pytest.approx(50)
    assert scores["AR10"] == pytest.approx(100)


def test_limits_count_after_the_drop(tmp_path):
    # The first row lies in the region and does not use up the one place.
    truth = [row(0, 0, 50, 50, REGION, 0), row(100, 100, 10, 10)]
    found = [row(10, 10, 10, 10, score=0.9), row(100, 100, 10, 10, score=0.5)]
    assert one(tmp_path, truth, found)["AR1"] == pytest.approx(100)


def test_ap_uses_500_detections(tmp_path):
    # The hit is row 501; 500 false boxes precede it.
    false = [row(300, 300, 10, 10, score=0.9)] * 500
    hit = row(100, 100, 10, 10, score=0.5)
    assert one(tmp_path, [row(100, 100, 10, 10)], [*false, hit])["AP"] == 0
    assert one(tmp_path, [row(100, 100, 10, 10)], [*false[1:], hit])["AP"] == pytest.approx(100 / 500)


def test_a_smaller_limit_matches_anew(tmp_path):
    # Two detections of one car, the worse one first in the file. At 1, it is matched itself.
    found = [row(100, 100, 10, 10, score=0.3), row(100, 100, 10, 10, score=0.9)]
    assert one(tmp_path, [row(100, 100, 10, 10)], found)["AR1"] == pytest.approx(100)


# ---- (5) matching ------------------------------------------------------------------------------------------


def test_iou_of_the_unrounded_boxes(tmp_path):
    # 9.4 of 10 columns: IoU 0.94, true at the nine thresholds 0.50 to 0.90. Rounded to 9: 0.9, also nine;
    # 9.6: IoU 0.96, all ten; rounded to 10: 1. So 9.52 (ten) against 9.49 (nine) shows the real width.
    for width, thresholds in ((9.52, 10), (9.49, 9)):
        scores = one(tmp_path, [row(100, 100, 10, 10)], [row(100, 100, width, 10, score=0.9)])
        assert scores["AP"] == pytest.approx(10 * thresholds)


def test_ties_in_iou_go_to_the_later_annotation(tmp_path):
    # The first detection overlaps both cars alike (8 of 12 columns, IoU 2/3: true up to 0.65) and takes the
    # later one; the second fits only the earlier: IoU 1. Were it the other way round, the second would find
    # its car taken: IoU with the later car is 6/14.
    truth = [row(100, 100, 10, 10), row(104, 100, 10, 10)]
    found = [row(102, 100, 10, 10, score=0.9), row(100, 100, 10, 10, score=0.8)]
    assert one(tmp_path, truth, found)["AR500"] == pytest.approx(100 * (4 * 1.0 + 6 * 0.5) / 10)


def test_best_free_object_by_descending_score(tmp_path):
    # The better detection takes the car, the duplicate is false though its IoU is higher.
    found = [row(100, 100, 10, 10, score=0.8), row(100, 100, 9.9, 10, score=0.9)]
    scores = one(tmp_path, [row(100, 100, 10, 10)], found)
    assert scores["AP"] == pytest.approx(100)


def test_ties_in_score_follow_file_names(tmp_path):
    # One hit and one false box with the same score in two images: the earlier name is ranked first.
    car, box = [row(100, 100, 10, 10)], [row(100, 100, 10, 10, score=0.5)]
    false = [row(300, 300, 10, 10, score=0.5)]
    first = score(tmp_path, {"b": [], "a": car}, {"b": false, "a": box})
    assert first["AP"] == pytest.approx(100)
    second = score(tmp_path, {"a": [], "b": car}, {"a": false, "b": box})
    assert second["AP"] == pytest.approx(50)


# ---- (6) the area under the envelope -----------------------------------------------------------------------


def test_ap_at_all_points(tmp_path):
    # True, false, true of 3 cars: precisions 1, 1/2, 2/3 at recalls 1/3, 1/3, 2/3: (1 + 2/3) / 3. With 101
    # points it would be (34 + 33 * 2/3) / 101.
    truth = [row(x, 100, 10, 10) for x in (100, 200, 300)]
    found = [
        row(100, 100, 10, 10, score=0.9),
        row(500, 100, 10, 10, score=0.8),
        row(200, 100, 10, 10, score=0.7),
    ]
    assert one(tmp_path, truth, found)["AP"] == pytest.approx(100 * (1 + 2 / 3) / 3)


def test_envelope(tmp_path):
    # False, true, true of 2 cars: precisions 0, 1/2, 2/3; the envelope lifts the first recall to 2/3 as well.
    truth = [row(x, 100, 10, 10) for x in (100, 200)]
    found = [row(500, 100, 10, 10, score=0.9), *(row(x, 100, 10, 10, score=0.5) for x in (100, 200))]
    assert one(tmp_path, truth, found)["AP"] == pytest.approx(100 * 2 / 3)


# ---- (7) the class average ---------------------------------------------------------------------------------


def test_classes_are_weighted_by_images(tmp_path):
    # Cars are in two images and found, the van is in one and not: (2 * 100 + 0) / 3; plain: 50. A third image
    # has a van inside a region: after the drop it does not count.
    car, van = row(100, 100, 10, 10), row(500, 500, 10, 10, VAN)
    truth = {"a": [car, car, van], "b": [car], "c": [row(490, 490, 40, 40, REGION, 0), van]}
    found = {"a": [car, car], "b": [car], "c": []}
    scores = score(tmp_path, truth, found)
    assert scores["AP"] == pytest.approx(200 / 3)
    assert scores["plain/AP"] == pytest.approx(50)
    assert (scores["AP/car"], scores["AP/van"]) == (100, 0)
    assert math.isnan(scores["AP/bus"])


# ---- against a plain loop ----------------------------------------------------------------------------------


def plain_loop(truth, found):
    """The protocol without ignored regions, one detection after another."""

    def overlap(d, g):
        w = min(d[0] + d[2], g[0] + g[2]) - max(d[0], g[0])
        h = min(d[1] + d[3], g[1] + g[3]) - max(d[1], g[1])
        if w <= 0 or h <= 0:
            return 0.0
        own = d[2] * d[3]
        return w * h / (own if g[4] == 0 else own + g[2] * g[3] - w * h)

    def hits(c, threshold, limit):
        ranked = []
        for name in sorted(truth):
            mine = sorted((d for d in found[name][:limit] if d[5] == c), key=lambda d: -d[4])
            objects = sorted((g for g in truth[name] if g[5] == c), key=lambda g: -g[4])
            taken = [False] * len(objects)
            for d in mine:
                best, at = threshold, None
                for i, g in enumerate(objects):
                    if g[4] == 0 and at is not None:
                        break
                    if not taken[i] and overlap(d, g) >= best:
                        best, at = overlap(d, g), i
                ignored = at is not None and objects[at][4] == 0
                if at is not None and not ignored:
                    taken[at] = True
                ranked.append((d[4], -1 if ignored else int(at is not None)))
        return [hit for _, hit in sorted(ranked, key=lambda pair: -pair[0])]

    rows, weights = {}, {}
    for c, class_name in enumerate(CLASS_NAMES, 1):
        number = sum(g[5] == c for rows_ in truth.values() for g in rows_)
        weights[class_name] = sum(any(g[5] == c for g in rows_) for rows_ in truth.values())
        if not number:
            continue
        ap = []
        for t in range(10):
            curve, true, false = [], 0, 0
            for hit in hits(c, 0.5 + 0.05 * t, 500):
                true, false = true + (hit == 1), false + (hit == 0)
                curve.append((true / number, true / max(1, true + false)))
            area, last = 0.0, 0.0
            for i, (recall, _) in enumerate(curve):
                area += (recall - last) * max(p for _, p in curve[i:])
                last = recall
            ap.append(area)
        recalls = [
            np.mean([hits(c, 0.5 + 0.05 * t, n).count(1) / number for t in range(10)])
            for n in (1, 10, 100, 500)
        ]
        rows[class_name] = 100 * np.array([np.mean(ap), ap[0], ap[5], *recalls])
    whole = sum(weights.values())
    return sum(rows[name] * weights[name] for name in rows) / whole, rows


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_plain_loop(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth, found = {}, {}
    for name in "dacb":
        boxes = np.column_stack((rng.integers(0, 80, (15, 2)), rng.integers(5, 25, (15, 2))))
        labels = rng.integers(1, 5, 15)
        truth[name] = [[*b, float(rng.random() < 0.9), c] for b, c in zip(boxes, labels, strict=True)]
        # More than 100 detections, scores in twentieths (ties), not in the order of scores.
        k = rng.integers(0, 15, 130)
        near = boxes[k] + rng.integers(-3, 4, (130, 4))
        near[:, 2:] = near[:, 2:].clip(1)
        labels = np.where(rng.random(130) < 0.8, labels[k], 3)
        found[name] = np.column_stack((near, rng.integers(1, 20, 130) / 20, labels)).tolist()
    found["c"] = []
    scores = score(tmp_path, truth, found)
    weighted, rows = plain_loop(truth, found)
    assert [scores[name] for name in SCORES] == pytest.approx(weighted.tolist())
    assert 1 < scores["AP"] < 99
    for class_name, values in rows.items():
        assert [scores[f"{name}/{class_name}"] for name in SCORES] == pytest.approx(values.tolist())


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")
def test_the_official_toolkits_numbers():
    expected = json.loads((SHARED / "expected.json").read_text())
    sizes = {name: tuple(size) for name, size in expected["image_sizes_wh"].items()}
    scores = evaluate(SHARED / "gt", SHARED / "detections", CLASS_NAMES, sizes)
    assert {name: scores[name] for name in SCORES} == pytest.approx(expected["results"], abs=1e-6)
