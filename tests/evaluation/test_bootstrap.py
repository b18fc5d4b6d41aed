"""Resampled scores against the scores of the resampled data set itself."""

import tracemalloc

import numpy as np
import pytest
import torch
from evaluation_cases import annotations, detections, random_image, square

from evaluation import bootstrap
from evaluation.bootstrap import SCORE_NAMES, image_weights, resampled_scores
from evaluation.coco import CocoScores, evaluate

CLASSES = ("a", "b", "c")


def gathered(images, class_names=CLASSES, max_detections=500):
    scores = CocoScores(class_names, max_detections)
    for image_id, (found, truth) in enumerate(images):
        scores.update(image_id, found, truth)
    return scores.gather()


def distinct_images(seed, count=8):
    """Random images whose scores never tie, so that the order of equal images cannot matter."""
    rng = np.random.default_rng(seed)
    images = [random_image(rng, len(CLASSES)) for _ in range(count)]
    for found, _ in images:
        found.scores = torch.from_numpy(rng.permutation(100_000)[: len(found.scores)] / 1e5).float()
    return images


@pytest.mark.parametrize("max_detections", [40, 500])
def test_weights_of_one_give_cocos_scores(max_detections):
    rng = np.random.default_rng(0)
    results = gathered([random_image(rng, len(CLASSES)) for _ in range(12)])
    expected = evaluate(results, CLASSES, max_detections)
    scores = resampled_scores(results, len(CLASSES), np.ones((1, 12)), max_detections)
    for name in SCORE_NAMES:
        np.testing.assert_allclose(scores[name][0], expected[name], atol=1e-12, err_msg=name)


def test_a_weight_is_a_number_of_copies():
    images = distinct_images(seed=1)
    weights = np.array([[0, 2, 1, 0, 3, 1, 0, 1], [1, 0, 0, 5, 0, 0, 1, 1]], dtype=float)
    scores = resampled_scores(gathered(images), len(CLASSES), weights)
    for row, weight in enumerate(weights):
        copies = [image for image, times in zip(images, weight, strict=True) for _ in range(int(times))]
        expected = evaluate(gathered(copies), CLASSES)
        for name in SCORE_NAMES:
            np.testing.assert_allclose(scores[name][row], expected[name], atol=1e-12, err_msg=name)


def test_two_images_by_hand():
    # Image 0: its object found with score 0.9. Image 1: its object missed, a false detection with score 0.95.
    images = [
        (detections([square(10, 10, 20)], [0.9], [0]), annotations([square(10, 10, 20)], [0])),
        (detections([square(60, 60, 20)], [0.95], [0]), annotations([square(10, 10, 20)], [0])),
    ]
    # Image 0 alone: AP 1. Image 1 alone: AP 0. Twice image 0: precision 2/3, recall 2/3, which 67 of the 101
    # recalls reach: the false detection comes first.
    weights = np.array([[1, 0], [0, 1], [2, 1]], dtype=float)
    scores = resampled_scores(gathered(images, ["a"]), 1, weights)
    np.testing.assert_allclose(scores["AP50"], [1, 0, 67 / 101 * 2 / 3])
    assert np.isnan(scores["AP_large"]).all()


def test_a_resample_without_objects_has_no_score():
    images = [
        (detections(), annotations()),
        (detections([square(0, 0, 9)], [0.5], [0]), annotations([square(0, 0, 9)], [0])),
    ]
    scores = resampled_scores(gathered(images, ["a"]), 1, np.array([[2, 0], [0, 2]], dtype=float))
    np.testing.assert_array_equal(scores["AP"], [np.nan, 1])


def test_no_detection_scores_zero():
    images = [(detections(), annotations([square(0, 0, 9)], [0]))]
    assert resampled_scores(gathered(images, ["a"]), 1, np.ones((3, 1)))["AP"].tolist() == [0, 0, 0]


def test_image_weights_draw_as_many_images():
    weights = image_weights(50, resamples=400)
    assert weights.shape == (400, 50)
    assert (weights.sum(axis=1) == 50).all()
    np.testing.assert_array_equal(weights, image_weights(50, resamples=400))
    # A share (1 - 1/50)^50 = 0.364 of the images is left out; 20,000 draws have a spread of 0.003.
    assert abs((weights == 0).mean() - 0.364) < 0.015


def test_memory_follows_the_detections() -> None:
    """Images times detections would be 300 MB of counts here, and as many of sums for each resample."""
    images, each = 2000, 10
    rng = np.random.default_rng(0)
    true = rng.random(images * each) < 0.9
    image = rng.permutation(np.repeat(np.arange(images), each))
    weights = image_weights(images, 5)
    expected = np.full(5, float(true.sum()))
    tracemalloc.start()
    found = bootstrap._average_precision(true, ~true, image, expected, weights)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6
    assert found == pytest.approx(0.9, abs=0.02)
