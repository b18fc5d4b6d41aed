import pytest

from datamodules.samplers import EvalSampler, TrainSampler

SIZE = (32, 48)


def keys(length, *arguments, **more):
    return list(TrainSampler(length, SIZE, *arguments, **more))


def test_an_epoch_shows_each_image_at_most_once_in_whole_batches():
    # 23 images in batches of 5: 4 batches, 3 images wait for another epoch.
    first = keys(23, 5, seed=0)
    assert len(first) == 20
    assert len({key.index for key in first}) == 20
    assert {key.epoch for key in first} == {0}


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
    sampler = TrainSampler(20, SIZE, 4, seed=0, epoch=2, start_batch=3)
    assert list(sampler) == keys(20, 4, seed=0, epoch=2)[12:]
    assert len(sampler) == 20  # the whole epoch, or Lightning would end it early
    sampler.set_epoch(2)
    assert list(sampler) == keys(20, 4, seed=0, epoch=2)[12:]
    sampler.set_epoch(3)
    assert list(sampler) == keys(20, 4, seed=0, epoch=3)


@pytest.mark.parametrize("length", [1, 3, 8, 10])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_evaluation_sees_every_image_exactly_once(length, world_size):
    shards = [EvalSampler(length, rank, world_size) for rank in range(world_size)]
    assert sorted(index for shard in shards for index in shard) == list(range(length))
    assert [len(shard) for shard in shards] == [len(list(shard)) for shard in shards]


def test_a_rank_may_have_nothing_to_evaluate():
    assert list(EvalSampler(2, rank=3, world_size=4)) == []
