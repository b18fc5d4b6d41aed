"""predict.py as a user calls it: what it looks at, what stays when it is interrupted, what it says."""

import csv
import errno
import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import Run
from torch import Tensor

from datamodules.formats.coco import read_coco
from datamodules.images import windows
from detector.inference import Model, ModelFacts
from detector.postprocess import Detections, Postprocess
from evaluation.coco import CocoScores
from evaluation.files import write_whole
from pinpoint.__main__ import main as pinpoint
from pinpoint.cli import evaluate
from pinpoint.predict import predict as command
from pinpoint.predict.__main__ import main
from pinpoint.predict.outputs import each
from pinpoint.predict.video import VideoWriter

FACTS = ModelFacts(("red", "pink"), (48, 64), (0.5, 0.5), Postprocess().arguments())


class Eye:
    """A detector of a reddish rectangle: its bounds, class by its green, score by its red."""

    def __init__(self) -> None:
        self.seen = 0
        self.fails_at: int | None = None

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes = torch.full((len(images), 1, 2), -20.0), torch.zeros(len(images), 1, 4)
        for b, image in enumerate(images):
            if self.seen == self.fails_at:
                raise KeyboardInterrupt
            self.seen += 1
            ys, xs = torch.nonzero(image[0].int() - image[2].int() > 60, as_tuple=True)
            if len(xs):
                y, x = int(ys.float().mean()), int(xs.float().mean())
                score = image[0, y, x] / 256
                logits[b, 0, int(image[1, y, x] > 60)] = torch.logit(score)
                boxes[b, 0] = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        return logits, boxes


@pytest.fixture
def eye(monkeypatch: pytest.MonkeyPatch) -> Eye:
    """In the place of whatever file is given."""
    eye = Eye()
    monkeypatch.setattr(command, "load", lambda path, device: Model(eye, FACTS))
    return eye


def photo(x: int, y: int, red: int = 230, green: int = 0) -> np.ndarray:
    """64x48 grey with a rectangle of 12x8 at (x, y); RGB."""
    image = np.full((48, 64, 3), 70, np.uint8)
    image[y : y + 8, x : x + 12] = red, green, 20
    return image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images, a.png to j.png, each with a rectangle 4 px farther to the right."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(10):
        cv2.imwrite(str(folder / f"{'abcdefghij'[i]}.png"), photo(4 * i, 9)[..., ::-1])
    return folder


def predict(photos: Path, output: Path, *options: str) -> int:
    return main([str(photos), "--ckpt_path", "any.ckpt", "--output", str(output), *options])


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "detections.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_folder(eye: Eye, photos: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "out"
    assert predict(photos, output) == 0
    assert "10 of 10 images and videos are done: 10 red, 0 pink" in capsys.readouterr().out
    assert [Path(row["image"]).name[0] for row in rows(output)] == list("abcdefghij")
    assert [float(row["x1"]) for row in rows(output)] == [4 * i for i in range(10)]
    assert {(row["y1"], row["y2"], row["class"]) for row in rows(output)} == {("9.00", "17.00", "red")}
    assert len(list((output / "pictures").iterdir())) == 10


def test_thresholds_of_all_and_by_class(eye: Eye, photos: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(photos / "k.png"), photo(3, 3, red=100, green=90)[..., ::-1])  # pink, score 0.39
    predict(photos, tmp_path / "1", "--save", "csv")
    assert len(rows(tmp_path / "1")) == 10
    predict(photos, tmp_path / "2", "--save", "csv", "--threshold", "0.3")
    assert len(rows(tmp_path / "2")) == 11
    predict(photos, tmp_path / "3", "--save", "csv", "--threshold", "0.95", "pink=0.3")
    assert [row["class"] for row in rows(tmp_path / "3")] == ["pink"]


# Files that are broken


def test_files_that_cannot_be_read_are_named_at_the_end(
    eye: Eye, photos: Path, tmp_path: Path, capsys
) -> None:
    (photos / "b.png").write_bytes(b"")
    (photos / "d.png").write_bytes((photos / "d.png").read_bytes()[:60])
    (photos / "list.txt").write_text("a.png\nb.png\ngone.png\nd.png\nclip.mp4\nc.png")
    (photos / "clip.mp4").write_bytes(b"not a video")
    pytest.importorskip("av")
    assert predict(photos / "list.txt", tmp_path / "out", "--save", "csv") == 1
    told = capsys.readouterr()
    assert "2 of 6 images and videos are done" in told.out
    problems = [line for line in told.err.splitlines() if str(photos) in line]
    assert [Path(line.split(" ")[0]).name for line in problems] == ["b.png", "gone.png", "d.png", "clip.mp4"]
    assert [Path(row["image"]).name for row in rows(tmp_path / "out")] == ["a.png", "c.png"]


def test_a_video(eye: Eye, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with VideoWriter(tmp_path / "clip.mp4", 10) as video:
        for t in range(12):
            video.add(photo(2 * t, 9))
    assert predict(tmp_path / "clip.mp4", tmp_path / "out", "--track", "--batch_size", "5") == 0
    found = rows(tmp_path / "out")
    assert [int(row["frame"]) for row in found] == list(range(12))
    assert {row["track"] for row in found} == {"1"}
    assert np.abs([float(row["x1"]) - 2 * t for t, row in enumerate(found)]).max() <= 1
    with av.open(str(tmp_path / "out" / "videos" / "clip.mp4")) as drawn:
        assert sum(1 for _ in drawn.decode(video=0)) == 12
    # Once more, nothing is looked at; but without its drawn video it is.
    seen = eye.seen
    predict(tmp_path / "clip.mp4", tmp_path / "out", "--track")
    assert eye.seen == seen
    (tmp_path / "out" / "videos" / "clip.mp4").unlink()
    predict(tmp_path / "clip.mp4", tmp_path / "out", "--track")
    assert eye.seen == 2 * seen
    assert rows(tmp_path / "out") == found


# Going on


@pytest.mark.parametrize("track", [[], ["--track"]])
def test_an_interrupted_folder_is_gone_on_with(eye: Eye, photos: Path, tmp_path: Path, capsys, track) -> None:
    predict(photos, tmp_path / "whole", "--save", "csv", "yolo", "--batch_size", "2", *track)
    eye.seen, eye.fails_at = 0, 5
    options = ["--save", "csv", "yolo", "--batch_size", "2", *track]
    assert predict(photos, tmp_path / "out", *options) == 130
    assert "4 of 10 are done: the same command goes on" in capsys.readouterr().err
    assert len(list((tmp_path / "out" / "yolo" / "labels").iterdir())) == 4
    eye.seen, eye.fails_at = 0, None
    assert predict(photos, tmp_path / "out", *options) == 0
    assert eye.seen == 6
    assert "10 of 10 images and videos are done, 4 of them before" in capsys.readouterr().out
    assert (tmp_path / "out" / "detections.csv").read_text() == (
        tmp_path / "whole" / "detections.csv"
    ).read_text()


def test_other_arguments_do_not_mix(eye: Eye, photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out", "--save", "csv")
    with pytest.raises(ValueError, match=r"other arguments \(threshold \[0.3, 0.3\], before \[0.5, 0.5\]\)"):
        predict(photos, tmp_path / "out", "--save", "csv", "--threshold", "0.3")
    assert predict(photos, tmp_path / "out", "--save", "csv", "--threshold", "0.3", "--restart") == 0
    assert eye.seen == 20


def test_a_later_call_overwrites_nothing(eye: Eye, photos: Path, tmp_path: Path) -> None:
    output, other = tmp_path / "out", tmp_path / "other"
    predict(photos, output, "--save", "csv", "yolo", "coco")
    other.mkdir()
    cv2.imwrite(str(other / "a.png"), photo(40, 30)[..., ::-1])
    assert predict(other, output, "--save", "csv", "yolo", "coco") == 0
    folder = output / "yolo" / "labels"
    labels = {path.relative_to(folder).as_posix() for path in folder.rglob("*.txt")}
    assert labels == {f"{name}.txt" for name in (*"abcdefghij", "other/a")}
    assert float((folder / "a.txt").read_text().split()[1]) < 0.2  # of the first call
    described = json.loads((output / "coco.json").read_text())["images"]
    assert len({image["file_name"] for image in described}) == 11


def test_a_restart_forgets_half_an_image_too(
    eye: Eye, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rasterio")
    monkeypatch.setattr(windows, "DECODED_WHOLE", 1000)
    image = tmp_path / "large.png"
    cv2.imwrite(str(image), np.tile(photo(20, 9), (2, 2, 1))[..., ::-1])
    tiled = ["--save", "csv", "--merge", "nms", "--overlap", "0.1"]
    predict(image, tmp_path / "clean", *tiled, "--tile", "48")
    eye.seen, eye.fails_at = 0, 3
    assert predict(image, tmp_path / "out", *tiled, "--tile", "32", "--batch_size", "1") == 130
    assert (tmp_path / "out" / "unfinished.jsonl").exists()
    eye.fails_at = None
    assert predict(image, tmp_path / "out", *tiled, "--tile", "48", "--restart") == 0
    assert rows(tmp_path / "out") == rows(tmp_path / "clean")


def test_a_restart_leaves_no_files_of_before(eye: Eye, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    predict(photos, output, "--save", "csv", "coco", "yolo", "pictures", "--threshold", "0.3")
    (output / "mine.txt").write_text("mine")
    for path in photos.glob("[c-j].png"):
        path.unlink()
    assert predict(photos, output, "--save", "csv", "--restart", "--threshold", "0.99") == 0
    left = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert left == {"mine.txt", "detections.csv", "detections.jsonl", ".detections.jsonl.lock"}
    assert predict(photos, output, "--save", "csv", "yolo", "--threshold", "0.99") == 0
    assert [path.read_text() for path in sorted((output / "yolo" / "labels").iterdir())] == ["", ""]


def test_a_video_of_an_earlier_call_stays(eye: Eye, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    with VideoWriter(tmp_path / "clip.mp4", Fraction(10)) as video:
        video.add(photo(20, 9))
    assert predict(tmp_path / "clip.mp4", tmp_path / "out", "--save", "csv") == 0
    assert predict(photos, tmp_path / "out") == 0  # drawn videos too, but this one is not of this call
    assert Path(rows(tmp_path / "out")[0]["image"]).name == "clip.mp4"
    assert len(rows(tmp_path / "out")) == 11


def test_what_cannot_be_shown_stops_nothing(eye: Eye, photos: Path, tmp_path: Path, capsys) -> None:
    av = pytest.importorskip("av")
    for name in "bcdefghij":
        (photos / f"{name}.png").unlink()
    with av.open(str(photos / "blank.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(photo(8, 9), format="rgb24")))
        container.mux(stream.encode())
    data = (photos / "blank.mp4").read_bytes()
    start = data.index(b"mdat") + 4
    (photos / "blank.mp4").write_bytes(data[:start] + bytes(len(data) - start))
    cv2.imwrite(str(photos / "long.png"), np.full((3, 66_000, 3), 70, np.uint8))
    name = f"{'n' * 251}.png"
    cv2.imwrite(str(photos / name), photo(8, 9)[..., ::-1])
    for _ in range(2):  # the same is said again
        assert predict(photos, tmp_path / "out", "--save", "csv", "pictures", "video", "labelme") == 1
        told = capsys.readouterr()
        assert "2 of 4 images and videos are done" in told.out
        problems = [line.split(": ")[0] for line in told.err.splitlines() if str(photos) in line]
        assert problems == [
            f"{photos / name}",
            f"{photos / 'blank.mp4'} has no picture that can be decoded",
        ]
    assert cv2.imread(str(tmp_path / "out" / "pictures" / "long.jpg")).shape == (1, 8192, 3)


def test_a_full_disk_leaves_what_is_done(eye: Eye, photos: Path, tmp_path: Path, monkeypatch) -> None:
    written = []

    def write(path: Path, content: object) -> None:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write_whole(path, content)

    options = ["--save", "labelme", "--batch_size", "2"]
    with monkeypatch.context() as patch:
        patch.setattr("pinpoint.predict.outputs.writer.write_whole", write)
        with pytest.raises(
            ValueError, match=r"the disk is full.*3 of 10 are done, and the same command goes on"
        ):
            predict(photos, tmp_path / "out", *options)
    eye.seen = 0
    assert predict(photos, tmp_path / "out", *options) == 0
    assert eye.seen == 7
    assert len(list((tmp_path / "out" / "labelme").iterdir())) == 10


def test_a_folder_that_cannot_be_written_to(eye: Eye, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/out cannot be written to \(Not a directory\)"):
        predict(photos, tmp_path / "file" / "out")
    assert eye.seen == 0


# The command line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to look at"),
        (["a.png", "--save", "cocos"], "did you mean coco"),
        (["a.png", "--save", "xls"], "there are pictures, video"),
        (["--save", "csv", "."], r"what to look at comes first: predict.py \. --save csv"),
        (["a.png", "--threshold", "high"], "high is no score"),
        (["a.png", "--threshold", "person=40"], "not between 0 and 1"),
        (["a.png", "--batch_size", "0"], "at least 1"),
    ],
)
def test_command_lines_that_do_not_work(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main([*options, "--ckpt_path", "best.ckpt"])


def test_every_word_of_save_writes_something() -> None:
    from pinpoint.predict.__main__ import FORMATS
    from pinpoint.predict.outputs.together import TOGETHER

    together = {word for word, _ in TOGETHER.values()}
    assert set(FORMATS) == {*each.EACH, *together, "pictures", "video", "geojson"}


@pytest.mark.parametrize("name", ["other.ckpt", "plain.onnx"])
def test_models_of_others(name: str, photos: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    if name == "other.ckpt":
        torch.save({"model": {}, "epoch": 3}, tmp_path / name)
        message = "was not written by train.py"
    else:
        onnx = pytest.importorskip("onnx")
        value = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1])
        node = onnx.helper.make_node("Identity", ["images"], ["out"])
        out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1])
        graph = onnx.helper.make_graph([node], "plain", [value], [out])
        opset = [onnx.helper.make_opsetid("", 18)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / name)
        message = "was not written by export.py"
    monkeypatch.delenv("PINPOINT_TRACEBACK")
    with pytest.raises(SystemExit) as exit_:
        pinpoint(
            ["predict", str(photos), "--ckpt_path", str(tmp_path / name), "--output", str(tmp_path / "out")]
        )
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# The same numbers as evaluate.py


def test_coco_json_scores_as_evaluate_does(run: Run, tmp_path: Path) -> None:
    evaluate.main([f"--ckpt_path={run.last}", f"--output={tmp_path}", "--no-report", "--data.num_workers=0"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    file = max((run.folder.parents[1] / "scenes").rglob("*-val3/annotations.json"))
    options = ["--save", "coco", "--threshold", "0.001", "--device", "cpu", "--ckpt_path", str(run.last)]
    assert main([str(file.parent / "images"), "--output", str(tmp_path / "out"), *options]) == 0
    data = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [category["name"] for category in data["categories"]] == ["person", "car", "truck"]
    assert len(data["annotations"]) > 100

    truth = read_coco(file, file.parent / "images", ["ignored"], [one["name"] for one in data["categories"]])
    numbers = {image["file_name"]: image["id"] for image in data["images"]}
    scores = CocoScores(truth.class_names)
    for record in truth.images:
        mine = [row for row in data["annotations"] if row["image_id"] == numbers[record.info.file_name]]
        boxes = torch.tensor([row["bbox"] for row in mine], dtype=torch.float64)
        boxes[:, 2:] += boxes[:, :2]
        found = Detections(
            boxes.float(),
            torch.tensor([row["score"] for row in mine]),
            torch.tensor([row["category_id"] - 1 for row in mine]),
        )
        scores.update(record.info.image_id, found, record.annotations)
    for name, value in scores.compute().items():
        assert value == pytest.approx(
            metrics[name] if metrics[name] is not None else np.nan, abs=1e-6, nan_ok=True
        ), name
