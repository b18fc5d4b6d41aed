from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from datamodules.batch import ANY_CLASS, Annotations, Batch, ImageInfo, Sample, collate
from datamodules.drawing import GREY, class_colour
from detector.assigner import TaskAlignedAssigner
from detector.module import Detector
from detector.networks.network import Network
from detector.postprocess import Detections, Postprocess
from detector.training.pictures import PredictionImages, draw
from losses.detection import DetectionLoss

np = pytest.importorskip("numpy")


def detector(**options: object) -> Detector:
    network = Network(2, (64, 64), "mobilenetv4_conv_small_050", strides=(8, 16), channels=16)
    return Detector(
        ["a", "b"], network, DetectionLoss("ciou"), TaskAlignedAssigner(), Postprocess(), **options
    )


def batch(boxes: list[list[float]], labels: list[int], ignore: list[list[float]] = ()) -> Batch:
    """One 64 x 64 px noise image."""
    annotations = Annotations(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.ones(len(boxes), np.float32),
        np.array(ignore, np.float32).reshape(-1, 4),
        np.full(len(ignore), ANY_CLASS),
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sample = Sample(
        image,
        annotations.boxes,
        annotations.labels,
        annotations.ignore_boxes,
        ImageInfo(1, "1.png", (64, 64)),
        annotations,
    )
    result = collate([sample])
    result.images = result.images.float() / 255
    return result


def test_norms_and_biases_do_not_decay_and_the_backbone_has_its_own_rate() -> None:
    model = detector(backbone_lr=0.1)
    groups = {group["name"]: group for group in model.configure_optimizers()["optimizer"].param_groups}
    assert groups["backbone"]["lr"] == pytest.approx(0.1 * groups["head"]["lr"])
    assert groups["neck"]["lr"] == groups["head"]["lr"]
    assert groups["head"]["initial_lr"] == 4e-3
    decayed = {id(p) for group in groups.values() if group["weight_decay"] for p in group["params"]}
    norms = [p for m in model.network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    biases = [p for name, p in model.network.named_parameters() if name.endswith("bias")]
    kernels = [m.weight for m in model.network.modules() if isinstance(m, nn.Conv2d)]
    assert not decayed & {id(p) for p in norms + biases}
    assert {id(p) for p in kernels} == decayed
    assert sum(len(group["params"]) for group in groups.values()) == len(list(model.network.parameters()))


def test_nothing_of_a_frozen_backbone_changes() -> None:
    model = detector(freeze="backbone")
    optimizer = model.configure_optimizers()["optimizer"]
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    model.eval().train()  # as a trainer does after validation
    for _ in range(2):
        one = batch([[8, 8, 24, 24]], [1])
        model._losses(model(one.images), one)[0]["loss"].backward()
        optimizer.step()
    after = model.network.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"neck", "head"}
    assert {group["name"].removesuffix("_no_decay") for group in optimizer.param_groups} == changed


def test_an_auxiliary_branch_adds_a_quarter_of_its_loss() -> None:
    model = detector()
    one = batch([[8, 8, 24, 24]], [1])
    predictions = model(one.images)
    alone = model._losses(predictions, one)[0]["loss"]
    model.forward = lambda images: replace(predictions, auxiliary=predictions)
    model.log_dict = lambda *args, **options: None
    assert model.training_step(one, 0).item() == pytest.approx(1.25 * alone.item())


@pytest.mark.parametrize("amsgrad", [False, True])
def test_fused_adamw_steps_as_the_plain_one_and_obeys_who_sets_it(amsgrad: bool) -> None:
    def after_three_steps(**options: bool) -> tuple[list[torch.Tensor], bool]:
        torch.manual_seed(0)
        model = detector(optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3, amsgrad=amsgrad, **options))
        optimizer = model.configure_optimizers()["optimizer"]
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            for p in model.network.parameters():  # kernels in channels_last layout, and so their gradients
                p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator))
            optimizer.step()
        return [p.detach() for p in model.network.parameters()], optimizer.param_groups[0]["fused"]

    (plain, off), (chosen, on) = after_three_steps(foreach=False, fused=False), after_three_steps()
    assert (off, on) == (False, True)
    for p, q in zip(plain, chosen, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
    assert after_three_steps(foreach=True)[1] is False


def test_the_network_is_compiled_for_every_size_when_training_begins() -> None:
    for asked in (False, True):
        model = detector(compile=asked)
        schedule = model.configure_optimizers()["lr_scheduler"]["scheduler"]
        model.lr_schedulers = lambda schedule=schedule: schedule
        model.schedule = MagicMock(factor=lambda step, share: 1.0, total=10)
        model._trainer = SimpleNamespace()
        model.network.compile = MagicMock()
        model.on_train_start()
        assert [call.kwargs for call in model.network.compile.mock_calls] == [{"dynamic": True}] * asked


@pytest.mark.parametrize(
    ("device", "ranks", "batches"), [("cpu", 1, 1), ("cuda", 2, 1), ("cuda", 1, 4), ("cuda", 1, 1)]
)
def test_graphs_are_for_one_gpu_and_whole_batches(
    monkeypatch: pytest.MonkeyPatch, device: str, ranks: int, batches: int
) -> None:
    model = detector(compile="graphs")
    monkeypatch.setattr(Detector, "device", torch.device(device))
    model._trainer = SimpleNamespace(world_size=ranks, accumulate_grad_batches=batches)
    if (device, ranks, batches) == ("cuda", 1, 1):
        assert model._recorder().network is model.network
    else:
        with pytest.raises(ValueError, match="compile=graphs is for training on one GPU"):
            model._recorder()


def test_activations_are_computed_again_in_training_alone() -> None:
    one = batch([[8, 8, 24, 24]], [1])
    one.images = one.images.expand(2, -1, -1, -1)
    model, again = detector(), detector(checkpoint_activations=True)
    again.load_state_dict(model.state_dict())
    kept, less = (saved(lambda m=m: m(one.images)) for m in (model, again))
    assert less < kept / 2
    assert saved(lambda: again.eval()(one.images)) > kept / 2  # an evaluation with gradients keeps all
    with pytest.raises(ValueError, match=r"checkpoint_activations does not go with model\.compile"):
        detector(compile=True, checkpoint_activations=True)


def saved(work) -> int:
    """Number of values that are kept for a backward pass."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        result = work()
    assert result.logits.requires_grad
    return sum(sizes)


def test_accumulated_steps_are_the_step_of_a_batch_as_large(tmp_path: Path) -> None:
    # Both halves of the large batch are alike, so its norms see what theirs see, and its objects weigh alike;
    # there are enough for the sum of their scores to pass 1, below which the loss is not normalised by it.
    corners = [(x, y) for x in range(0, 64, 16) for y in range(0, 64, 16)]
    one = batch([[x + 1, y + 1, x + 15, y + 15] for x, y in corners], [0, 1] * 8)
    large = replace(
        one,
        images=one.images.repeat(2, 1, 1, 1),
        boxes=one.boxes.repeat(2, 1),
        labels=one.labels.repeat(2),
        image_index=torch.tensor([0, 1]).repeat_interleave(16),
        infos=[*one.infos] * 2,
    )
    start = detector().state_dict()
    weights = []
    for batches, accumulated in (([one] * 8, 2), ([large] * 4, 1)):
        model = detector(optimizer=lambda p: torch.optim.SGD(p, lr=0.01))
        model.load_state_dict(start)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            accumulate_grad_batches=accumulated,
            gradient_clip_val=10.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(model, DataLoader(batches, batch_size=None))
        assert trainer.global_step == model.schedule.total == 4
        weights.append([p.detach() for p in model.network.parameters()])
    assert not torch.equal(weights[0][0], start["network.backbone.features.model.conv_stem.weight"])
    for accumulated, whole in zip(*weights, strict=True):
        torch.testing.assert_close(accumulated, whole, rtol=1e-4, atol=1e-6)


def test_ignored_regions_reach_the_loss() -> None:
    model = detector().eval()
    clear, masked = batch([], []), batch([], [], ignore=[[0, 0, 64, 64]])
    with torch.no_grad():
        predictions = model(clear.images)
        all_points = model._losses(predictions, clear)[0]["loss"]
        none_left = model._losses(predictions, masked)[0]["loss"]
    assert all_points > 0
    assert none_left == 0  # the region covers every point, and there is no object


def test_an_empty_batch_trains() -> None:
    model = detector()
    terms, assignment = model._losses(model(batch([], []).images), batch([], []))
    terms["loss"].backward()
    assert len(assignment.point) == 0
    assert all(torch.isfinite(p.grad).all() for p in model.network.parameters())


def test_detections_are_scored_in_original_pixels() -> None:
    # A 128 x 256 px original was scaled by 1/4 to 32 x 64 px and padded by 16 px above.
    model = detector().eval()
    one = batch([], [])
    info = ImageInfo(7, "7.png", (128, 256), scale=(0.25, 0.25), padding=(0.0, 16.0))
    boxes = torch.tensor([[8.0, 20.0, 16.0, 24.0]])
    assert info.to_original(boxes).tolist() == [[32, 16, 64, 32]]
    one.infos = [info]
    with torch.no_grad():
        predictions = model(one.images)
        inside = model.postprocess(predictions.logits, predictions.boxes())[0]
        (scored,) = model._score(predictions, one)
    torch.testing.assert_close(scored.boxes, info.to_original(inside.boxes))
    assert scored.boxes[:, 2].max() <= 256
    assert scored.boxes[:, 3].max() <= 128


def test_drawing_shows_truth_left_and_confident_predictions_right() -> None:
    one = batch([[10, 10, 30, 30]], [0], ignore=[[40, 40, 60, 60]])
    found = Detections(
        torch.tensor([[5.0, 40.0, 25.0, 60.0], [30.0, 2.0, 50.0, 22.0]]),
        torch.tensor([0.9, 0.1]),
        torch.tensor([1, 1]),
    )
    picture = draw(one, 0, found, min_score=0.3, class_names=["a", "b"])
    assert picture.shape == (3, 64, 128)
    assert tuple(picture[:, 10, 20].tolist()) == class_colour(0)  # an object, on the left
    assert tuple(picture[:, 40, 50].tolist()) == GREY  # an ignore box
    assert tuple(picture[:, 40, 64 + 15].tolist()) == class_colour(1)  # a prediction, on the right
    image = (one.images[0] * 255).round().byte()
    assert torch.equal(picture[:, 2, 64 + 40], image[:, 2, 40])  # the unsure one is left out


def test_prediction_images_stop_at_their_number_and_leave_unsure_predictions_out() -> None:
    one = batch([[10, 10, 30, 30]], [0])
    found = Detections(
        torch.tensor([[5.0, 40.0, 25.0, 60.0], [30.0, 2.0, 50.0, 22.0]]),
        torch.tensor([0.9, 0.5]),
        torch.tensor([0, 0]),
    )
    logger = MagicMock(spec=TensorBoardLogger)
    trainer = SimpleNamespace(sanity_checking=False, loggers=[logger], global_step=7)
    images = PredictionImages(count=2, min_score=0.6)
    for _ in range(3):
        images.on_validation_batch_end(trainer, detector(), {"detections": [found]}, one, 0)
    shown = logger.experiment.add_image.call_args_list
    assert [call.args[0] for call in shown] == ["predictions/0", "predictions/1"]
    assert torch.equal(shown[0].args[1], draw(one, 0, found, 0.6, ["a", "b"]))
    assert not torch.equal(shown[0].args[1], draw(one, 0, found, 0.3, ["a", "b"]))


@pytest.mark.parametrize(
    ("ranks", "rank", "expected"), [(2, 0, 1.0), (2, 1, 2.0), (1, 0, 3.0), (3, 0, 3.0), (3, 2, 0.0)]
)
def test_a_rank_goes_on_with_its_own_counts_and_other_numbers_of_ranks_with_the_sums(
    ranks: int, rank: int, expected: float
) -> None:
    model = detector()
    model._trainer = SimpleNamespace(world_size=ranks, global_rank=rank)
    shares = torch.tensor([[1.0] * 4, [2.0] * 4])
    model.on_load_checkpoint({"class_names": model.class_names, "assigned": {"score": shares}})
    assert model.assigned["score"].tolist() == [expected] * 4
