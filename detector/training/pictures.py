"""What a training shows: its size at the start, pictures of predictions, figures of the scores."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import STEP_OUTPUT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from datamodules.base import DetectionDataModule
from datamodules.batch import Batch
from datamodules.drawing import as_rgb, draw_boxes, hatch_boxes, write_names
from datamodules.images.decoding import image_loader
from detector.module import Detector
from detector.networks.base import count
from detector.postprocess import Detections
from detector.training.signals import SIGNALS
from evaluation.analysis import analyse
from evaluation.report.figures import attempt, draw_all


class PredictionImages(Callback):
    """Draws the first validation images with truth on the left and predictions on the right, to TensorBoard.

    Args:
        count: number of images.
        min_score: predictions below are left out.
    """

    def __init__(self, count: int = 4, min_score: float = 0.3) -> None:
        self.count = count
        self.min_score = min_score
        self.drawn = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start over."""
        self.drawn = 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw until enough images are drawn."""
        loggers = _tensorboards(trainer)
        if trainer.sanity_checking or not loggers:
            return
        assert isinstance(outputs, Mapping)
        assert isinstance(pl_module, Detector)
        step = max(trainer.global_step - 1, 0)  # where the scores are, so that a resume finds both or none
        for i, detections in enumerate(outputs["detections"][: self.count - self.drawn]):
            with attempt(f"predictions/{self.drawn}"):
                picture = draw(batch, i, detections, self.min_score, pl_module.class_names)
                for logger in loggers:
                    logger.experiment.add_image(f"predictions/{self.drawn}", picture, step)
            self.drawn += 1


class EvaluationFigures(Callback):
    """Draws the figures of evaluate.py's report to TensorBoard when a training ends, from its last scores."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what the sanity check scored."""
        assert isinstance(pl_module, Detector)
        pl_module.last_scores = {}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather what the last validation found, on all ranks alike, and draw it on the first."""
        assert isinstance(pl_module, Detector)
        loggers = _tensorboards(trainer)
        SIGNALS.release()  # all is saved, and drawing takes seconds
        if not pl_module.last_scores or not loggers or SIGNALS.received:
            return
        results = pl_module.scores.gather()
        if results is None:  # another rank draws
            return
        data: DetectionDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by fit(datamodule=...)
        with attempt("evaluation"):
            analysis = analyse(results, pl_module.class_names, pl_module.postprocess.max_detections)
            figures = draw_all(results, pl_module.last_scores, analysis, image_loader(data.records["val"]))
            for name, figure in figures.items():
                pixels = _pixels(figure)  # once, and not by pyplot as add_figure would
                for logger in loggers:
                    logger.experiment.add_image(
                        f"evaluation/{name}", pixels, max(trainer.global_step - 1, 0), dataformats="HWC"
                    )


def _tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
    """All loggers that take pictures."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure as (H, W, 3) RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


class NetworkSummary(Callback):
    """Prints what is trained on what, and logs the network's size: parameters and multiply-accumulates."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count at the size that the data comes in."""
        assert isinstance(pl_module, Detector)
        data: DetectionDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by fit(datamodule=...)
        height, width = data.image_size
        parameters, macs = count(pl_module.network, (height, width))
        rank_zero_info(
            f"Network: {parameters / 1e6:.2f} M parameters, {macs / 1e9:.3f} GMACs at {height} x {width} px"
        )
        images = {split: len(own.images) for split, own in data.records.items()}
        rank_zero_info(
            f"Data: {', '.join(f'{count} {split} images' for split, count in images.items())}, "
            f"{len(data.class_names)} classes ({type(data).__name__})"
        )
        if (folder := trainer.log_dir) and trainer.loggers:
            rank_zero_info(f"Run folder: {folder}")
        if trainer.ckpt_path:  # the run that goes on has logged it
            return
        for logger in trainer.loggers:
            logger.log_metrics({"network/parameters": parameters, "network/macs": macs}, step=0)


def draw(
    batch: Batch, index: int, detections: Detections, min_score: float, class_names: Sequence[str]
) -> Tensor:
    """Draw one image of an evaluation batch twice: annotations left, detections right.

    Args:
        batch: the batch, images float in [0, 1].
        index: which of its images.
        detections: its detections, pixels of the original image.
        min_score: detections below are left out.
        class_names: written at the boxes, where there are few.

    Returns:
        (3, H, 2 W) uint8; one colour per class, ignore boxes hatched.
    """
    info, annotations = batch.infos[index], batch.annotations[index]
    left = as_rgb((batch.images[index] * 255).round().byte().permute(1, 2, 0).cpu().numpy()).copy()
    right = left.copy()
    found = detections.scores >= min_score
    labels = detections.labels[found].cpu().numpy()
    objects = info.to_input(torch.from_numpy(annotations.boxes)).numpy()
    boxes = info.to_input(detections.boxes[found].float().cpu()).numpy()
    hatch_boxes(left, info.to_input(torch.from_numpy(annotations.ignore_boxes)).numpy())
    draw_boxes(left, objects, annotations.labels)
    draw_boxes(right, boxes, labels)
    write_names(left, objects, annotations.labels, [class_names[label] for label in annotations.labels])
    scores = detections.scores[found].tolist()
    words = [f"{class_names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    write_names(right, boxes, labels, words)
    return torch.from_numpy(np.concatenate((left, right), axis=1)).permute(2, 0, 1)
