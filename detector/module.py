"""The LightningModule: steps, metrics, optimizer; no maths."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal, final

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam, Optimizer

from datamodules.batch import Batch
from datamodules.limits import require_between
from detector.assigner import Assignment, TaskAlignedAssigner, assignment_statistics, points_in_boxes
from detector.facts import FALLBACK
from detector.graphs import Replayed
from detector.initial_weights import start_from
from detector.networks.base import DetectionNetwork, match_channels
from detector.networks.fusion import fuse
from detector.networks.head import Predictions
from detector.networks.recomputation import recomputed
from detector.parameters import parameter_groups
from detector.postprocess import Detections, Postprocess
from detector.training.muon import MuonAdamW
from detector.training.nonfinite import clip, require_finite, spoil
from detector.training.positions import by_rank, own_share, settle
from detector.training.schedule import Schedule, time_share
from evaluation.analysis import LEAST_SHOWN
from evaluation.coco import CocoScores
from losses.detection import TERMS, DetectionLoss

SIZE_BINS = ("0_8", "8_16", "16_32", "32_up")
"""Names of the size bins of `assignment_statistics`, sides in pixels of the input."""

AUXILIARY_GAIN = 0.25
"""Factor of the loss of an auxiliary branch, where a network has one. Source: YOLOv9's."""


@final
class Detector(LightningModule):
    """Trains and scores a network with an assigner and a loss.

    Args:
        class_names: name of each class; comes from the data.
        network: images to predictions.
        loss: the combined total loss.
        assigner: decides which points learn which object.
        postprocess: predictions to detections.
        optimizer: builds the optimizer from parameter groups.
        backbone_lr: learning rate of the backbone relative to that of neck and head.
        warmup: share of all steps in which the learning rate rises from 0.
        final_lr: learning rate at the end relative to the highest; a cosine leads there.
        init_from: weights to start from: `coco` for YOLOv9's public ones, `scenes` for the default network's
            from generated scenes, or the file or hub folder of a detector, of other classes too. To go on
            with a run, give --ckpt_path instead.
        freeze: `backbone` keeps it as it is, the statistics of its norms included.
        compile: compile the network, for images of any size, when training begins; the first step then takes
            minutes. `graphs`: record it instead, for the first sizes of images that come, which takes seconds
            and needs no compiler; on a single GPU.
        checkpoint_activations: keep less for the backward pass and compute it again there: half the memory,
            a third more time, the same step.

    Raises:
        ValueError: if the loss has weights for another number of classes, the initial weights do not fit, or
            a network is to be compiled and to compute twice.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        network: DetectionNetwork,
        loss: DetectionLoss,
        assigner: TaskAlignedAssigner,
        postprocess: Postprocess,
        optimizer: OptimizerCallable = lambda p: MuonAdamW(p, lr=4e-3, weight_decay=0.05),
        backbone_lr: float = 1.0,
        warmup: float = 0.05,
        final_lr: float = 0.01,
        init_from: str | None = None,
        freeze: Literal["backbone"] | None = None,
        compile: bool | Literal["graphs"] = False,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        require_between("model.backbone_lr", backbone_lr, 0, 100)
        if compile and checkpoint_activations:
            raise ValueError(
                "model.checkpoint_activations does not go with model.compile, which chooses itself what is "
                "computed again: leave one of them out"
            )
        if loss.class_weights.ndim and len(loss.class_weights) != len(class_names):
            raise ValueError(
                f"model.loss.class_weights has {len(loss.class_weights)} weights for {len(class_names)} "
                f"classes: give one for each, in the order {', '.join(class_names)}"
            )
        self.class_names = list(class_names)
        self.network = network
        if init_from is not None:
            rank_zero_info(start_from(init_from, network, self.class_names))
        self.frozen = freeze is not None
        if self.frozen:
            network.backbone.requires_grad_(False).eval()
        self.compiled = compile
        self.replayed: Replayed | None = None
        self.checkpoint_activations = checkpoint_activations
        self.folded: tuple[DetectionNetwork, ...] = ()  # a tuple, so that it is no part of the module
        self.loss = loss
        self.assigner = assigner
        self.postprocess = postprocess
        # A function of our own: the command line's callable holds on to the trainer, and weight averaging
        # copies all that the module holds, functions excepted.
        self.optimizer: OptimizerCallable = lambda parameters: optimizer(parameters)
        self.backbone_lr = backbone_lr
        self.schedule = Schedule(warmup, final_lr)
        self.scores = CocoScores(class_names, postprocess.max_detections)
        self.assigned: dict[str, Tensor] = {}
        self.validated: dict[str, Tensor] = {}
        self.last_scores: dict[str, float] = {}
        self.thresholds = [FALLBACK] * len(class_names)
        self.gradient_norm: Tensor | None = None
        self.lr_scale = 1.0  # see detector.training.batch_size

    def setup(self, stage: str) -> None:
        """Refuse precisions that spoil coordinates.

        Raises:
            ValueError: Lightning would convert the boxes of the batch to half precision.
        """
        if self.trainer.precision in ("16-true", "bf16-true"):
            raise ValueError(
                f"--trainer.precision={self.trainer.precision} would round box coordinates to whole pixels: "
                "use bf16-mixed, 16-mixed or 32-true"
            )

    def on_fit_start(self) -> None:
        """Keep DDP from sending buffers: a rank without validation images would never answer.

        Training does not read the norms' running statistics, so nothing is lost; before a validation all
        ranks take the first one's, as `on_validation_epoch_start` says.
        """
        model = self.trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            model.broadcast_buffers = False

    def train(self, mode: bool = True) -> "Detector":
        """Change to training, or to evaluation; what is frozen always evaluates."""
        super().train(mode)
        if self.frozen:
            self.network.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Predictions:
        """(B, channels, H, W) float images in [0, 1] to predictions in pixels of these images.

        Raises:
            ValueError: the network is made for images of other channels.
        """
        network: Replayed | DetectionNetwork = self.replayed or self.network
        if self.folded and not self.training:
            network = self.folded[0]
        again = self.checkpoint_activations and self.training and torch.is_grad_enabled()
        with recomputed(self.network) if again else nullcontext():
            predictions: Predictions = network(match_channels(images, self.network.in_channels))
        return predictions

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Total loss of a batch."""
        predictions = self(batch.images)
        terms, assignment = self._losses(predictions, batch)
        if predictions.auxiliary is not None:
            auxiliary, _ = self._losses(predictions.auxiliary, batch)
            terms["loss_auxiliary"] = AUXILIARY_GAIN * auxiliary["loss"].detach()
            terms["loss"] = terms["loss"] + AUXILIARY_GAIN * auxiliary["loss"]
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=len(batch))
        for name, value in assignment_statistics(assignment, batch.boxes).items():
            self.assigned[name] = self.assigned[name] + value if name in self.assigned else value
        return spoil(terms["loss"])

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by a norm that is known already."""
        clip(self, optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_epoch_end(self) -> None:
        """Log by object size how many objects no point learned, and how well the others are learned."""
        if not self.assigned:
            return
        sums = {
            name: self.trainer.strategy.reduce(value, reduce_op="sum")
            for name, value in self.assigned.items()
        }
        for i, size in enumerate(SIZE_BINS):
            objects = sums["objects"][i]
            if objects > 0:
                self.log(f"assigner/unassigned_{size}", sums["unassigned"][i] / objects)
                self.log(f"assigner/target_score_{size}", sums["score"][i] / objects)
        self.assigned = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Detections]]:
        """`detections` of a batch, in pixels of the original images; within a training its loss, too."""
        predictions = self(batch.images)
        if self.trainer.state.fn == "fit":
            terms, _ = self._losses(predictions, batch)
            for name, value in {"images": torch.ones_like(terms["loss"]), **terms}.items():
                self.validated[name] = self.validated.get(name, 0.0) + len(batch) * value
        return {"detections": self._score(predictions, batch)}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Detections]]:
        """`detections` of a batch, in pixels of the original images."""
        return {"detections": self._score(self(batch.images), batch)}

    def on_validation_epoch_start(self) -> None:
        """Forget the detections of the last epoch; all ranks take the first one's buffers.

        Steps of evaluation send nothing: ranks may have any number of them, none too. Callbacks come before
        the module, so these are the buffers of the averaged weights where there are such.
        """
        self.scores.reset()
        self.validated = {}
        if distributed.is_available() and distributed.is_initialized():
            for buffer in self.buffers():
                distributed.broadcast(buffer, 0)
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking and not self.compiled:
            self.folded = (fuse(self.network),)  # what evaluate.py scores, too

    def on_validation_epoch_end(self) -> None:
        """Log scores and, in a training, losses of all images; keep from which score to show each class."""
        self.folded = ()
        self._log_scores("val")
        if self.trainer.state.fn == "fit":
            self._log_losses()
        if not self.trainer.sanity_checking:
            best = self.scores.thresholds
            self.thresholds = [max(t, LEAST_SHOWN) if math.isfinite(t) else FALLBACK for t in best]

    def on_test_epoch_start(self) -> None:
        """Forget the detections of the last epoch."""
        self.scores.reset()

    def on_test_epoch_end(self) -> None:
        """Log the scores of the whole test set."""
        self._log_scores("test")

    def _losses(self, predictions: Predictions, batch: Batch) -> tuple[dict[str, Tensor], Assignment]:
        points, strides, levels = predictions.points, predictions.strides, predictions.levels
        with torch.no_grad():
            assignment = self.assigner(
                scores=predictions.logits.float().sigmoid(),
                boxes=predictions.boxes(),
                points=points,
                strides=strides,
                gt_boxes=batch.boxes,
                gt_labels=batch.labels,
                image_index=batch.image_index,
                levels=levels,
                host=batch.host_objects,
            )
        ignored = points_in_boxes(
            batch.ignore_boxes,
            batch.ignore_index,
            points,
            strides,
            self.assigner.min_side,
            levels=levels,
            host=batch.host_ignored,
            repeated=True,
        )
        return self.loss(predictions, assignment, batch.boxes, batch.labels, ignored), assignment

    def _score(self, predictions: Predictions, batch: Batch) -> list[Detections]:
        found = self.postprocess(predictions.logits, predictions.boxes())
        original = [
            replace(one, boxes=info.to_original(one.boxes))
            for one, info in zip(found, batch.infos, strict=True)
        ]
        for one, info, annotations in zip(original, batch.infos, batch.annotations, strict=True):
            self.scores.update(info.image_id, one, annotations)
        return original

    def _log_scores(self, stage: str) -> None:
        self.last_scores = self.scores.compute()
        for name, value in self.last_scores.items():
            self.log(f"{stage}/{LOGGED_NAMES.get(name, name)}", value, prog_bar=name == "AP")
            if stage == "val" and name in HEADLINES:
                self.log(f"Scores/{name}", value)

    def _log_losses(self) -> None:
        """Means over the images of all ranks, those without one included: all make the same calls."""
        zero = torch.zeros((), device=self.device)
        sums = torch.stack([self.validated.get(name, zero) for name in ("images", *TERMS)])
        sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        for name, value in zip(TERMS, sums[1:] / sums[0], strict=True):
            self.log(f"val/{name}", value)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer without decay on norms and biases; warm-up, then cosine, per step."""
        optimizer = self.optimizer(parameter_groups(self.network))
        if isinstance(optimizer, Adam) and self.device.type in ("cpu", "cuda"):
            for group in optimizer.param_groups:
                # One kernel for all tensors. Asked for here and not at construction, it leaves clipping and
                # the unscaling of half precision to Lightning, which else refuses to clip.
                group["fused"] = group["foreach"] is None if group["fused"] is None else group["fused"]
        for group in optimizer.param_groups:
            group["lr"] *= self.lr_scale * (self.backbone_lr if group["name"].startswith("backbone") else 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Learn how many steps there will be, set the learning rate accordingly, compile.

        Not in `configure_optimizers`: asking there makes Lightning create the training loader before it knows
        at which batch a resumed run goes on.
        """
        self.schedule.begin(self.trainer)
        rates = self.lr_schedulers()
        assert isinstance(rates, torch.optim.lr_scheduler.LambdaLR)
        for group, base in zip(rates.optimizer.param_groups, rates.base_lrs, strict=True):
            group["lr"] = base * self._lr_factor(rates.last_epoch)
        if self.compiled == "graphs":
            self.replayed = self._recorder()
        elif self.compiled:
            # In place, so that the names of the weights stay; now, because counting the network's operations
            # and the sanity check need it as it is.
            self.network.compile(dynamic=True)

    def _recorder(self) -> Replayed:
        """Runs the network as CUDA graphs.

        Raises:
            ValueError: it could not do so, or not rightly.
        """
        trainer = self.trainer
        if self.device.type != "cuda" or trainer.world_size > 1 or trainer.accumulate_grad_batches != 1:
            raise ValueError(
                "--model.compile=graphs is for training on one GPU, without accumulate_grad_batches: use "
                "--model.compile=true"
            )
        return Replayed(self.network)

    def on_train_end(self) -> None:
        """Give back the memory of what was recorded."""
        self.replayed = None

    def _lr_factor(self, step: int) -> float:
        """Learning rate at a step, relative to the highest."""
        share = time_share(self.trainer) if math.isinf(self.schedule.total) else None
        return self.schedule.factor(step, share)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep class names, the scores from which they are shown, and what the epoch's end will log."""
        checkpoint["class_names"] = self.class_names
        checkpoint["thresholds"] = self.thresholds
        require_finite(checkpoint)
        checkpoint["assigned"] = by_rank(self.trainer, self.assigned)
        checkpoint["schedule"] = self.schedule.state_dict()
        settle(self.trainer, checkpoint["loops"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over from which scores the classes are shown, and what is to be logged.

        Raises:
            ValueError: the checkpoint was trained for other classes.
        """
        self.require_classes(checkpoint)
        self.thresholds = checkpoint.get("thresholds", self.thresholds)
        if "schedule" in checkpoint:
            self.schedule.load_state_dict(checkpoint["schedule"])
        counted = own_share(self.trainer, checkpoint.get("assigned", {}))
        self.assigned = {name: value.to(self.device) for name, value in counted.items()}

    def require_classes(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse weights of other classes.

        Raises:
            ValueError: the checkpoint was trained for other classes.
        """
        trained = checkpoint.get("class_names")
        if trained != self.class_names:
            raise ValueError(
                f"the checkpoint knows the classes {trained}, this run has {self.class_names}: use data of "
                "the same classes, or start a new training from its weights with --model.init_from"
            )


LOGGED_NAMES = {"AP": "map"}
"""Scores whose logged name differs: `val/map` is what checkpoints and early stopping monitor."""

HEADLINES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR")
"""Scores that are logged as `Scores/...` too, the group that TensorBoard shows first: capitals come first."""
