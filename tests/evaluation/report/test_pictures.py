"""Pictures of images: of any shape, with classes of any name, the worst ones, the gallery."""

import io

import numpy as np
import pytest
from evaluation_cases import annotations, detections, evaluated, square
from PIL import Image

from evaluation.report.figures import draw_all, draw_figures
from evaluation.report.page import write_report
from evaluation.report.pictures import draw_gallery, draw_image, worst_images
from evaluation.report.words import printable

RISKY = ["note $_$ $x^2$", "_hidden", "行人", "a" * 60, "100 % \\frac{"]


def one_image(names, box):
    found = detections([box, square(0, 0, 9)], [0.9, 0.4], [0, len(names) - 1])
    return evaluated(names, (found, annotations([box, square(0, 0, 5)], [0, 0])))


def png_size(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).size


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (100, 200, (700, 350)),  # small images are enlarged to half the longest side
        (2, 30000, (1400, 56)),
        (30000, 2, (56, 1400)),
        (1, 1, (700, 700)),
        (3000, 3000, (1400, 1400)),
    ],
)
def test_pictures_are_bounded_whatever_the_shape(height: int, width: int, size: tuple[int, int]) -> None:
    results, _, analysis = one_image(["car"], [0, 0, width, height])
    pixels = np.zeros((height, width, 3), np.uint8)
    assert png_size(draw_image(results, analysis.shown, 0, pixels, ["car"])) == size
    gallery = draw_gallery(results, analysis.shown, lambda _: pixels)
    assert max(png_size(gallery)) < 1100


@pytest.mark.parametrize("bands", [1, 2, 4, 8])
def test_grey_and_multiband_images_are_drawn(bands: int) -> None:
    results, _, analysis = one_image(["car"], [0, 0, 9, 9])
    pixels = np.full((64, 64, bands), 77, np.uint8)
    png_size(draw_image(results, analysis.shown, 0, pixels, ["car"]))
    png_size(draw_gallery(results, analysis.shown, lambda _: pixels))


def test_names_are_written_as_they_are(recwarn: pytest.WarningsRecorder) -> None:
    assert printable(["car", "a $b$", "_x", "行人", "two\nlines"]) == [
        "car",
        r"a \$b\$",
        " _x",
        "class 3",
        "two lines",
    ]
    assert len(printable(["a" * 60])[0]) == 28
    results, scores, analysis = one_image(RISKY, square(10, 10, 30))
    for figure in draw_all(results, scores, analysis, lambda _: np.zeros((64, 64, 3), np.uint8)).values():
        png_size(figure)
    assert [str(w.message) for w in recwarn if "Glyph" in str(w.message) or "drawn" in str(w.message)] == []


def test_a_legend_leaves_no_class_out() -> None:
    _, scores, analysis = one_image(RISKY, square(10, 10, 30))
    (legend,) = draw_figures(analysis, scores)["curves"].legends
    assert len(legend.get_texts()) == len(RISKY)


def test_a_picture_that_cannot_be_drawn_is_left_out(tmp_path) -> None:
    def broken(image_id: int) -> np.ndarray:
        raise OSError("the disk is gone")

    evaluation = one_image(["car"], square(10, 10, 30))
    with pytest.warns(UserWarning, match=r"worst_1 cannot be drawn: OSError: the disk is gone"):
        write_report(tmp_path, "title", *evaluation, broken, {11: "a.jpg"})
    assert not (tmp_path / "figures" / "worst_1.png").exists()
    assert (tmp_path / "figures" / "sizes.png").exists()
    assert "</html>" in (tmp_path / "report.html").read_text()


def test_worst_images_have_most_errors():
    # Errors: none, two missed, one missed and two false.
    car, false = square(10, 10, 10), square(50, 50, 10)
    results, _, analysis = evaluated(
        ["car"],
        (detections([car], [0.9], [0]), annotations([car], [0])),
        (detections(), annotations([car, false], [0, 0])),
        (detections([false, square(80, 80, 9)], [0.95, 0.95], [0, 0]), annotations([car], [0])),
    )
    assert worst_images(results, analysis.shown, 5).tolist() == [2, 1]
    assert worst_images(results, analysis.shown, 1).tolist() == [2]


def test_gallery_has_a_row_for_found_and_missed_of_each_size(mixed):
    # Missed: 6 and 40 px; found: 12 and 20 px.
    results, _, analysis = mixed
    figure = draw_gallery(results, analysis.shown, lambda _: np.zeros((100, 100, 3), np.uint8))
    titles = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert titles == ["< 8 px, missed\n1", "8-16 px, found\n1", "16-32 px, found\n1", "32-96 px, missed\n1"]
    # The 6 px object at 10..16 is cut out at 13 +- 18 px, clipped to the image.
    assert figure.axes[0].images[0].get_extent() == [-0.5, 30.5, 30.5, -0.5]


def test_nothing_to_show():
    results, _, analysis = evaluated(["car"])
    assert draw_gallery(results, analysis.shown, lambda _: None) is None
