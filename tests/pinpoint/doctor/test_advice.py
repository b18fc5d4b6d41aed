"""The doctor's rules, each on objects made to call for it."""

import json

import numpy as np
import pytest
import yaml

from datamodules.modules import CocoDataModule
from pinpoint.cli.arguments import tidy
from pinpoint.cli.parser import network_options
from pinpoint.doctor.advice import advise, as_yaml
from pinpoint.doctor.diagnosis import examine
from pinpoint.doctor.objects import Objects
from pinpoint.doctor.stand_ins import main as write_stand_ins

NETWORK = {f"model.network.{name}" for name in ("strides", "reg_max", "expected_objects")}
"""Options of the network that the recipes choose."""


def objects(sides, image=(640, 640), per_image=10, labels=None, spacing=64, empty=0):
    """Squares of some sides in images of (height, width), `per_image` each, in rows; input scale 1."""
    sides = np.asarray(sides, dtype=np.float64)
    image_index = np.arange(len(sides)) // per_image
    place = np.arange(len(sides)) % per_image
    centres = np.stack([place % 10, place // 10], axis=1) * spacing + spacing / 2
    count = image_index.max(initial=-1) + 1 + empty
    return Objects(
        boxes=np.concatenate([centres - sides[:, None] / 2, centres + sides[:, None] / 2], axis=1),
        labels=np.zeros(len(sides), np.int64) if labels is None else np.asarray(labels),
        image_index=image_index,
        sizes=np.tile(image, (count, 1)),
        scale=np.ones(count),
    )


def values(train, image_size=(640, 640), class_names=("a", "b")):
    return {
        ".".join(item.key[-2:]): item.value
        for item in advise(train.at(image_size), class_names, image_size, NETWORK)
    }


def test_large_objects_leave_the_recipe_as_it_is():
    advice = values(objects([30] * 100))
    assert advice["init_args.image_size"] == [640, 640]
    assert advice["network.strides"] == [8, 16, 32]
    assert advice["network.reg_max"] == 13
    assert advice["assigner.min_side"] == 16
    assert advice["augment.tile"] == 0
    assert advice["sampling.rectangular"] is False
    assert advice["network.expected_objects"] == 10


def test_rare_objects_are_expected_rarely():
    assert values(objects([30], per_image=1, empty=39))["network.expected_objects"] == 0.025


def test_the_input_takes_the_shape_of_the_images():
    # 640 x 320 just fits into 640 x 640 with half of it grey.
    assert values(objects([30] * 100, (320, 640)))["init_args.image_size"] == [320, 640]


@pytest.mark.parametrize(
    ("original", "size", "tile"),
    [
        # Shrunk to a half, objects of 8 px have 4: at twice the size they have 8 again.
        ((1280, 1280), [1280, 1280], 0),
        # Shrunk to a quarter they have 2. The longest side allowed, 1536, gives 4.8 of the 8: tiles as well.
        ((2560, 2560), [1536, 1536], 0.5),
        # At the original size already: enlarging would add nothing.
        ((640, 640), [640, 640], 0),
    ],
)
def test_small_objects_call_for_a_larger_input_then_for_tiles(original, size, tile):
    advice = values(objects([8] * 100, original))
    assert advice["init_args.image_size"] == size
    assert advice["augment.tile"] == tile


@pytest.mark.parametrize(
    ("sides", "strides"),
    [
        ([9] * 100, [4, 8, 16]),  # below 10 px; none longer than 8 strides of 16
        ([9] * 90 + [140] * 10, [4, 8, 16, 32]),
        ([9] * 10 + [20] * 90, [8, 16, 32]),  # a tenth may be small
        ([9] * 11 + [20] * 89, [4, 8, 16]),
    ],
)
def test_strides(sides, strides):
    assert values(objects(sides, (1280, 1280), spacing=128), (1280, 1280))["network.strides"] == strides


def test_reg_max_reaches_the_longest_objects():
    # 0.75 x 1024 px / 32 px = 24 strides from a point of the inner half to the far side.
    advice = values(objects([1024] * 20, (1024, 1024), per_image=1, spacing=1024), (1024, 1024))
    assert advice["network.reg_max"] == 24


def test_crowds_are_not_widened():
    # 9 px, 3.9 px apart: below the second stride, 8, half of which, 4, holds a neighbour.
    crowd = objects([7.5] * 100, spacing=3.9)
    assert values(crowd)["assigner.min_side"] == 4
    assert values(objects([7.5] * 100, spacing=4.1))["assigner.min_side"] == 8


def test_crowded_images_need_less_mosaic():
    assert values(objects([30] * 100, per_image=100))["augment.mosaic"] == 0.25
    assert values(objects([30] * 100, per_image=50))["augment.mosaic"] == 0.5


def test_rare_classes_are_shown_more_often():
    # On 1 of 100 images: to come three times (the square root), the threshold is 9 times the share.
    labels = np.zeros(1000, int)
    labels[0] = 1
    advice = values(objects([30] * 1000, labels=labels))
    assert advice["sampling.repeat_threshold"] == 0.09
    assert advice["loss.class_weights"] is None  # one remedy is enough
    labels[::10] = 1  # now on all of them
    assert values(objects([30] * 1000, labels=labels))["sampling.repeat_threshold"] is None


def test_rare_classes_on_common_images_weigh_more():
    # 25 b on every image that 625 a are on: 1/sqrt = 0.2 and 0.04, their mean over the objects
    # (25 * 0.2 + 625 * 0.04) / 650 = 0.046: weights 4.33 and 0.87, of which 2 is the most.
    labels = np.zeros(650, int)
    labels[::26] = 1
    advice = values(objects([6] * 650, per_image=26, labels=labels))
    assert advice["loss.class_weights"] == [0.87, 2.0]
    assert advice["sampling.repeat_threshold"] is None


def test_background_is_bounded():
    assert values(objects([30] * 100, empty=2))["sampling.background"] is None
    assert values(objects([30] * 100, empty=5))["sampling.background"] == 0.2  # a third of 15 images


def test_images_of_two_shapes_make_batches_of_each():
    tall, wide = objects([30] * 100, (640, 320)), objects([30] * 100, (320, 640))
    mixed = Objects(
        np.concatenate([tall.boxes, wide.boxes]),
        np.concatenate([tall.labels, wide.labels]),
        np.concatenate([tall.image_index, wide.image_index + 10]),
        np.concatenate([tall.sizes, wide.sizes]),
        np.ones(20),
    )
    assert values(mixed)["sampling.rectangular"] is True


def test_more_objects_than_detections():
    assert (
        values(objects([6] * 700, per_image=700, spacing=8))["postprocess.max_detections"] == 900
    )  # 1.2 x 700
    assert "postprocess.max_detections" not in values(objects([6] * 500, per_image=500, spacing=8))


def test_no_objects_no_advice():
    assert advise(objects([], empty=3), ["a"], (640, 640), NETWORK) == []


def test_the_yaml_says_what_the_advice_says():
    advice = advise(objects([30] * 100), ["a"], (640, 640), NETWORK)
    config = yaml.safe_load(as_yaml(advice, "python train.py"))
    for item in advice:
        value = config
        for name in item.key:
            value = value[name]
        assert value == item.value


def test_stand_ins_are_enough_for_annotations(tmp_path):
    rows = [{"id": i, "image_id": i, "category_id": 1, "bbox": [9, 9, 20, 20]} for i in range(3)]
    images = [{"id": i, "file_name": f"sub/{i}.jpg", "height": 300 + i, "width": 400} for i in range(3)]
    file = tmp_path / "a.json"
    file.write_text(
        json.dumps({"categories": [{"id": 1, "name": "a"}], "images": images, "annotations": rows})
    )
    write_stand_ins([str(file), str(tmp_path / "images")])
    module = CocoDataModule(tmp_path / "images", file, tmp_path / "images", file)
    result = examine(module, annotations_only=True)
    assert {finding.kind for finding in result.findings} == {"leak"}  # both splits are the same files
    assert result.objects["train"].sizes.tolist() == [[300, 400], [301, 400], [302, 400]]
    with pytest.raises(FileExistsError):
        write_stand_ins([str(file), str(tmp_path / "images")])
    with pytest.raises(ValueError, match=r"absent\.json cannot be read"):
        write_stand_ins([str(tmp_path / "absent.json"), str(tmp_path / "images")])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"images": [{"file_name": "a.jpg", "height": 3}]}, "width and height .*KeyError"),
        ({"a.jpg": [70000, 3]}, "width and height .*OverflowError"),
        ({"a.jpg": 3}, "width and height .*TypeError"),
        ({"../a.jpg": [3, 3]}, "outside of"),
    ],
)
def test_stand_ins_of_no_size_or_elsewhere(sizes, message, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(sizes))
    with pytest.raises(ValueError, match=message):
        write_stand_ins([str(tmp_path / "a.json"), str(tmp_path / "images")])
    assert not (tmp_path / "a.jpg").exists()


def test_a_network_is_advised_no_options_that_it_has_not():
    train = objects([30] * 100)
    network = network_options(tidy(["--config=quickstart", "--config=yolov9_s"]))
    assert "model.network.strides" in network
    assert "model.network.reg_max" not in network
    advised = {".".join(one.key) for one in advise(train, ["a"], (640, 640), network)}
    assert {one for one in advised if one.startswith("model.network")} == network & NETWORK
    assert "model.assigner.min_side" in advised
