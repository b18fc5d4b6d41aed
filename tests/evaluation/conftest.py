import pytest
from evaluation_cases import annotations, detections, evaluated, square


@pytest.fixture(scope="session")
def mixed():
    """Cars and vans in two images: of three cars one is found, and a false one besides; the van is found."""
    cars = [square(10, 10, 6), square(30, 10, 12), square(50, 40, 40)]
    first = detections([cars[1], square(70, 5, 8)], [0.9, 0.6], [0, 0])
    second = detections([square(5, 5, 20)], [0.8], [1])
    region = {"ignore_boxes": [square(60, 60, 20)], "ignore_labels": [-1]}
    return evaluated(
        ["car", "<van> & co"],
        (first, annotations(cars, [0, 0, 0], **region)),
        (second, annotations([square(5, 5, 20)], [1])),
    )
