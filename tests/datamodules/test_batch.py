import numpy as np
import torch

from datamodules.batch import ImageInfo, Sample, collate


def sample(boxes, ignore_boxes=(), colour=None):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(
        image=np.zeros((4, 6, 3), dtype=np.uint8),
        boxes=boxes,
        labels=np.arange(len(boxes)),
        ignore_boxes=np.array(ignore_boxes, dtype=np.float32).reshape(-1, 4),
        info=ImageInfo(image_id=0, file_name="", size=(4, 6)),
        colour=colour,
    )


def test_objects_are_flat_and_know_their_image():
    batch = collate(
        [
            sample([[0, 0, 1, 1], [1, 1, 2, 2]]),
            sample([], ignore_boxes=[[0, 0, 3, 3]]),
            sample([[2, 2, 3, 3]], ignore_boxes=[[1, 1, 2, 2]]),
        ]
    )
    assert len(batch) == 3
    assert batch.images.shape == (3, 3, 4, 6)
    assert batch.images.dtype == torch.uint8
    assert batch.boxes.tolist() == [[0, 0, 1, 1], [1, 1, 2, 2], [2, 2, 3, 3]]
    assert batch.labels.tolist() == [0, 1, 0]
    assert batch.image_index.tolist() == [0, 0, 2]
    assert batch.ignore_index.tolist() == [1, 2]
    assert batch.ignore_boxes.shape == (2, 4)


def test_batch_without_any_object():
    batch = collate([sample([]), sample([])])
    assert batch.boxes.shape == batch.ignore_boxes.shape == (0, 4)
    assert batch.labels.dtype == batch.image_index.dtype == batch.ignore_index.dtype == torch.int64
    assert batch.labels.shape == batch.image_index.shape == (0,)
    assert batch.colour is None


def test_moving_keeps_everything():
    batch = collate([sample([[0, 0, 1, 1]], colour=np.ones(4, dtype=np.float32))]).to("meta")
    assert {t.device.type for t in (batch.images, batch.boxes, batch.image_index, batch.colour)} == {"meta"}
    assert batch.infos[0].size == (4, 6)


def test_to_original_inverts_tile_scale_and_padding_and_clips():
    # Original x = (input - 5) / 2 + 100, y = (input - 0) / 4 + 20.
    info = ImageInfo(1, "", size=(50, 120), origin=(100, 20), scale=(2, 4), padding=(5, 0))
    boxes = torch.tensor([[5.0, 0, 25, 40], [0, 0, 100, 400]])
    # The second would span 97.5..147.5 by 20..120, and is clipped to 120 by 50.
    expected = torch.tensor([[100, 20, 110, 30], [97.5, 20, 120, 50]])
    torch.testing.assert_close(info.to_original(boxes), expected)
