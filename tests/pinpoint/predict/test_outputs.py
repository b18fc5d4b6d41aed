"""Each format, read back by a reader that knows nothing of its writer."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from datamodules.formats.coco import read_coco
from datamodules.formats.visdrone import CLASS_NAMES
from datamodules.formats.voc import read_voc
from datamodules.formats.yolo import read_description, read_yolo
from datamodules.images.windows import Decoded
from datamodules.records import Records
from evaluation import visdrone
from pinpoint.predict.found import HIDDEN, UNTRACKED, Found
from pinpoint.predict.journal import Journal
from pinpoint.predict.outputs import each, geojson, together
from pinpoint.predict.outputs.writer import Writer

NAMES = ("car", '<Lkw> & "Bus"')
SIZE = (48, 64)
BOXES = np.array([[1.25, 2.5, 11.125, 12.75], [0, 0, 64, 48], [40.5, 30.25, 41.75, 33]], np.float32)


def found(path: Path, **changes: object) -> Found:
    fields = {
        "path": str(path),
        "name": path.stem,
        "size": SIZE,
        "boxes": BOXES,
        "scores": np.array([0.9, 0.5, 1 / 3], np.float32),
        "labels": np.array([0, 1, 1]),
    }
    return Found(**fields | changes)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "one.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), np.full((*SIZE, 3), 80, np.uint8))
    return path


def write(folder: Path, save: str, *images: Found, names: tuple[str, ...] = NAMES) -> list[str]:
    """Write images as the runner does, in one format; returns what it complained of."""
    folder.mkdir(exist_ok=True)
    writer = Writer(folder, [save], names)
    with Journal(folder, {}) as journal:
        for one in images:
            writer.write(one, Decoded(np.full((*one.size, 3), 80, np.uint8)))
            journal.add(one)
        return writer.finish(journal)[0]


def check(records: Records, atol: float) -> None:
    (record,) = records.images
    np.testing.assert_allclose(record.annotations.boxes, BOXES, atol=atol)
    assert [records.class_names[label] for label in record.annotations.labels] == [
        NAMES[i] for i in (0, 1, 1)
    ]


def test_yolo_is_a_data_set_once_the_images_are_put_there(image: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", "yolo", found(image))
    image.parent.rename(tmp_path / "out" / "yolo" / "images")
    check(read_yolo(read_description(tmp_path / "out" / "yolo" / "data.yaml"), "train"), 1e-5)


def test_voc(image: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", "voc", found(image))
    classes = (tmp_path / "out" / "voc" / "labelmap.txt").read_text().splitlines()
    assert classes == [f"{name}:::" for name in NAMES]  # what CVAT and datumaro ask for
    assert (tmp_path / "out" / "voc" / "ImageSets" / "Main" / "train.txt").read_text() == "one\n"
    image.parent.rename(tmp_path / "out" / "voc" / "JPEGImages")
    check(read_voc(tmp_path / "out" / "voc", "train", class_names=NAMES), 1e-3)


def test_a_colon_in_a_class_name_is_no_column_of_vocs_list(image: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", "voc", found(image), names=("car:red", "bus"))
    assert (tmp_path / "out" / "voc" / "labelmap.txt").read_text() == "car-red:::\nbus:::\n"
    assert "<name>car-red</name>" in (tmp_path / "out" / "voc" / "Annotations" / "one.xml").read_text()


def test_coco(image: Path, tmp_path: Path) -> None:
    empty = found(
        image.with_name("none.png"),
        name="none",
        boxes=BOXES[:0],
        scores=np.empty(0, np.float32),
        labels=np.empty(0, int),
    )
    write(tmp_path / "out", "coco", found(image), empty)
    data = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [one["file_name"] for one in data["images"]] == ["one.png", "none.png"]
    assert [row["score"] for row in data["annotations"]] == found(image).scores.tolist()
    assert all(row["segmentation"] == [] for row in data["annotations"])  # datumaro warns of each without
    cv2.imwrite(str(image.parent / "none.png"), np.full((*SIZE, 3), 80, np.uint8))
    records = read_coco(tmp_path / "out" / "coco.json", image.parent)
    assert len(records.images.pop().annotations.boxes) == 0
    check(records, 0)


def test_visdrone_by_the_reader_of_its_protocol(image: Path, tmp_path: Path) -> None:
    names = ("truck", "pedestrian")
    write(tmp_path / "out", "visdrone", found(image), names=names)
    rows = visdrone._read_rows(tmp_path / "out" / "visdrone" / "one.txt")
    np.testing.assert_allclose(rows[:, :4], found(image).xywh, atol=1e-3)
    np.testing.assert_allclose(rows[:, 4], found(image).scores, atol=1e-6)
    assert [CLASS_NAMES[int(number) - 1] for number in rows[:, 5]] == ["truck", "pedestrian", "pedestrian"]
    write(tmp_path / "other", "visdrone", found(image))
    assert visdrone._read_rows(tmp_path / "other" / "visdrone" / "one.txt")[:, 5].tolist() == [1, 2, 2]


def test_csv_with_tracks_and_frames(image: Path, tmp_path: Path) -> None:
    frame = found(image, frame=7, tracks=np.array([3, UNTRACKED, HIDDEN]))
    write(tmp_path / "out", "csv", found(image), frame)
    with (tmp_path / "out" / "detections.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [NAMES[i] for i in (0, 1, 1, 0, 1)]
    assert [row["track"] for row in rows] == ["", "", "", "3", ""]
    assert [row["frame"] for row in rows] == ["", "", "", "7", "7"]
    corners = [[float(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in rows[:3]]
    np.testing.assert_allclose(corners, BOXES, atol=0.005001)


def test_labelme_names_the_image_relative_to_itself(image: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", "labelme", found(image))
    file = tmp_path / "out" / "labelme" / "one.json"
    data = json.loads(file.read_text())
    assert (file.parent / data["imagePath"]).resolve() == image
    assert (data["imageHeight"], data["imageWidth"]) == SIZE
    assert [shape["label"] for shape in data["shapes"]] == [NAMES[i] for i in (0, 1, 1)]
    assert {shape["shape_type"] for shape in data["shapes"]} == {"rectangle"}
    np.testing.assert_array_equal([np.ravel(shape["points"]) for shape in data["shapes"]], BOXES)


def test_what_images_are_called_in_files_of_all_images() -> None:
    assert found(Path("/in/deep/a.jpg"), name="deep/a").file_name == "deep/a.jpg"
    # Its results are called otherwise, for there is an a.jpg: so the path says which image it is.
    assert found(Path("/in/a.png"), name="a_png").file_name == "/in/a.png"
    assert found(Path("/in/clip.mp4"), name="clip_000002", frame=2).file_name == "clip_000002.jpg"


def test_cvat(image: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", "cvat", found(image), found(image, name="clip_000002", frame=2))
    root = ElementTree.parse(tmp_path / "out" / "cvat.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert [label.text for label in root.iterfind("meta/task/labels/label/name")] == list(NAMES)
    first, second = root.iterfind("image")
    assert (first.get("name"), second.get("name")) == ("one.png", "clip_000002.jpg")
    assert (first.get("width"), first.get("height")) == ("64", "48")
    boxes = [[float(box.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")] for box in first]
    np.testing.assert_allclose(boxes, BOXES, atol=0.005001)
    assert [box.get("label") for box in first] == [NAMES[i] for i in (0, 1, 1)]


def test_pictures_show_boxes_where_they_are(image: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", "pictures", found(image))
    drawn = cv2.imread(str(tmp_path / "out" / "pictures" / "one.jpg"))
    assert drawn.shape == (*SIZE, 3)
    changed = np.abs(drawn.astype(int) - 80).max(axis=2) > 40
    assert changed[2, 1:12].all()  # upper edge of the first
    assert not changed[16:28, 20:36].any()


def test_a_later_call_may_ask_for_other_formats(image: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", "csv", found(image))
    writer = Writer(tmp_path / "out", ["yolo", "pictures"], NAMES)
    with Journal(tmp_path / "out", {}) as journal:
        assert writer.finish(journal) == ([], {NAMES[0]: 1, NAMES[1]: 2})
    assert (tmp_path / "out" / "yolo" / "labels" / "one.txt").read_text().count("\n") == 3
    assert (tmp_path / "out" / "pictures" / "one.jpg").is_file()


# On the map


def write_geotiff(path: Path, **options: object) -> None:
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(
        path, "w", driver="GTiff", height=SIZE[0], width=SIZE[1], count=3, dtype="uint8", **options
    ) as file:
        file.write(np.full((3, *SIZE), 80, np.uint8))


def test_geojson_in_longitude_and_latitude(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    # Half a metre a pixel in UTM zone 32, the corner on the central meridian: 9 degrees east.
    place = rasterio.transform.from_origin(500000, 5400000, 0.5, 0.5)
    write_geotiff(tmp_path / "map.tif", crs="EPSG:32632", transform=place)
    write_geotiff(tmp_path / "plain.tif")
    problems = write(tmp_path / "out", "geojson", found(tmp_path / "map.tif"), found(tmp_path / "plain.tif"))
    assert len(problems) == 1
    assert "plain.tif is not georeferenced" in problems[0]
    data = json.loads((tmp_path / "out" / "detections.geojson").read_text())
    assert data["type"] == "FeatureCollection"
    assert [one["properties"]["class"] for one in data["features"]] == [NAMES[i] for i in (0, 1, 1)]
    whole = np.array(data["features"][1]["geometry"]["coordinates"][0])
    assert whole[0].tolist() == whole[-1].tolist()
    # 64 columns are 32 m, 48 rows 24 m; a degree is 111.2 km north, and its cosine (of 48.75) of that east.
    metres = (whole - [9, whole[:, 1].max()]) * [111_200 * np.cos(np.radians(48.75)), 111_200]
    expected = [[0, -24], [32, -24], [32, 0], [0, 0], [0, -24]]
    np.testing.assert_allclose(metres, expected, atol=0.2)
    # Counter-clockwise, as RFC 7946 wants outer rings: the shoelace sum is positive.
    x, y = metres.T
    assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0


def test_maps_without_longitude_and_latitude_are_left_out(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    place = rasterio.transform.from_origin(0, 0, 0.5, 0.5)
    write_geotiff(tmp_path / "map.tif", crs="EPSG:32632", transform=place)
    write_geotiff(tmp_path / "local.tif", crs='LOCAL_CS["arb",UNIT["metre",1]]', transform=place)
    beyond = rasterio.transform.from_origin(9e12, 9e12, 0.5, 0.5)
    write_geotiff(tmp_path / "beyond.tif", crs="EPSG:32632", transform=beyond)
    # GDAL knows no names that are no text.
    odd = tmp_path / os.fsdecode(b"caf\xe9.tif")
    (tmp_path / "map.tif").rename(odd)
    write_geotiff(tmp_path / "map.tif", crs="EPSG:32632", transform=place)
    names = ("local.tif", "beyond.tif", odd.name, "map.tif")
    problems = write(tmp_path / "out", "geojson", *(found(tmp_path / name) for name in names))
    assert [Path(problem.split(" ")[0]).name for problem in problems] == list(names[:3])
    data = json.loads((tmp_path / "out" / "detections.geojson").read_text())
    assert {one["properties"]["image"] for one in data["features"]} == {str(tmp_path / "map.tif")}


def test_control_characters_break_no_xml(tmp_path: Path) -> None:
    odd = replace(found(tmp_path / "a\x01b\nc.png"), name="a\x01b\nc")
    for text in (each.voc(odd, NAMES, tmp_path / "a.xml"), "".join(together.cvat([odd], NAMES))):
        assert r"a\x01b\nc" in ElementTree.tostring(ElementTree.fromstring(text), encoding="unicode")
    assert list(together.voc_list([odd], NAMES)) == ["a\\x01b\\nc\n"]


def test_rings_run_counter_clockwise_on_mirrored_maps() -> None:
    rasterio = pytest.importorskip("rasterio")
    mirrored = rasterio.Affine(0.001, 0, 9, 0, 0.001, 48)  # y points up in the image
    ring = geojson.to_map(np.array([[0, 0, 10, 20]], np.float32), "EPSG:4326", mirrored)[0]
    assert sorted(map(tuple, ring[:4].round(3).tolist())) == [(9, 48), (9, 48.02), (9.01, 48), (9.01, 48.02)]
    x, y = ring.T
    assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0
