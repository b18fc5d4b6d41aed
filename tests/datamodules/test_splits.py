"""Validation images taken from the training images."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from datamodules.batch import Annotations, ImageInfo
from datamodules.modules import CocoDataModule
from datamodules.problems import DataError
from datamodules.records import Record
from datamodules.splits import Division


def images(*names):
    empty, labels = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    found = Annotations(empty, labels, np.empty(0, np.float32), empty, labels)
    return [Record(name, ImageInfo(k, name, (9, 9)), found) for k, name in enumerate(names)]


HUNDRED = images(*(f"flight{k // 10}_{k % 10}.jpg" for k in range(100)))


def test_a_share_of_the_images():
    chosen = Division(0.2).validates(HUNDRED)
    assert len(chosen) == 20
    assert chosen == Division(0.2).validates(HUNDRED[::-1])  # whatever their order
    assert chosen != Division(0.2, seed=1).validates(HUNDRED)
    assert len(Division(0.001).validates(HUNDRED)) == 1
    assert len(Division(0.999).validates(HUNDRED)) == 99


def test_new_images_hardly_move_the_others():
    before = Division(0.2).validates(HUNDRED)
    after = Division(0.2).validates(HUNDRED + images(*(f"new{k}.jpg" for k in range(5))))
    old = {image.info.file_name for image in HUNDRED}
    assert len(before ^ (after & old)) <= 3


@pytest.mark.parametrize("group", [r"flight\d+", r"^(flight\d+)_", r"flight(\d)(\d)?_"])
def test_groups_stay_together(group):
    chosen = Division(0.3, group).validates(HUNDRED)
    flights = {name.split("_")[0] for name in chosen}
    assert len(flights) == 3
    assert len(chosen) == 30


def test_a_group_that_is_too_large_is_passed_over():
    sizes = {"a": 900, "b": 60, "c": 40, "d": 200, "e": 20}
    records = images(*(f"{group}_{k}.jpg" for group, count in sizes.items() for k in range(count)))
    for seed in range(12):
        share = len(Division(0.2, "^._", seed=seed).validates(records)) / len(records)
        assert 0.15 < share < 0.27
    # None brings the share nearer than no group at all: the smallest, and a word about it.
    division = Division(0.1, "^._")
    chosen = division.validates(images(*(f"{group}_{k}.jpg" for group in "aab" for k in range(30))))
    assert {name[0] for name in chosen} == {"b"}
    assert division.doubt(0.33) == (
        "33% of the images validate, data.val_fraction asks for 10%: groups are too large to come nearer"
    )
    assert division.doubt(0.12) is None


def test_folds_share_the_images_between_them():
    parts = [Division(folds=4, fold=fold).validates(HUNDRED) for fold in range(4)]
    assert sorted(len(part) for part in parts) == [25] * 4
    assert set.union(*parts) == {image.info.file_name for image in HUNDRED}
    flights = [Division(folds=4, fold=fold, group=r"flight\d").validates(HUNDRED) for fold in range(4)]
    assert sorted(len(part) for part in flights) == [20, 20, 30, 30]


def test_groups_of_a_file(tmp_path):
    file = tmp_path / "groups.csv"
    alike = [f"flight{k}_0.jpg" for k in range(10)]
    file.write_text("file,group\n" + "".join(f"{name},first\n" for name in alike))
    for seed in range(5):
        chosen = Division(0.5, groups=file, seed=seed).validates(HUNDRED)
        assert len(chosen & set(alike)) in (0, 10)
        assert 45 <= len(chosen) <= 55
    file.write_text("name\na\n")
    with pytest.raises(DataError, match=r"groups\.csv cannot be read .*: it must have columns file"):
        Division(0.5, groups=file).validates(HUNDRED)


def test_too_few_groups():
    with pytest.raises(
        DataError, match=r"100 training images make 1 groups by data\.val_group \(flight\), too few"
    ):
        Division(0.5, "flight").validates(HUNDRED)
    with pytest.raises(
        DataError, match=r"data\.val_group \(drone\) finds nothing in the file name flight0_0\.jpg"
    ):
        Division(0.5, "drone").validates(HUNDRED)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0}, "val_fraction must lie between 0 and 1"),
        ({"fraction": 1.0}, "val_fraction must lie between 0 and 1"),
        ({"fraction": 0.5, "folds": 2}, "exclude each other"),
        ({"folds": 1}, "at least 2"),
        ({"folds": 3, "fold": 3}, "data.fold below it"),
        ({"group": "a"}, "need data.val_fraction or data.folds"),
        ({"fraction": 0.5, "group": "("}, "no regular expression"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Division(**options)


def test_a_data_module_without_validation_images(coco_folder, tmp_path):
    def module(**options):
        files = coco_folder.images, coco_folder.json
        return CocoDataModule(*files, ignore_categories=["dontcare"], num_workers=0, batch_size=2, **options)

    with pytest.raises(
        ValueError, match=r"no validation images: give data\.val_images .*or data\.val_fraction"
    ):
        module()
    data = module(val_fraction=0.34)
    data.trainer = SimpleNamespace(log_dir=str(tmp_path / "run"))
    data.setup("fit")
    parts = [{image.info.file_name for image in data.records[split].images} for split in ("train", "val")]
    assert [len(part) for part in parts] == [4, 2]
    assert not parts[0] & parts[1]
    with (tmp_path / "run" / "split.csv").open(encoding="utf-8") as file:
        written = {row["file"]: row["split"] for row in csv.DictReader(file)}
    assert written == dict.fromkeys(parts[0], "train") | dict.fromkeys(parts[1], "val")
    again = module(val_fraction=0.34, seed=5)  # the split has a seed of its own
    again.setup("validate")
    assert {image.info.file_name for image in again.records["val"].images} == parts[1]
    assert len(module(folds=3, fold=2).readers) == 2


def test_a_test_split(coco_folder):
    files = coco_folder.images, coco_folder.json
    names = ["test_images", "test_annotations"]
    module = CocoDataModule(*files, *files, ["dontcare"], **dict(zip(names, files, strict=True)))
    assert module.test_split == "test"
    module.setup("test")
    assert len(module.evaluated.images) == 6
    with pytest.raises(ValueError, match=r"data\.test_images and data\.test_annotations go together"):
        CocoDataModule(*files, *files, test_images=coco_folder.images)
