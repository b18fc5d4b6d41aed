from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_cases import SIZE, THREE_SHAPES, batched, keys, record

from datamodules.loading.samplers import (
    STRIDE,
    EvalSampler,
    RectangularEvalSampler,
    Sampling,
    TrainSampler,
    canvases,
    repeat_factors,
    round_at_random,
)
from datamodules.transforms.augment import Augment

# -------------------------------------------------------------------------------------- without sampling


def test_an_epoch_shows_each_image_at_most_once_in_whole_batches():
    # 23 images in batches of 5: 4 batches, 3 images wait for another epoch.
    first = keys(23, 5, seed=0)
    assert len(first) == 20
    assert len({key.index for key in first}) == 20
    assert {key.epoch for key in first} == {0}


def test_without_sampling_the_order_is_that_of_earlier_versions():
    # Runs of a seed stay what they were: these numbers come from the version before `Sampling`.
    order = [18, 4, 20, 10, 11, 2, 21, 6, 19, 3, 22, 8, 0, 12, 16, 13, 7, 5, 17, 14]
    assert [(key.index, key.size, key.copy) for key in keys(23, 5, seed=0)] == [(i, SIZE, 0) for i in order]
    second_of_two = [10, 8, 2, 18, 3, 7, 19, 17, 14, 0]
    assert [key.index for key in keys(23, 5, 0, rank=1, world_size=2, epoch=3)] == second_of_two


def test_keys_carry_their_epoch():
    assert {key.epoch for key in keys(23, 5, seed=0, epoch=3)} == {3}


def test_images_left_out_change_with_the_epoch():
    shown = set()
    for epoch in range(10):
        shown |= {key.index for key in keys(23, 5, seed=0, epoch=epoch)}
    assert shown == set(range(23))


def test_order_depends_on_seed_and_epoch_alone():
    assert keys(50, 4, seed=1) == keys(50, 4, seed=1)
    assert keys(50, 4, seed=1) != keys(50, 4, seed=2)
    order = [key.index for key in keys(50, 4, seed=1)]
    assert order != [key.index for key in keys(50, 4, seed=1, epoch=1)]


@pytest.mark.parametrize(("length", "world_size"), [(23, 2), (64, 4), (3, 2), (1, 4), (7, 8)])
def test_ranks_have_equal_shards_that_share_no_image_when_there_are_enough(length, world_size):
    shards = [keys(length, 2, 0, rank, world_size) for rank in range(world_size)]
    assert len({len(shard) for shard in shards}) == 1
    assert len(shards[0]) >= 1
    indices = [key.index for shard in shards for key in shard]
    if length >= 2 * world_size:
        assert len(set(indices)) == len(indices)
        assert len(shards[0]) % 2 == 0
    else:  # a few images are shown twice, so that no rank waits for ever
        assert set(indices) == set(range(length))


def test_set_smaller_than_a_batch_is_one_short_batch():
    assert sorted(key.index for key in keys(3, 16, seed=0)) == [0, 1, 2]


def test_resume_skips_what_was_seen_in_the_first_epoch_only():
    sampler = TrainSampler([record()] * 20, SIZE, 4, seed=0, epoch=2, start_batch=3)
    assert list(sampler) == keys(20, 4, seed=0, epoch=2)[12:]
    assert len(sampler) == 20  # the whole epoch, or Lightning would end it early
    sampler.set_epoch(2)
    assert list(sampler) == keys(20, 4, seed=0, epoch=2)[12:]
    sampler.set_epoch(3)
    assert list(sampler) == keys(20, 4, seed=0, epoch=3)


# ------------------------------------------------------------------------------- all kinds, all together

images_of_any_kind = st.lists(
    st.builds(
        record,
        st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from([(100, 100), (90, 160), (160, 90), (100, 130), (30, 300)]),
    ),
    min_size=1,
    max_size=40,
)
any_sampling = st.builds(
    Sampling,
    st.none() | st.floats(0.05, 1),
    st.none() | st.floats(0, 0.6),
    st.booleans(),
    st.none() | st.just((0.5, 2.0)),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(images_of_any_kind, any_sampling, st.integers(1, 5), st.integers(1, 8), st.integers(0, 3), st.data())
def test_ranks_agree_and_a_resumed_epoch_goes_on(images, sampling, batch_size, world_size, epoch, data):
    try:
        factors = sampling.factors([image.annotations.labels for image in images])
    except ValueError:
        return  # no such background
    size = (64, 96)
    samplers = [
        TrainSampler(images, size, batch_size, 5, rank, world_size, epoch, sampling=sampling)
        for rank in range(world_size)
    ]
    shards = [list(sampler) for sampler in samplers]
    assert shards == [list(sampler) for sampler in samplers]

    # Every rank makes the same steps, on one canvas a step.
    assert {len(shard) for shard in shards} == {len(samplers[0])}
    steps = [batched(shard, batch_size) for shard in shards]
    for step in zip(*steps, strict=True):
        (canvas,) = {key.size for batch in step for key in batch}
        if sampling.rectangular or sampling.multi_scale:
            assert canvas[0] % STRIDE == canvas[1] % STRIDE == 0
        else:
            assert canvas == size

    # No showing twice, as long as there is a whole batch for every rank; none more than the factors say.
    shown = Counter((key.index, key.copy) for shard in shards for key in shard)
    whole = len(samplers[0]) >= batch_size and factors.sum() >= batch_size * world_size
    if whole:
        assert max(shown.values()) == 1
    assert all(copy < np.ceil(factors[index]) for index, copy in shown)

    # Resumed at any batch, and the next epoch like a fresh one.
    rank, start = data.draw(st.integers(0, world_size - 1)), data.draw(st.integers(0, len(steps[0])))
    resumed = TrainSampler(images, size, batch_size, 5, rank, world_size, epoch, start, sampling)
    assert list(resumed) == shards[rank][start * batch_size :]
    assert len(resumed) == len(samplers[0])
    resumed.set_epoch(epoch + 1)
    fresh = TrainSampler(images, size, batch_size, 5, rank, world_size, epoch + 1, sampling=sampling)
    assert list(resumed) == list(fresh)
    assert len(list(fresh)) == len(fresh) == len(samplers[0])  # Lightning plans with one length


@settings(derandomize=True, deadline=None, max_examples=15)
@given(images_of_any_kind, any_sampling, st.integers(1, 5), st.integers(1, 3))
def test_every_image_comes_as_often_as_its_factor_says(images, sampling, batch_size, world_size):
    labels = [image.annotations.labels for image in images]
    try:
        factors = sampling.factors(labels)
    except ValueError:
        return
    epochs, shown = 600, Counter()
    for rank in range(world_size):
        sampler = TrainSampler(images, (64, 64), batch_size, 1, rank, world_size, sampling=sampling)
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            shown.update(key.index for key in sampler)
    # Images wait for whole batches, or fill them up, all with the same probability.
    expected = factors * len(sampler) * world_size / factors.sum()
    mean = np.array([shown[i] / epochs for i in range(len(images))])
    # A count deviates by less than 1/2 for its rounding and 1/2 for its waiting, so a mean by 1 / sqrt(600)
    # = 0.04; more where a small set fills a large batch several times over.
    assert np.abs(mean - expected).max() < 0.16 * max(1, expected.max())


# ---------------------------------------------------------------------------------------- repeat factors


def test_repeat_factors_by_hand():
    # Class 0 is in 4 of 5 images, class 1 in one (twice there, which counts once), class 3 in one; class 2 in
    # none. Threshold 0.8: 0.8 / 0.8 = 1 and 0.8 / 0.2 = 4, whose root is 2.
    labels = [np.array(own, dtype=np.int64) for own in ([0], [0, 0], [0, 1, 1], [3, 0], [])]
    np.testing.assert_allclose(repeat_factors(labels, 0.8), [1, 1, 2, 2, 1])
    # 0.4 / 0.2 = 2; class 0 is far from rare.
    np.testing.assert_allclose(repeat_factors(labels, 0.4), [1, 1, 2**0.5, 2**0.5, 1])


def test_repeat_factors_of_images_without_objects_are_one():
    assert repeat_factors([np.zeros(0, np.int64)] * 3, 0.5).tolist() == [1, 1, 1]


def test_repeated_images_are_numbered_and_the_epoch_gets_longer():
    # 9 images with class 0 and one with class 1, threshold 0.4: factor sqrt(0.4 / 0.1) = 2; 11 showings.
    images, distances = [record([0])] * 9 + [record([1])], []
    for epoch in range(100):
        found = keys(images, 1, 0, epoch=epoch, sampling=Sampling(repeat_threshold=0.4))
        assert len(found) == 11
        assert {key.copy for key in found if key.index == 9} == {0, 1}
        assert {key.copy for key in found if key.index != 9} == {0}
        first, second = (place for place, key in enumerate(found) if key.index == 9)
        distances.append(second - first)
    # Two of eleven places at random are 4 apart on average, with a deviation of 2.4.
    assert abs(np.mean(distances) - 4) < 1


def test_fractions_are_rounded_anew_each_epoch_and_the_sum_is_kept():
    factors = np.array([1.5] * 10 + [2.25] * 4 + [1.0])
    drawn = [round_at_random(factors, np.random.default_rng(seed)) for seed in range(50)]
    assert {counts.sum() for counts in drawn} == {25}  # 15 + 9 + 1
    assert len({tuple(counts) for counts in drawn}) > 40
    assert all((counts >= np.floor(factors)).all() and (counts <= np.ceil(factors)).all() for counts in drawn)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 3), min_size=1, max_size=20))
def test_random_rounding_keeps_the_mean(factors):
    factors, rng = np.array(factors), np.random.default_rng(0)
    mean = np.mean([round_at_random(factors, rng) for _ in range(2000)], axis=0)
    # The deviation of one draw is at most 1/2, of the mean 1/2 / sqrt(2000) = 0.011.
    np.testing.assert_allclose(mean, factors, atol=0.05)


def test_rounding_whole_numbers_draws_nothing():
    rng = np.random.default_rng(0)
    assert round_at_random(np.array([1.0, 0.0, 3.0]), rng).tolist() == [1, 0, 3]
    assert rng.random() == np.random.default_rng(0).random()


# -------------------------------------------------------------------------------------------- background

MIXED = [record([0])] * 6 + [record([])] * 10


@pytest.mark.parametrize(
    ("share", "background"),
    [
        (0, 0),
        (0.25, 2),  # 2 of 8
        (0.8, 24),  # 24 of 30: each of the ten 2 or 3 times
    ],
)
def test_background_has_its_share_beside_every_image_with_objects(share, background):
    epochs = [keys(MIXED, 1, 0, epoch=e, sampling=Sampling(background=share)) for e in range(30)]
    for found in epochs:
        shown = Counter(key.index for key in found)
        assert all(shown[i] == 1 for i in range(6))
        assert sum(shown[i] for i in range(6, 16)) == background
    if background:
        assert {key.index for found in epochs for key in found} == set(range(16))  # each in its turn


def test_background_counts_repeated_images():
    # Both classes are in 3 of 16 images: factor sqrt(0.75 / 0.1875) = 2, 12 showings with objects, so 4 of 16
    # without.
    images = [record([0])] * 3 + [record([1])] * 3 + [record([])] * 10
    shown = Counter(
        key.index for key in keys(images, 1, 0, sampling=Sampling(repeat_threshold=0.75, background=0.25))
    )
    assert [shown[i] for i in range(6)] == [2] * 6
    assert sum(shown.values()) == 16


def test_a_sum_of_fractions_is_the_whole_number_that_it_means():
    # 1 + 3 * (1/3) comes out as 1.9999999999999998.
    assert len(keys([record([0])] + [record([])] * 3, 1, 0, sampling=Sampling(background=0.5))) == 2


@pytest.mark.parametrize(
    ("images", "share", "message"),
    [
        ([record([0])] * 3, 0.1, "background is 0.1, but 0 of the 3 training images are without objects"),
        ([record([])] * 3, 0.1, "background is 0.1, but 3 of the 3 training images are without objects"),
    ],
)
def test_background_that_cannot_be_had(images, share, message):
    with pytest.raises(ValueError, match=message):
        keys(images, 1, 0, sampling=Sampling(background=share))


def test_no_background_wanted_and_none_there():
    assert len(keys([record([0])] * 3, 1, 0, sampling=Sampling(background=0))) == 3


# --------------------------------------------------------------------------------------- the data module


def test_data_module_samples(coco_folder):
    # Six images of "car"; a ship in one of them, and no object in another.
    coco_folder.data["annotations"].pop()
    coco_folder.annotate(1, 7, [5, 5, 9, 9])
    coco_folder.save()
    sampling = Sampling(repeat_threshold=2 / 3, background=0, multi_scale=(2, 2))
    module = coco_folder.module(batch_size=1, sampling=sampling)
    module.setup("fit")
    assert module.class_names == ["car", "ship"]
    assert module.class_counts == [5, 1]
    batches = list(module.train_dataloader())
    # sqrt(4) = 2 showings of the image with the ship, one of the four with a car alone.
    assert Counter(batch.infos[0].image_id for batch in batches) == {1: 2, 2: 1, 3: 1, 4: 1, 5: 1}
    assert {batch.images.shape[2:] for batch in batches} == {(64, 96)}  # twice 32 x 48
    first, second = (batch for batch in batches if batch.infos[0].image_id == 1)
    assert not first.images.equal(second.images)


def test_sampling_out_of_range():
    for arguments, message in (
        ({"repeat_threshold": 0}, r"repeat_threshold must lie in \(0, 1\], got 0"),
        ({"background": 1}, r"background must lie in \[0, 1\), got 1"),
        ({"multi_scale": (1.5, 0.5)}, r"multi_scale must be two factors.*got \[1.5, 0.5\]"),
        ({"multi_scale": (0.5, float("inf"))}, r"multi_scale must be two factors"),
    ):
        with pytest.raises(ValueError, match=message):
            Sampling(**arguments)


# --------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("length", [1, 3, 8, 10])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_evaluation_sees_every_image_exactly_once(length, world_size):
    shards = [EvalSampler(length, rank, world_size) for rank in range(world_size)]
    assert sorted(index for shard in shards for index in shard) == list(range(length))
    assert [len(shard) for shard in shards] == [max(len(list(shard)), 1) for shard in shards]


def test_a_rank_may_have_nothing_to_evaluate_and_takes_part():
    for nothing in (EvalSampler(2, 3, 4), RectangularEvalSampler(THREE_SHAPES[:2], (64, 64), 1, 3, 4)):
        assert list(nothing) == []
        assert len(nothing) == 1  # none, and Lightning would pass the evaluation over on this rank


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_rectangular_evaluation_sees_every_image_once_on_its_own_canvas(world_size):
    images = THREE_SHAPES[::3]
    wanted = canvases(np.array([image.info.size for image in images]), 128 * 128).tolist()
    seen = []
    for rank in range(world_size):
        sampler = RectangularEvalSampler(images, (128, 128), 4, rank, world_size)
        batches = list(sampler)
        assert max(len(batches), 1) == len(sampler)
        assert all(1 <= len(batch) <= 4 for batch in batches)
        assert all(len({key.size for key in batch}) == 1 for batch in batches)
        seen += [key for batch in batches for key in batch]
    # Whatever the ranks and batches, so the scores are the same.
    assert sorted(key.index for key in seen) == list(range(len(images)))
    assert all(list(key.size) == wanted[key.index] for key in seen)


def test_rectangular_data_are_trained_and_evaluated_at_one_scale(coco_folder):
    # 48 x 64 images and the area of 128 x 128: 128 sqrt(3/4) = 111, to strides 96; 128^2 / 96 = 171, 160.
    still = Augment(flip=0, scale=(1, 1), translate=0, mosaic=0)
    module = coco_folder.module(image_size=(128, 128), augment=still, sampling=Sampling(rectangular=True))
    module.setup("fit")
    (trained,) = {batch.images.shape[2:] for batch in module.train_dataloader()}
    evaluated = list(module.val_dataloader())
    assert [len(batch) for batch in evaluated] == [2, 2, 2]
    assert {batch.images.shape[2:] for batch in evaluated} == {trained} == {(96, 160)}
    # The map back to the original holds: 96 / 48 = 2, and (160 - 128) / 2 = 16 pixels of padding.
    info = evaluated[0].infos[0]
    assert (info.scale, info.padding) == ((2, 2), (16, 0))
    assert evaluated[0].boxes.tolist()[0] == [36, 20, 76, 40]  # 10 10 30 20
