import shutil

import cv2
import numpy as np
import pytest

from datamodules.batch import ANY_CLASS
from datamodules.formats.visdrone import CLASS_NAMES, read_visdrone
from datamodules.modules import VisDroneDataModule
from datamodules.problems import DataError

ROWS = """10,20,30,40,1,4,0,0
1,2,3,4,1,1,0,1,
5,5,20,10,0,0,0,0
6,6,8,8,0,11,0,0,

7,7,5,5,0,9,0,0
"""


@pytest.fixture
def split(tmp_path):
    """A split of two images, the first with the rows above, the second with none."""
    folder = tmp_path / "VisDrone2019-DET-val"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for name, shape in (("a", (60, 80, 3)), ("b", (40, 50, 3))):
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.full(shape, 90, dtype=np.uint8))
        (folder / "annotations" / f"{name}.txt").write_text(ROWS if name == "a" else "")
    return folder


def test_rows_with_and_without_trailing_comma(split):
    records = read_visdrone(split)
    first, second = records.images
    np.testing.assert_array_equal(first.annotations.boxes, [[10, 20, 40, 60], [1, 2, 4, 6]])
    assert [records.class_names[label] for label in first.annotations.labels] == ["car", "pedestrian"]
    assert first.annotations.areas.tolist() == [1200, 12]
    assert second.annotations.boxes.shape == (0, 4)


def test_ignored_regions_others_and_score_zero_become_ignore_boxes(split):
    annotations = read_visdrone(split).images[0].annotations
    np.testing.assert_array_equal(annotations.ignore_boxes, [[5, 5, 25, 15], [6, 6, 14, 14], [7, 7, 12, 12]])
    assert annotations.ignore_labels.tolist() == [ANY_CLASS, ANY_CLASS, CLASS_NAMES.index("bus")]


def test_images_are_in_the_order_of_their_names_with_sizes_from_their_headers(split):
    records = read_visdrone(split)
    assert [record.info.image_id for record in records.images] == [1, 2]
    assert [record.info.file_name for record in records.images] == ["a.jpg", "b.jpg"]
    assert [record.info.size for record in records.images] == [(60, 80), (40, 50)]
    assert records.category_ids == list(range(1, 11))
    assert len(records.class_names) == 10


def test_model_of_other_classes(split):
    names = ["car", "plane", "pedestrian", "bus"]
    records = read_visdrone(split, names)
    assert records.images[0].annotations.labels.tolist() == [0, 2]
    assert records.category_ids == [4, 12, 1, 9]
    with pytest.raises(DataError, match=r"a\.txt, line 1 is of category 'car', which the model does"):
        read_visdrone(split, ["pedestrian"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("10,20,30,40,1", "line 3 is malformed"),
        ("10,20,30,wide,1,4,0,0", "line 3 is malformed"),
        ("10,20,30,40,1,12,0,0", r"line 3 is malformed \(category 12 is not in 0..11\)"),
        (f"10,20,{10**400},40,1,4,0,0", "line 3 is malformed"),
    ],
)
def test_malformed_rows(split, row, message):
    (split / "annotations" / "b.txt").write_text("\n1,1,2,2,1,1,0,0\n" + row)
    with pytest.raises(DataError, match=message) as caught:
        read_visdrone(split)
    assert "b.txt" in str(caught.value)


def test_vanished_boxes_are_counted(split):
    (split / "annotations" / "b.txt").write_text("1,1,0,2,1,1,0,0\n50,1,4,4,1,1,0,0")
    with pytest.warns(UserWarning, match="2 of 7 boxes without size or outside"):
        read_visdrone(split)


def test_missing_parts(split):
    module = VisDroneDataModule(split.parent)
    with pytest.raises(DataError, match=r"VisDrone2019-DET-train.images holds no images: unpack"):
        module.setup("fit")
    (split / "annotations" / "b.txt").unlink()
    with pytest.raises(DataError, match=r"b\.txt cannot be read"):
        read_visdrone(split)
    (split / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.jpg is not a readable image"):
        read_visdrone(split)


def test_test_split_is_test_dev(split):
    split.rename(split.parent / "VisDrone2019-DET-test-dev")
    module = VisDroneDataModule(split.parent, image_size=(64, 64))
    module.setup("test")
    batch = next(iter(module.test_dataloader()))
    assert [info.file_name for info in batch.infos] == ["a.jpg", "b.jpg"]
    assert len(batch.ignore_boxes) == 3


def test_evaluated_is_what_the_last_stage_scores(split):
    for name in ("train", "test-dev"):
        shutil.copytree(split, split.parent / f"VisDrone2019-DET-{name}")
    module = VisDroneDataModule(split.parent)
    for stage, scored in (("test", "test-dev"), ("fit", "val"), ("predict", "test-dev"), ("validate", "val")):
        module.setup(stage)
        assert module.official_annotations.parent.name == f"VisDrone2019-DET-{scored}"


def test_real_visdrone(shared_data):
    module = VisDroneDataModule(shared_data / "visdrone", image_size=(352, 640), num_workers=0)
    module.setup("fit")
    module.setup("test")
    assert [len(module.records[split].images) for split in ("train", "val", "test")] == [1, 3, 1]
    batch = next(iter(module.val_dataloader()))
    for index, annotations in enumerate(batch.annotations):
        own = batch.boxes[batch.image_index == index]
        np.testing.assert_allclose(batch.infos[index].to_original(own), annotations.boxes, atol=0.01)
        assert (batch.ignore_index == index).sum() == len(annotations.ignore_boxes)
