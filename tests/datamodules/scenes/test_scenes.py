import math
import multiprocessing as mp
from itertools import count
from random import Random
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scene_cases import THIRD, clear_objects, load, side

from datamodules.formats.coco import read_coco
from datamodules.modules import ScenesDataModule
from datamodules.scenes import writing as scenes
from datamodules.scenes.canvas import CAR, CROWD, LOOK_ALIKE, PERSON, SUPERSAMPLING, TRUCK, Canvas, Scene
from datamodules.scenes.sprites import Sprite, rectangle
from datamodules.scenes.town import draw_scene
from datamodules.scenes.writing import annotate, write_scenes


@pytest.fixture(scope="module")
def drawn():
    return [draw_scene(f"0/train/{k}", (320, 320)) for k in range(40)]


def test_same_seed_same_scene():
    first, again, other = (draw_scene(seed, (160, 200)) for seed in ("1/train/0", "1/train/0", "1/train/1"))
    assert first.image.shape == (160, 200, 3)
    assert first.image.dtype == np.uint8
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert (first.image != other.image).mean() > 0.5


def test_objects_are_small_and_many(drawn):
    clear = [clear_objects(scene) for scene in drawn]
    sides = np.concatenate([side(scene.boxes[mask]) for scene, mask in zip(drawn, clear, strict=True)])
    labels = np.concatenate([scene.labels[mask] for scene, mask in zip(drawn, clear, strict=True)])
    assert np.median(sides) <= 16
    assert ((sides >= 4) & (sides <= 60)).mean() > 0.99
    assert len(sides) / len(drawn) >= 20
    assert np.bincount(labels).min() >= 2 * len(drawn)  # every class often enough for an AP of its own


def test_a_look_alike_for_three_objects(drawn):
    objects = sum(clear_objects(scene).sum() for scene in drawn)
    look_alikes = sum(len(annotate(scene)[1]) for scene in drawn)
    assert look_alikes >= objects / 3


def test_look_alikes_share_colours_and_sizes_with_objects(drawn):
    # The probability that a random object ranks above a random look-alike, by mean colour inside the box
    # and by side: 0.5 says nothing about which is which, 0 or 1 everything.
    features, objects = [], []
    for scene in drawn:
        lab = cv2.cvtColor(scene.image, cv2.COLOR_RGB2LAB).astype(float)
        sides = side(scene.boxes)
        for k in np.flatnonzero(clear_objects(scene) | (scene.labels == LOOK_ALIKE) & (scene.areas > 8)):
            x0, y0, x1, y1 = np.rint(scene.boxes[k]).astype(int)
            lightness, a, b = lab[y0:y1, x0:x1].reshape(-1, 3).mean(axis=0)
            features.append((lightness, math.hypot(a - 128, b - 128), sides[k]))
            objects.append(scene.labels[k] != LOOK_ALIKE)
    objects = np.array(objects)
    ranks = 1 + np.argsort(np.argsort(features, axis=0), axis=0)[objects].mean(axis=0)
    above = (ranks - (objects.sum() + 1) / 2) / (~objects).sum()
    assert np.abs(above - 0.5).max() < 0.2


def test_boxes_are_tight_around_what_is_visible(drawn):
    for scene in drawn[:3]:
        assert len(scene.boxes) > 0
        for k, (box, area) in enumerate(zip(scene.boxes, scene.areas, strict=True)):
            ys, xs = np.nonzero(scene.owner == k + 1)
            assert area == pytest.approx(len(ys) / SUPERSAMPLING**2)
            if len(ys):
                tight = np.array((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)) / SUPERSAMPLING
                np.testing.assert_allclose(box, tight)


def block(length=4.0, width=2.0, height=0.0):
    return lambda rng: Sprite([(rectangle(length, width), (200.0, 20.0, 20.0, 0.0))], height)


def canvas(size=(100, 100), scale=5.0):
    """A bare canvas whose metres lie along the axes of the image; x runs right, y down, from its centre."""
    return Canvas(Random(0), size, scale=scale, angle=0.0)


def test_box_of_one_block():
    # 4 x 2 m at 5 pixels a metre is 20 x 10 pixels; 1 m right and 2 m below the centre (50, 50) is (55, 60).
    bare = canvas()
    assert bare.place([block(height=2.0)], CAR, 1.0, 2.0, heading=0.0)
    bare.shadow_length = 5.0
    bare.paint()
    scene = bare.scene()
    np.testing.assert_allclose(scene.boxes, [(45, 55, 65, 65)], atol=THIRD)  # the shadow is not in it
    # OpenCV fills the pixels of both borders: one canvas pixel more along each axis.
    assert scene.areas[0] == pytest.approx((20 + THIRD) * (10 + THIRD))
    assert scene.visible[0] == 1
    assert bare.shadow.any()
    assert not bare.shadow[bare.owner == 1].any()
    # What the owners say is what was painted: the block is the only red.
    np.testing.assert_array_equal(bare.colour[..., 0] == 200, bare.owner == 1)


def test_heading_turns_from_x_towards_y():
    # A square of 2 m whose middle lies 3 m ahead: heading down, it is 15 pixels below the centre (50, 50).
    bare = canvas()
    ahead = Sprite([(rectangle(2.0, 2.0, x=3.0), (200.0, 20.0, 20.0, 0.0))], 0.0)
    assert bare.place([lambda rng: ahead], CAR, 0.0, 0.0, heading=math.pi / 2)
    np.testing.assert_allclose(bare.scene().boxes, [(45, 60, 55, 70)], atol=THIRD)


def test_visible_share_at_the_edge():
    # Centred on the left edge: half of it is outside, and the box ends at the image.
    bare = canvas()
    assert bare.place([block()], CAR, -10.0, 0.0, heading=0.0)
    scene = bare.scene()
    np.testing.assert_allclose(scene.boxes, [(0, 45, 10, 55)], atol=THIRD)
    assert scene.visible[0] == pytest.approx(0.5, abs=0.03)


def test_trees_hide_and_boxes_shrink():
    # A crown of at least 0.75 * 4 m = 15 pixels about the block's right end (60, 50) covers the block's
    # height of 10 pixels from x = 60 - sqrt(15^2 - 5^2) = 45.9 on: at most 6 of its 20 columns are left.
    bare = canvas()
    assert bare.place([block()], CAR, 0.0, 0.0, heading=0.0)
    bare.crowns.append((2.0, 0.0, 4.0))
    bare.paint()
    scene = bare.scene()
    assert scene.boxes[0, 0] == pytest.approx(40, abs=THIRD)
    assert scene.boxes[0, 2] <= 46 + THIRD
    assert 0 < scene.visible[0] <= 0.32


def test_nothing_is_placed_on_another_thing():
    bare = canvas()
    assert bare.place([block()], CAR, 0.0, 0.0, heading=0.0)
    assert not bare.place([block()], CAR, 1.0, 0.0, heading=0.0)
    assert bare.place([block()], CAR, 4.2, 0.0, heading=0.0)
    assert len(bare.labels) == 2


# ---- the annotations --------------------------------------------------------------------------------------


def scene_of(*things):
    """A scene of (label, area, visible share), each with the box (10, 20, 14, 30)."""
    labels, areas, visible = zip(*things, strict=True)
    boxes = np.tile(np.array([10.0, 20.0, 14.0, 30.0]), (len(things), 1))
    image, owner = np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.int32)
    return Scene(image, np.array(labels), boxes, np.array(areas), np.array(visible), owner)


def test_annotations_of_each_kind_of_thing():
    objects, look_alikes = annotate(
        scene_of(
            (TRUCK, 40.0, 1.0),
            (CAR, 40.0, 0.2),  # nearly hidden: ignored
            (CAR, 5.0, 0.9),  # too few pixels: ignored
            (PERSON, 0.0, 0.0),  # wholly hidden: nothing there to ignore
            (CROWD, 90.0, 0.8),  # one region of people
            (LOOK_ALIKE, 40.0, 1.0),
            (LOOK_ALIKE, 40.0, 0.2),
        )
    )
    assert [(a["category_id"], a["iscrowd"]) for a in objects] == [(3, 0), (2, 1), (2, 1), (1, 1)]
    assert objects[0]["bbox"] == [10, 20, 4, 10]
    assert objects[0]["area"] == 40
    assert look_alikes == [[10, 20, 4, 10]]


def test_some_scenes_have_a_crowd(drawn):
    crowds = [k for scene in drawn for k in np.flatnonzero(scene.labels == CROWD)]
    assert crowds
    crowd = next(scene for scene in drawn if (scene.labels == CROWD).any())
    assert side(crowd.boxes)[crowd.labels == CROWD].max() > 30  # many people, one thing


# ---- the data set -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "deep" / "set"
    write_scenes(folder, 3, (128, 160), seed=5)
    return folder


def test_data_set_is_readable(written):
    records = read_coco(written / "annotations.json", written / "images")
    assert records.class_names == ["person", "car", "truck"]
    assert [record.info.size for record in records.images] == [(128, 160)] * 3
    for k, record in enumerate(records.images):
        scene = draw_scene(f"5/train/{k}", (128, 160))
        image = cv2.cvtColor(cv2.imread(record.path), cv2.COLOR_BGR2RGB)
        assert np.abs(image.astype(int) - scene.image).mean() < 4  # JPEG, channels in their places
        expected = clear_objects(scene)
        np.testing.assert_allclose(record.annotations.boxes, scene.boxes[expected], atol=0.02)
        np.testing.assert_array_equal(record.annotations.labels, scene.labels[expected])
        np.testing.assert_allclose(record.annotations.areas, scene.areas[expected], atol=0.01)


def test_an_image_does_not_depend_on_how_many_there_are(written, tmp_path):
    write_scenes(tmp_path / "one", 1, (128, 160), seed=5)
    assert (tmp_path / "one/images/000000.jpg").read_bytes() == (written / "images/000000.jpg").read_bytes()
    assert load(tmp_path / "one")["images"] == load(written)["images"][:1]


def test_splits_and_seeds_differ(written, tmp_path):
    write_scenes(tmp_path / "val", 1, (128, 160), seed=5, split="val")
    write_scenes(tmp_path / "seed", 1, (128, 160), seed=6)
    first = [
        (folder / "images/000000.jpg").read_bytes()
        for folder in (written, tmp_path / "val", tmp_path / "seed")
    ]
    assert len(set(first)) == 3


def test_written_once(written, monkeypatch):
    monkeypatch.setattr(scenes, "draw_scene", None)  # calling it would fail
    write_scenes(written, 3, (128, 160), seed=5)


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(seed, size):
        if seed.endswith("/2"):
            raise KeyboardInterrupt
        return draw_scene(seed, size)

    monkeypatch.setattr(scenes, "draw_scene", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "set", 4, (64, 64))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(scenes, "draw_scene", draw_scene)
    write_scenes(tmp_path / "set", 4, (64, 64))
    assert len(load(tmp_path / "set")["images"]) == 4


def write_after(barrier, folder):
    cv2.setNumThreads(0)  # OpenCV's threads do not survive the fork
    barrier.wait()
    write_scenes(folder, 6, (64, 64))


def test_two_processes_at_once_write_one_data_set(tmp_path):
    context = mp.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=write_after, args=(barrier, tmp_path / "set")) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    write_scenes(tmp_path / "alone", 6, (64, 64))
    assert load(tmp_path / "set") == load(tmp_path / "alone")
    assert len(list((tmp_path / "set/images").iterdir())) == 6


def test_the_slower_process_keeps_the_faster_ones_data(tmp_path, monkeypatch):
    # The other process finishes while this one draws its last scene.
    def overtaken(seed, size):
        monkeypatch.setattr(scenes, "draw_scene", draw_scene)
        write_scenes(tmp_path / "set", 1, (64, 64), seed=9)
        return draw_scene(seed, size)

    monkeypatch.setattr(scenes, "draw_scene", overtaken)
    write_scenes(tmp_path / "set", 1, (64, 64), seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert load(tmp_path / "set")["info"]["seed"] == 9


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_scenes(tmp_path / "file" / "set", 1, (64, 64))


@pytest.mark.parametrize("seconds", [0, 10])
def test_progress_is_shown_when_it_takes_long(tmp_path, monkeypatch, capsys, seconds):
    now = count(step=seconds)
    monkeypatch.setattr("tqdm.std.time", lambda: next(now))
    write_scenes(tmp_path / "set", 4, (64, 64))
    assert ("drawing train scenes: 100%" in capsys.readouterr().err) == (seconds > 0)


# ---- the data module --------------------------------------------------------------------------------------


def test_data_module(tmp_path):
    module = ScenesDataModule(
        root=tmp_path / "cache",
        train_count=3,
        val_count=2,
        scene_size=(96, 128),
        image_size=(96, 128),
        batch_size=2,
    )
    assert module.class_names == ["person", "car", "truck"]
    assert not (tmp_path / "cache").exists()  # class names cost no drawing
    module.prepare_data()
    module.setup("fit")
    batch = next(iter(module.val_dataloader()))
    assert batch.images.shape == (2, 3, 96, 128)
    assert [info.size for info in batch.infos] == [(96, 128)] * 2
    assert len(module.records["train"].images) == 3
    assert sum(len(record.annotations.boxes) for record in module.records["train"].images) > 0


def test_evaluation_draws_no_training_scenes(tmp_path):
    module = ScenesDataModule(root=tmp_path, train_count=9, val_count=1, scene_size=(64, 64))
    for stage in ("validate", "test"):
        module.trainer = SimpleNamespace(state=SimpleNamespace(fn=stage))
        module.prepare_data()
    assert [folder.name for folder in tmp_path.iterdir()] == [module.folders["val"].name]


def test_each_set_of_parameters_has_its_own_folder(tmp_path):
    base = {"root": tmp_path, "train_count": 3, "val_count": 2, "scene_size": (96, 128), "scene_seed": 1}
    changes = [{}, {"train_count": 4}, {"val_count": 4}, {"scene_size": (128, 96)}, {"scene_seed": 2}]
    folders = [tuple(ScenesDataModule(**base | change).folders.values()) for change in changes]
    assert len(set(folders)) == len(changes)
    # The order of training must not change the data.
    assert ScenesDataModule(**base, seed=7).folders == ScenesDataModule(**base).folders


@pytest.mark.parametrize("wrong", [{"train_count": 0}, {"val_count": -1}, {"scene_size": (32, 320)}])
def test_wrong_parameters(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"data.*{name}"):
        ScenesDataModule(**wrong)
