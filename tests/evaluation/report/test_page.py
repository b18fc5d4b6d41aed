"""The analysis, its figures and the page that shows them."""

import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluation_cases import annotations, detections, square

from evaluation.analysis import analyse
from evaluation.coco import CocoScores
from evaluation.errors import ERRORS
from evaluation.report.figures import draw_figures
from evaluation.report.page import write_report
from evaluation.report.pictures import draw_gallery, worst_images
from evaluation.report.text import write_metrics

NAMES = ["car", "<van> & co"]
FILES = {11: "a/<first>.jpg", 12: "second.jpg", 13: "third.jpg"}


def evaluated(*images):
    metric = CocoScores(NAMES)
    for image_id, image in enumerate(images, 11):
        metric.update(image_id, *image)
    results = metric.gather()
    return results, metric.compute(), analyse(results, NAMES)


@pytest.fixture(scope="module")
def mixed():
    """Two images: in the first, one car of three is found and a false one besides; the second is perfect."""
    cars = [square(10, 10, 6), square(30, 10, 12), square(50, 40, 40)]
    first = detections([cars[1], square(70, 5, 8)], [0.9, 0.6], [0, 0])
    second = detections([square(5, 5, 20)], [0.8], [1])
    region = {"ignore_boxes": [square(60, 60, 20)], "ignore_labels": [-1]}
    return evaluated(
        (first, annotations(cars, [0, 0, 0], **region)), (second, annotations([square(5, 5, 20)], [1]))
    )


class Page(HTMLParser):
    """Collects tags, checks that they nest, and keeps what the page refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def write(folder, evaluation):
    shown = []

    def load_image(image_id):
        shown.append(image_id)
        return np.full((100, 100, 3), 128, np.uint8)

    write_report(folder, "Cars & vans", *evaluation, load_image, FILES)
    text = (folder / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.open == []
    # Nothing is fetched from anywhere.
    assert all(reference.startswith("data:image/png;base64,") for reference in page.references)
    assert "http" not in text.replace(";base64,", "").split("<body>")[0]
    written = sorted(path.name for path in (folder / "figures").iterdir())
    assert len(written) == len(page.references)
    return page, written, shown


def test_report_shows_everything(tmp_path, mixed):
    page, written, shown = write(tmp_path, mixed)
    names = ["calibration", "confusion", "crowding", "curves", "errors", "gallery", "size_confusion", "sizes"]
    assert written == sorted([f"{name}.png" for name in names] + ["worst_1.png"])
    # The perfect image is none of the worst, but its object is in the gallery.
    assert shown[0] == 11
    assert set(shown) == {11, 12}
    words = " ".join(page.words)
    assert "2 images, 4 objects, 3 detections" in words
    assert "<van> & co" in words
    assert "nan" not in words


@pytest.mark.parametrize(
    "images",
    [
        [],
        [(detections(), annotations())],
        [(detections([square(0, 0, 10)], [0.5], [0]), annotations())],
        [(detections(), annotations([square(0, 0, 10)], [0]))],
    ],
)
def test_report_of_little(tmp_path, images):
    page, _, _ = write(tmp_path, evaluated(*images))
    assert "nan" not in " ".join(page.words)


def test_analysis_counts_errors(mixed):
    _, _, analysis = mixed
    assert analysis.objects.tolist() == [3, 1]
    assert analysis.error_counts == dict.fromkeys(ERRORS, 0) | {"background": 1, "missed": 2}
    assert analysis.thresholds.tolist() == pytest.approx([0.9, 0.8])
    # Above the threshold 0.9 the false car is gone.
    assert analysis.confusion.tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]


def test_metrics_of_the_analysis_are_json(tmp_path, mixed):
    _, scores, analysis = mixed
    write_metrics(tmp_path / "metrics.json", scores | analysis.metrics())
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert metrics["best_f1"]["car"] == pytest.approx(
        {"threshold": 0.9, "f1": 0.5, "precision": 1, "recall": 1 / 3}
    )
    assert metrics["error_costs"]["large"]["missed"] is None
    assert metrics["confusion"]["counts"] == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]
    # Car 1 (6 px, car 2 is 23 px away: more than three sides) and the van are alone; the van is found.
    assert metrics["recall_by_crowding"]["0"] == {"objects": 2, "recall": 0.5}


def test_worst_images_have_most_errors():
    # Errors: none, two missed, one missed and two false.
    car, false = square(10, 10, 10), square(50, 50, 10)
    results, _, analysis = evaluated(
        (detections([car], [0.9], [0]), annotations([car], [0])),
        (detections(), annotations([car, false], [0, 0])),
        (detections([false, square(80, 80, 9)], [0.95, 0.95], [0, 0]), annotations([car], [0])),
    )
    assert worst_images(results, analysis.shown, 5).tolist() == [2, 1]
    assert worst_images(results, analysis.shown, 1).tolist() == [2]


def test_figures_for_tensorboard(mixed):
    results, scores, analysis = mixed
    figures = draw_figures(analysis, scores)
    assert set(figures) == {
        "sizes",
        "errors",
        "curves",
        "confusion",
        "size_confusion",
        "calibration",
        "crowding",
    }
    heights = [bar.get_height() for bar in figures["crowding"].axes[0].patches]
    assert heights == np.nan_to_num(analysis.crowding[1]).tolist()
    bars = {
        text.get_text(): bar.get_width()
        for text, bar in zip(
            figures["errors"].axes[0].get_yticklabels(), figures["errors"].axes[0].patches, strict=True
        )
    }
    assert bars == pytest.approx({name: analysis.error_costs["all"][name] for name in ERRORS})
    assert draw_gallery(results, analysis.shown, lambda _: np.zeros((100, 100, 3), np.uint8)) is not None


def test_gallery_has_a_row_for_found_and_missed_of_each_size(mixed):
    # Missed: 6 and 40 px; found: 12 and 20 px.
    results, _, analysis = mixed
    figure = draw_gallery(results, analysis.shown, lambda _: np.zeros((100, 100, 3), np.uint8))
    titles = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert titles == ["< 8 px, missed\n1", "8-16 px, found\n1", "16-32 px, found\n1", "32-96 px, missed\n1"]
    # The 6 px object at 10..16 is cut out at 13 +- 18 px, clipped to the image.
    assert figure.axes[0].images[0].get_extent() == [-0.5, 30.5, 30.5, -0.5]


def test_nothing_to_show():
    results, _, analysis = evaluated()
    assert draw_gallery(results, analysis.shown, lambda _: None) is None
    assert math.isnan(analysis.calibration.error)
