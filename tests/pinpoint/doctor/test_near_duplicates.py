"""Near duplicates: found after what a second export, another exposure or a slow drone does; else not."""

import cv2
import numpy as np
import pytest

from pinpoint.doctor.near_duplicates import aligned_correlation, connected, difference_hash, find_pairs


def picture(seed, size=256):
    """Blobs, the small ones faint as in nature; as unlike any other picture as two places are."""
    rng = np.random.default_rng(seed)
    image = sum(
        cv2.resize(rng.normal(size=(n, n)), (size, size), interpolation=cv2.INTER_CUBIC) / n
        for n in (5, 9, 33)
    )
    return ((image - image.min()) / np.ptp(image) * 200 + 20).astype(np.uint8)


def thumbnail(image):
    return cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)


def encoded_again(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_GRAYSCALE)


def moved(image, angle=0.0, shift=(0, 0)):
    """The view of a camera that turned (degrees) and drifted (pixels)."""
    matrix = cv2.getRotationMatrix2D((128, 128), angle, 1)
    matrix[:, 2] += shift
    return cv2.warpAffine(image, matrix, (256, 256), borderMode=cv2.BORDER_REFLECT)


CHANGES = {
    "encoded again": encoded_again,
    "brighter": lambda image: np.clip(image * 1.2 + 10, 0, 255).astype(np.uint8),
    "shifted": lambda image: moved(image, shift=(12, 8)),  # 5 and 3 % of the side
    "cropped": lambda image: image[10:, 12:],
    "turned": lambda image: moved(image, angle=2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_finds_near_duplicates_and_nothing_else(change):
    train = [thumbnail(picture(seed)) for seed in range(40)]
    val = [thumbnail(picture(seed)) for seed in range(100, 120)]
    val[7] = thumbnail(change(picture(23)))
    pairs = find_pairs(val, train)
    assert [(pair.query, pair.other) for pair in pairs] == [(7, 23)]


def test_what_is_only_similar_is_no_duplicate():
    # Of two independent pictures of one spread, a : b, the first correlates with the mix by
    # a / sqrt(a^2 + b^2): 0.96 for 7 : 2, below what counts as the same.
    first, other = (thumbnail(picture(seed)).astype(float) for seed in (23, 24))
    mix = ((7 * first + 2 * other * first.std() / other.std()) / 9).clip(0, 255).astype(np.uint8)
    assert 0.9 < aligned_correlation(mix, first.astype(np.uint8)) < 0.97
    assert find_pairs([mix], [first.astype(np.uint8)]) == []


def test_within_a_split_the_earlier_image_is_named():
    images = [thumbnail(picture(seed)) for seed in (0, 1, 2)]
    images.append(thumbnail(encoded_again(picture(1))))
    assert [(pair.query, pair.other) for pair in find_pairs(images)] == [(3, 1)]


def test_groups_are_what_pairs_connect():
    pairs = [("d", "c"), ("b", "a"), ("f", "e"), ("c", "b"), ("a", "d")]
    assert connected(pairs) == [["a", "b", "c", "d"], ["e", "f"]]
    assert connected([]) == []
    assert connected([("a", "a"), ("c", "b"), ("a", "a")]) == [["a"], ["b", "c"]]
    chain = [(f"{k:05}", f"{k + 1:05}") for k in range(20_000)]
    assert [len(group) for group in connected([*chain, *chain[::-1]])] == [20_001]


def test_the_hash_compares_neighbours():
    # Brightness rises to the right everywhere: all 64 bits; falls everywhere: none.
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp[:, ::-1].copy()) == 0


def test_empty_images_are_like_nothing():
    black = np.zeros((64, 64), np.uint8)
    assert aligned_correlation(black, black) == 0
    assert find_pairs([black, black + 9]) == []


def test_nothing_to_compare():
    image = thumbnail(picture(0))
    assert find_pairs([]) == find_pairs([], [image]) == find_pairs([image], []) == []


def test_of_many_like_images_the_most_alike_is_named():
    noise = np.random.default_rng(0)
    train = [
        np.clip(thumbnail(picture(3)) + noise.normal(0, s, (64, 64)), 0, 255).astype(np.uint8)
        for s in (6, 1, 3)
    ]
    (pair,) = find_pairs([thumbnail(picture(3))], train)
    assert pair.other == 1
    assert pair.correlation > 0.99
