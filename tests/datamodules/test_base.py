import pickle
from types import SimpleNamespace

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from coco_folder import assert_same, batches
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from datamodules.batch import Key
from datamodules.images.decoding import read_image
from datamodules.loading.loader import default_workers
from datamodules.problems import DataError
from datamodules.transforms.augment import Augment


@pytest.fixture
def augment():
    """All of it at once."""
    extra = [A.Rotate(p=0.5), A.OneOf([A.GaussNoise(), A.RandomGamma()], p=0.5), A.CoarseDropout(p=0.2)]
    half = dict.fromkeys(("vertical_flip", "tile", "mosaic", "mixup", "copy_paste"), 0.5)
    return Augment(**half, close_mosaic=1, extra=extra)


# ----------------------------------------------------------------------------------------- determinism


def test_batches_are_the_same_with_any_number_of_workers(coco_folder, augment):
    seen = []
    for num_workers in (0, 1, 2, 4):
        module = coco_folder.module(num_workers=num_workers, augment=augment)
        module.setup("fit")
        loader = module.train_dataloader()
        epochs = batches(loader)
        loader.sampler.set_epoch(1)  # persistent workers live on
        seen.append(epochs + batches(loader))
    assert_same(seen[0], seen[1])
    assert_same(seen[0], seen[2])
    assert_same(seen[0], seen[3])
    assert not torch.equal(seen[0][0][1], seen[0][3][1])  # epochs differ


def test_seed_changes_batches(coco_folder):
    first, second = coco_folder.module(seed=0), coco_folder.module(seed=1)
    first.setup("fit")
    second.setup("fit")
    a, b = batches(first.train_dataloader()), batches(second.train_dataloader())
    assert any(not torch.equal(one[1], other[1]) for one, other in zip(a, b, strict=True))


# Lightning's and torch's remarks on a tiny run that is resumed; none concerns the batches.
quiet = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*ended before the epoch ended",
    "ignore:.*treespec, LeafSpec",
    "ignore:.*callbacks used to create the checkpoint",
    "ignore:.*was called without a model",
    "ignore:.*is set, but there is no last checkpoint",
)


class Recorder(LightningModule):
    """Remembers its batches, and fails at a step if asked to."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.fail_at, self.seen, self.validated = fail_at, [], []

    def training_step(self, batch, batch_index):
        if len(self.seen) == self.fail_at:
            raise RuntimeError("power cut")
        ids = tuple(info.image_id for info in batch.infos)
        self.seen.append((self.current_epoch, batch_index, ids, batch.images.double().sum().item()))
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch, batch_index):
        self.validated += [info.image_id for info in batch.infos]
        assert batch.images.dtype == torch.float32

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module, recorder, tmp_path, callbacks=(), **arguments):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        use_distributed_sampler=False,
    )
    trainer.fit(recorder, module, **arguments)
    return recorder.seen


@quiet
def test_resumed_run_sees_what_an_uninterrupted_one_sees(coco_folder, augment, tmp_path):
    def module():
        # The last of three epochs is without mosaic, mixup and copy-paste.
        return coco_folder.module(augment=augment)

    whole = fit(module(), Recorder(), tmp_path)
    assert len(whole) == 9  # three epochs of three batches
    keep = ModelCheckpoint(tmp_path / "steps", "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(module(), Recorder(), tmp_path, [keep])
    for step in (1, 2, 3, 5, 8):  # inside epochs, and 3 at the end of one
        checkpoint = tmp_path / "steps" / f"step={step}.ckpt"
        assert fit(module(), Recorder(), tmp_path, ckpt_path=checkpoint) == whole[step:]


@quiet
def test_another_batch_size_goes_on_from_the_end_of_an_epoch_alone(coco_folder, tmp_path):
    within = ModelCheckpoint(tmp_path / "within", "{step}", every_n_train_steps=1, save_top_k=-1)
    end = ModelCheckpoint(tmp_path / "end", "{epoch}", every_n_epochs=1, save_top_k=-1)
    fit(coco_folder.module(), Recorder(), tmp_path, [within, end])  # three batches of two images
    single = coco_folder.module(batch_size=1)
    seen = fit(single, Recorder(), tmp_path, ckpt_path=tmp_path / "end" / "epoch=0.ckpt")
    assert [(epoch, step) for epoch, step, *_ in seen] == [(e, s) for e in (1, 2) for s in range(6)]
    assert len({ids for _, _, ids, _ in seen[:6]}) == 6
    with pytest.raises(ValueError, match="within an epoch of 2 images a step, this run has 1"):
        fit(
            coco_folder.module(batch_size=1),
            Recorder(),
            tmp_path,
            ckpt_path=tmp_path / "within" / "step=2.ckpt",
        )


@quiet
def test_batch_that_failed_is_trained_again(coco_folder, tmp_path):
    whole = fit(coco_folder.module(), Recorder(), tmp_path)
    for failed in (1, 3, 4):
        folder = tmp_path / str(failed)
        with pytest.raises(RuntimeError, match="power cut"):
            fit(
                coco_folder.module(),
                Recorder(fail_at=failed),
                tmp_path,
                [OnExceptionCheckpoint(folder, "last")],
            )
        assert (
            fit(coco_folder.module(), Recorder(), tmp_path, ckpt_path=folder / "last.ckpt") == whole[failed:]
        )


# ------------------------------------------------------------------------------------------- evaluation


def test_validation_is_letterboxed_whole_and_sorted(coco_folder):
    coco_folder.data["images"].reverse()
    coco_folder.save()
    module = coco_folder.module(val_batch_size=4)
    module.setup("validate")
    seen = list(module.val_dataloader())
    assert [info.image_id for batch in seen for info in batch.infos] == [1, 2, 3, 4, 5, 6]
    assert [len(batch) for batch in seen] == [4, 2]
    # 48 x 64 into 32 x 48: scale min(32/48, 48/64) = 2/3, width 64 * 2/3 = 43 (rounded), 5 spare columns.
    info = seen[0].infos[0]
    assert info.scale == (43 / 64, 32 / 48)
    assert info.padding == (2, 0)
    assert seen[0].colour is None
    np.testing.assert_array_equal(seen[0].annotations[0].boxes, [[10, 10, 30, 20]])
    back = info.to_original(seen[0].boxes[:1])
    torch.testing.assert_close(back, torch.tensor([[10.0, 10, 30, 20]]))


def test_boxes_beyond_the_image_are_clipped_in_samples_but_not_in_annotations(coco_folder):
    coco_folder.data["annotations"] = []
    coco_folder.annotate(1, 3, [-5, -5, 15, 15])
    coco_folder.save()
    module = coco_folder.module(image_size=(48, 64))
    module.setup("fit")
    batch = next(iter(module.val_dataloader()))
    assert batch.boxes.tolist() == [[0, 0, 10, 10]]
    assert batch.annotations[0].boxes.tolist() == [[-5, -5, 10, 10]]


def test_visible_share_counts_from_the_edge_of_the_image(coco_folder):
    # Nine tenths of the box lie outside the image. What the image shows of it is shown whole, so it stays an
    # object, although less than min_visibility of the annotated box is left.
    coco_folder.data["annotations"] = []
    coco_folder.annotate(1, 3, [-90, 0, 100, 20])
    coco_folder.save()
    augment = Augment(flip=0, scale=(1, 1), translate=0, mosaic=0, min_visibility=0.2)
    module = coco_folder.module(image_size=(48, 64), augment=augment)
    module.setup("fit")
    sample = module.train_dataloader().dataset[Key(0, 0, (48, 64))]
    np.testing.assert_allclose(sample.boxes, [[0, 0, 10, 20]], atol=1e-3)
    assert len(sample.ignore_boxes) == 0


def test_testing_uses_the_validation_split_where_there_is_no_other(coco_folder):
    module = coco_folder.module()
    module.setup("test")
    assert module.test_split == "val"
    assert len(module.test_dataloader().dataset) == 6
    assert module.category_ids == [3, 7]


class FakeTrainer:
    """Stands for one rank of four; enough for the loaders."""

    world_size, num_devices, max_epochs, max_steps = 4, 4, 5, -1
    limit_train_batches, accumulate_grad_batches = 1.0, 2

    class fit_loop:
        restarting = False
        epoch_progress = SimpleNamespace(current=SimpleNamespace(processed=0))

    def __init__(self, rank):
        self.global_rank = rank


def test_ranks_share_out_validation_without_padding_and_training_evenly(coco_folder):
    evaluated, train_lengths = [], set()
    for rank in range(4):
        module = coco_folder.module(batch_size=1)
        module.trainer = FakeTrainer(rank)
        module.setup("fit")
        evaluated.append([info.image_id for batch in module.val_dataloader() for info in batch.infos])
        train_lengths.add(len(module.train_dataloader()))
    assert evaluated == [[1, 5], [2, 6], [3], [4]]
    assert train_lengths == {1}  # 6 images, 4 ranks
    assert module.allow_zero_length_dataloader_with_multiple_devices


def test_mosaic_closes_before_the_trainer_ends(coco_folder):
    module = coco_folder.module(augment=Augment(close_mosaic=2))
    module.setup("fit")
    assert module.train_dataloader().dataset.mosaic_epochs is None  # without a trainer nothing is known
    module.trainer = FakeTrainer(0)
    assert module.train_dataloader().dataset.mosaic_epochs == 3  # of five epochs
    module.trainer.world_size, module.batch_size = 1, 1  # six batches an epoch, three steps
    module.trainer.max_epochs, module.trainer.max_steps = -1, 16
    assert module.train_dataloader().dataset.mosaic_epochs == 4
    module.trainer.limit_train_batches = 4
    assert module.train_dataloader().dataset.mosaic_epochs == 6
    module.trainer.max_epochs = 7
    assert module.train_dataloader().dataset.mosaic_epochs == 5
    module.trainer.max_epochs, module.trainer.max_steps = -1, -1
    assert module.train_dataloader().dataset.mosaic_epochs is None


# --------------------------------------------------------------------------------------------- mistakes


def test_unreadable_image_gives_one_message_even_from_a_worker(coco_folder):
    for num_workers in (0, 1):
        module = coco_folder.module(num_workers=num_workers)
        module.setup("validate")
        (coco_folder.images / "2.png").write_bytes(b"not an image")  # broken after setup has looked at it
        with pytest.raises(DataError) as caught:
            list(module.val_dataloader())
        assert str(caught.value) == (
            f"{coco_folder.images / '2.png'} is not a readable image: restore the file or remove it from the "
            "annotations"
        )
        cv2.imwrite(str(coco_folder.images / "2.png"), np.zeros((48, 64, 3), np.uint8))


@pytest.mark.slow
def test_image_that_vanished_after_setup(coco_folder):
    module = coco_folder.module()
    module.setup("validate")
    (coco_folder.images / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png does not exist"):
        list(module.val_dataloader())


@pytest.mark.slow
def test_image_of_another_size_than_annotated(coco_folder):
    module = coco_folder.module()
    module.setup("validate")
    cv2.imwrite(str(coco_folder.images / "1.png"), np.zeros((48, 65, 3), np.uint8))
    with pytest.raises(DataError, match=r"1\.png is 65x48 pixels, but was 64x48 when the data set was"):
        read_image(module.records["val"].images[0])


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(DataError("a: b")))
    assert (type(error), str(error)) == (DataError, "a: b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "data.batch_size must be 1 to 65536"),
        ({"val_batch_size": 0}, "data.val_batch_size must be 1 to 65536"),
        ({"image_size": (0, 64)}, r"data.image_size must be \[height, width\]"),
    ],
)
def test_arguments_out_of_range(coco_folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        coco_folder.module(**arguments)


# ---------------------------------------------------------------------------------------------- details


def test_images_are_rgb(coco_folder):
    red = np.zeros((48, 64, 3), dtype=np.uint8)
    red[..., 2] = 255  # OpenCV writes blue, green, red
    cv2.imwrite(str(coco_folder.images / "1.png"), red)
    module = coco_folder.module()
    module.setup("validate")
    assert read_image(module.records["val"].images[0])[0, 0].tolist() == [255, 0, 0]


def test_grey_images_get_three_channels(coco_folder):
    cv2.imwrite(str(coco_folder.images / "1.png"), np.full((48, 64), 9, dtype=np.uint8))
    module = coco_folder.module()
    module.setup("validate")
    assert read_image(module.records["val"].images[0])[0, 0].tolist() == [9, 9, 9]


def test_default_workers(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert default_workers(1000, 16, local_ranks=1) == 8
    assert default_workers(1000, 16, local_ranks=4) == 3  # 16 / 4, less the training process
    assert default_workers(1000, 16, local_ranks=16) == 0
    assert default_workers(20, 16, local_ranks=1) == 0  # two batches are read before a worker has started
