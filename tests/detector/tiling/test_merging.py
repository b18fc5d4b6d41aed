"""Merging of views: nothing lost, nothing twice, halves made whole; the same as plain loops."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from detector.postprocess import Detections
from detector.tiling.merging import JOINED, LIKENESS, NEAR_PIXELS, NEAR_SHARE, OVERLAP, TRUSTED, merge_views
from detector.tiling.views import Tiling, View

TILE = (64, 64)


def detections(*rows: tuple[float, ...], labels: list[int] | None = None) -> Detections:
    """From rows of x1, y1, x2, y2, score."""
    table = torch.tensor(rows).reshape(-1, 5)
    classes = torch.tensor(labels or [0] * len(rows), dtype=torch.int64)
    return Detections(table[:, :4], table[:, 4], classes)


def rows(found: Detections) -> list[list[float]]:
    return [
        [*map(float, box), round(float(score), 4)]
        for box, score in zip(found.boxes, found.scores, strict=True)
    ]


LEFT, RIGHT = View((0, 0, 64, 64), TILE), View((48, 0, 112, 64), TILE)
SIZE = (64, 112)


def test_an_object_that_both_tiles_see_whole_is_one():
    found = [detections((50, 10, 60, 20, 0.6), (5, 5, 15, 15, 0.3)), detections((51, 10, 61, 20, 0.8))]
    merged = merge_views([LEFT, RIGHT], found, SIZE)
    assert rows(merged) == [[51, 10, 61, 20, 0.8], [5, 5, 15, 15, 0.3]]


@pytest.mark.parametrize(
    ("merge", "score"),
    [("nmm", 0.9), ("nms", 0.6), ("wbf", (0.9 + 0.6) / 2)],
)
def test_the_half_of_an_object_goes_to_the_whole_one_though_its_score_is_better(merge: str, score: float):
    # The right tile sees (40, 10)-(70, 30) whole from x = 48 on alone; a third view shows all of it.
    middle = View((24, 0, 88, 64), TILE)
    found = [detections(), detections((48, 10, 70, 30, 0.9)), detections((40, 10, 70, 30, 0.6))]
    merged = merge_views([LEFT, RIGHT, middle], found, SIZE, merge)
    assert rows(merged) == [[40, 10, 70, 30, pytest.approx(score)]]


@pytest.mark.parametrize(("merge", "x1"), [("nmm", 20), ("nms", 48), ("wbf", 20)])
def test_pieces_that_no_view_sees_whole_are_united(merge: str, x1: float):
    found = [detections((20, 10, 64, 30, 0.7)), detections((48, 10, 90, 31, 0.8))]
    merged = merge_views([LEFT, RIGHT], found, SIZE, merge)
    assert merged.boxes.tolist() == [[x1, 10, 90, 31]]


def test_a_chain_of_pieces_is_united():
    views = [View((x, 0, x + 64, 64), TILE) for x in (0, 48, 96)]
    pieces = [(10, 8, 64, 40, 0.5), (48, 8, 112, 40, 0.2), (96, 8, 150, 40, 0.7)]
    found = [detections(piece) for piece in pieces]
    assert rows(merge_views(views, found, (64, 160))) == [[10, 8, 150, 40, 0.7]]


def test_what_one_view_tells_apart_stays_apart():
    pair = [(50.0, 10.0, 58.0, 30.0, 0.9), (53.0, 10.0, 61.0, 30.0, 0.5)]  # IoU 0.45, both in both tiles
    merged = merge_views([LEFT, RIGHT], [detections(*pair), detections(*pair)], SIZE)
    assert [row[:4] for row in rows(merged)] == [list(pair[0][:4]), list(pair[1][:4])]


def test_a_boat_before_a_ship_is_not_its_piece():
    # The ship is cut by the right tile, which sees the boat whole; the left tile missed the boat.
    found = [detections((30, 10, 62, 50, 0.9)), detections((48, 10, 62, 50, 0.8), (50, 30, 55, 35, 0.4))]
    merged = merge_views([View((0, 0, 66, 64), TILE), RIGHT], found, SIZE)
    assert rows(merged) == [[30, 10, 62, 50, 0.9], [50, 30, 55, 35, 0.4]]


def test_each_is_paired_with_its_likeliest_alone() -> None:
    # Two that overlap, of which the right tile missed the first: what it found is the second, in both tiles.
    left = detections((52, 10, 60, 30, 0.9), (55, 10, 63, 30, 0.5))
    right = detections((55, 10, 63, 30, 0.7))
    views = [View((0, 0, 66, 64), TILE), View((46, 0, 112, 64), TILE)]
    merged = merge_views(views, [left, right], SIZE, "wbf")
    assert rows(merged) == [[55, 10, 63, 30, 0.6], [52, 10, 60, 30, 0.45]]


def test_a_stray_box_that_lies_closer_does_not_part_two_of_one_object() -> None:
    found = [detections((52, 10, 60, 30, 0.9)), detections((53, 10, 61, 30, 0.8), (52, 11, 60, 30, 0.02))]
    merged = merge_views([View((0, 0, 66, 64), TILE), View((46, 0, 112, 64), TILE)], found, SIZE)
    assert rows(merged) == [[52, 10, 60, 30, 0.9], [52, 11, 60, 30, 0.02]]


def test_a_tile_gives_an_object_one_piece() -> None:
    # Of the two pieces in the right tile the likelier goes to the whole one; the other is something else.
    whole = detections((40, 10, 60, 30, 0.9))
    pieces = detections((48, 10, 60, 30, 0.8), (48, 12, 58, 31, 0.7))
    merged = merge_views([LEFT, RIGHT], [whole, pieces], SIZE)
    assert rows(merged) == [[40, 10, 60, 30, 0.9], [48, 12, 58, 31, 0.7]]


def test_a_whole_one_that_nobody_believes_does_not_explain_a_piece():
    found = [detections((30, 10, 60, 30, 0.01)), detections((48, 10, 60, 30, 0.9))]
    merged = merge_views([LEFT, RIGHT], found, SIZE)
    assert len(merged) == 2
    assert merged.boxes[0].tolist() == [48, 10, 60, 30]


def test_classes_stay_apart_unless_told_otherwise():
    one = (52.0, 10.0, 60.0, 20.0)
    found = [detections((*one, 0.6), labels=[1]), detections((*one, 0.8), labels=[0])]
    assert merge_views([LEFT, RIGHT], found, SIZE).labels.tolist() == [0, 1]
    assert merge_views([LEFT, RIGHT], found, SIZE, class_agnostic=True).labels.tolist() == [0]


def test_weighted_boxes_by_hand():
    # Both see the first; the second lies where both look, and only one found it.
    found = [detections((50, 10, 58, 18, 0.9), (50, 40, 58, 48, 0.8)), detections((52, 10, 60, 18, 0.3))]
    merged = merge_views([LEFT, RIGHT], found, SIZE, "wbf")
    assert rows(merged) == [[50.5, 10, 58.5, 18, 0.6], [50, 40, 58, 48, 0.4]]


@pytest.mark.parametrize("merge", ["nmm", "nms", "wbf"])
def test_the_empties(merge: str):
    nothing = merge_views([LEFT, RIGHT], [detections(), detections()], SIZE, merge)
    assert nothing.boxes.shape == (0, 4)
    assert nothing.labels.dtype == torch.int64
    one = detections((1, 2, 30, 40, 0.5))
    for found in ([one, detections()], [detections(), one]):
        assert rows(merge_views([LEFT, RIGHT], found, SIZE, merge))[0][:4] == [1, 2, 30, 40]
    assert merge_views([LEFT], [one], SIZE, merge) is one


# Over random layouts


@dataclass
class Layout:
    """A random image: its views, and objects of one class, no two of which NMS would take for one."""

    size: tuple[int, int]
    views: list[View]
    objects: torch.Tensor

    @classmethod
    def draw(cls, seed: int) -> "Layout":
        rng = np.random.default_rng(seed)
        size = (int(rng.integers(40, 300)), int(rng.integers(40, 400)))
        tile, overlap, whole = int(rng.integers(48, 160)), float(rng.uniform(0.05, 0.5)), rng.random() < 0.3
        tiling = Tiling(tile=tile, overlap=overlap, whole=bool(whole))
        corners = rng.uniform(0, 1, (40, 2)) * size[::-1]
        sides = np.exp(rng.uniform(np.log(3), np.log(90), (40, 1))) * rng.uniform(0.5, 1.5, (40, 2))
        boxes = torch.from_numpy(np.concatenate((corners, corners + sides), axis=1))
        boxes = boxes[(boxes[:, 2:] <= torch.tensor(size[::-1])).all(1)]
        kept: list[int] = []
        for i in range(len(boxes)):
            if not kept or box_iou(boxes[i : i + 1], boxes[kept]).max() <= 0.5:
                kept.append(i)
        return cls(size, tiling.views(size, (64, 96)), boxes[kept])

    def visible(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        """What a view shows of each object, and which share of its area."""
        low, high = torch.tensor(view.window[:2] * 2), torch.tensor(view.window[2:] * 2)
        clipped = self.objects.maximum(low).minimum(high)
        area = (self.objects[:, 2:] - self.objects[:, :2]).prod(1)
        return clipped, (clipped[:, 2:] - clipped[:, :2]).prod(1) / area

    def found(self, rng: np.random.Generator, noise: float = 0.0) -> list[Detections]:
        """What a detector that misses less than a fifth of an object finds, scores at random."""
        found = []
        for view in self.views:
            boxes, share = self.visible(view)
            boxes = boxes[share >= 0.2]
            sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
            boxes = boxes + sides * torch.from_numpy(rng.uniform(-noise, noise, boxes.shape))
            scores = torch.from_numpy(rng.uniform(0.5, 1, len(boxes))).sort(descending=True).values
            order = torch.from_numpy(rng.permutation(len(boxes)))
            labels = torch.zeros(len(boxes), dtype=torch.int64)
            found.append(Detections(boxes[order].float(), scores.float(), labels))
        return found

    def seen_whole(self) -> torch.Tensor:
        """Whether some view shows all of an object, clear of its borders: (n,)."""
        whole = torch.zeros(len(self.objects), dtype=torch.bool)
        for view in self.views:
            x1, y1, x2, y2 = view.window
            near = NEAR_PIXELS / torch.tensor(view.placement.scale) + 0.2 * (
                self.objects[:, 2:] - self.objects[:, :2]
            )
            low = torch.tensor([x1 if x1 else -1e9, y1 if y1 else -1e9])
            high = torch.tensor([x2 if x2 < self.size[1] else 1e9, y2 if y2 < self.size[0] else 1e9])
            whole |= ((self.objects[:, :2] > low + near) & (self.objects[:, 2:] < high - near)).all(1)
        return whole


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["nmm", "nms", "wbf"]))
def test_no_object_that_a_view_sees_whole_is_lost_or_found_twice(seed: int, merge: str):
    layout = Layout.draw(seed)
    merged = merge_views(layout.views, layout.found(np.random.default_rng(seed)), layout.size, merge)
    whole = layout.objects[layout.seen_whole()].float()
    if len(whole):
        iou = box_iou(whole, merged.boxes)
        assert (iou.max(1).values > 0.999).all()
        assert ((iou > 0.999).sum(1) == 1).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_nor_if_edges_are_off(seed: int):
    layout = Layout.draw(seed)
    found = layout.found(np.random.default_rng(seed), noise=0.03)
    merged = merge_views(layout.views, found, layout.size)
    whole = layout.objects[layout.seen_whole()].float()
    if len(whole):
        assert (box_iou(whole, merged.boxes).max(1).values > 0.8).all()


# Against plain loops


def reference(views: list[View], found: list[Detections], size: tuple[int, int]) -> list[list[float]]:
    """The rules of "nmm", one detection after the other."""
    every = sorted(
        (
            {"box": box, "score": score, "label": label, "view": v, "order": (v, i)}
            for v, one in enumerate(found)
            for i, (box, score, label) in enumerate(
                zip(one.boxes.tolist(), one.scores.tolist(), one.labels.tolist(), strict=True)
            )
        ),
        key=lambda d: (-d["score"], d["order"]),
    )
    for d in every:
        window, scale = views[d["view"]].window, views[d["view"]].placement.scale
        box = d["box"]
        d["near"] = [max(NEAR_PIXELS / scale[a], NEAR_SHARE * (box[a + 2] - box[a])) for a in (0, 1)]
        d["piece"] = any(
            abs(box[side] - window[side]) <= d["near"][side % 2]
            and (window[side] > 0 if side < 2 else window[side] < size[1 - side % 2])
            for side in range(4)
        )
        d["owner"] = None

    def clip(box, window):
        return [
            max(box[0], window[0]),
            max(box[1], window[1]),
            min(box[2], window[2]),
            min(box[3], window[3]),
        ]

    def area(box):
        return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)

    def inside(d, window):
        (x1, y1, x2, y2), (nx, ny) = d["box"], d["near"]
        return x1 >= window[0] - nx and y1 >= window[1] - ny and x2 <= window[2] + nx and y2 <= window[3] + ny

    def likeness(d, e):
        """IoU of two detections of one object; 0 if they are not."""
        of_d, of_e = views[d["view"]].window, views[e["view"]].window
        if d["view"] == e["view"] or d["label"] != e["label"]:
            return 0
        if not d["piece"] and not e["piece"] and not (inside(d, of_e) and inside(e, of_d)):
            return 0
        a = clip(d["box"], of_e) if e["piece"] else d["box"]
        b = clip(e["box"], of_d) if d["piece"] else e["box"]
        shared, smaller, larger = area(clip(a, b)), min(area(a), area(b)), max(area(a), area(b))
        if not area(clip(d["box"], e["box"])) or not smaller:
            return 0
        alike = shared >= OVERLAP * smaller and smaller >= LIKENESS * larger
        if d["piece"] != e["piece"]:
            piece, whole = (d, e) if d["piece"] else (e, d)
            alike &= whole["score"] >= TRUSTED * piece["score"]
        if d["piece"] and e["piece"]:
            alike &= shared >= JOINED * (smaller + larger - shared)
        return shared / (smaller + larger - shared) if alike else 0

    def likeliest(d, view):
        mates = [e for e in every if e["view"] == view and likeness(d, e)]
        return max(mates, key=lambda e: (e["score"] >= TRUSTED * d["score"], likeness(d, e)), default=None)

    def partners(d):
        best = [likeliest(d, view) for view in range(len(views))]
        mutual = [e for e in best if e and likeliest(e, d["view"]) is d]
        return sorted(
            mutual,
            key=lambda e: (e["score"] < TRUSTED * d["score"], -likeness(d, e), every.index(e)),
        )

    for seed in [d for d in every if not d["piece"]]:
        if seed["owner"] is None:
            seed["owner"], seed["members"] = seed, [seed]
            for e in partners(seed):
                new = e["view"] not in [m["view"] for m in seed["members"]]
                if e["owner"] is None and not e["piece"] and new:
                    e["owner"] = seed
                    seed["members"].append(e)
    for piece in [d for d in every if d["piece"]]:
        for e in partners(piece):
            whole = not e["piece"] and e["owner"] is e
            if whole and piece["view"] not in [m["view"] for m in e["members"]]:
                piece["owner"] = e
                e["members"].append(piece)
                break
    for seed in every:
        if seed["owner"] is None:
            seed["owner"], seed["members"] = seed, [seed]
            for member in seed["members"]:
                for e in partners(member):
                    if e["owner"] is None and e["view"] not in [m["view"] for m in seed["members"]]:
                        e["owner"] = seed
                        seed["members"].append(e)
            largest = max(seed["members"], key=lambda m: area(m["box"]))
            for member in seed["members"]:
                member["owner"] = largest
            largest["members"] = seed["members"]
    result = []
    for d in every:
        if d["owner"] is d:
            box = d["box"]
            if d["piece"]:
                corners = np.array([m["box"] for m in d["members"]])
                box = [*corners[:, :2].min(0), *corners[:, 2:].max(0)]
            result.append([*box, max(m["score"] for m in d["members"]), d["label"]])
    return sorted(result, key=lambda row: -row[4])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_merging_equals_plain_loops(seed: int):
    layout, rng = Layout.draw(seed), np.random.default_rng(seed)
    layout.objects = layout.objects[:12]
    found = []
    for view, one in zip(layout.views, layout.found(rng, noise=0.1), strict=True):
        boxes = one.boxes.maximum(torch.tensor(view.window[:2] * 2)).minimum(
            torch.tensor(view.window[2:] * 2)
        )
        scores = torch.from_numpy(rng.uniform(0.01, 1, len(one))).float().sort(descending=True).values
        found.append(Detections(boxes, scores, torch.from_numpy(rng.integers(0, 2, len(one)))))
    expected = reference(layout.views, found, layout.size)
    merged = merge_views(layout.views, found, layout.size)
    actual = np.column_stack((merged.boxes, merged.scores, merged.labels))
    if len(layout.views) > 1:
        np.testing.assert_allclose(actual, np.array(expected).reshape(-1, 6), rtol=1e-5, atol=1e-5)
