"""The page that shows an analysis and its figures."""

from html.parser import HTMLParser

import numpy as np
import pytest
from evaluation_cases import annotations, detections, evaluated, square

from evaluation.report.page import write_report

NAMES = ["car", "<van> & co"]
FILES = {11: "a/<first>.jpg", 12: "second.jpg", 13: "third.jpg"}


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
    page, _, _ = write(tmp_path, evaluated(NAMES, *images))
    assert "nan" not in " ".join(page.words)
