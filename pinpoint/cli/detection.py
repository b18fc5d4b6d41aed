"""The command line that the scripts share."""

import json
import logging
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info

# Imported so that `class_path: NAME` finds its classes by their short names; `recipes` does so for data.
import detector.callbacks  # noqa: F401
from detector.module import Detector
from pinpoint.cli.recipes import DEFAULTS

# Lightning 2.6 calls a pytree function that torch 2.14 deprecates; nothing a user can mend.
warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated")
# Our sampler knows at which batch to go on, which Lightning, looking at the loader, cannot see.
warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
# What we log once an epoch has been brought together already, and is the same on all ranks.
warnings.filterwarnings("ignore", message=r"It is recommended to use `self\.log\(.*sync_dist=True")
# Lightning 2.6 advertises its services whenever a Trainer is made.
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
    lambda record: "Tip: For seamless cloud" not in record.getMessage()
)

OUR_CLASS = re.compile(r"(?<=class_path: )(?:datamodules|detector|losses)\.(?:\w+\.)*(\w+)")
"""A class of ours in a configuration; its name alone finds it, whichever module it stood in when saved."""


class Parser(LightningArgumentParser):
    """Reports a wrong option in one message, not after hundreds of lines of usage."""

    def add_lightning_class_args(
        self,
        lightning_class: Any,  # noqa: ANN401  # Lightning's union of callables
        nested_key: str,
        subclass_mode: bool = False,
        required: bool = True,
    ) -> list[str]:
        """Add `data` as an argument that must be there.

        Lightning's own way lets it be None, and every mistake in it then ends in two pages about that.
        """
        if lightning_class is LightningDataModule:
            self.add_argument(f"--{nested_key}", type=lightning_class, required=True)
            return [nested_key]
        return super().add_lightning_class_args(lightning_class, nested_key, subclass_mode, required)

    def print_usage(self, file: object = None) -> None:
        """Print nothing; --help prints it all."""


class KeepConfig(SaveConfigCallback):
    """Writes the configuration to the run folder and into every checkpoint."""

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the configuration as YAML."""
        checkpoint["config"] = self.parser.dump(self.config, skip_none=False)


class DetectionCLI(LightningCLI):
    """Parses configs and overrides, builds trainer, model and data, and runs nothing.

    Class names and image size flow from the data to the model.

    Args:
        args: command line arguments; None for those of the process.
        keep_config: write the configuration to the run folder and the checkpoints.
    """

    def __init__(self, args: list[str] | None = None, keep_config: bool = True) -> None:
        super().__init__(
            Detector,
            LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=KeepConfig if keep_config else None,
            run=False,
            args=args,
            parser_class=Parser,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={"default_config_files": [str(DEFAULTS)]},
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], overrides: list[str]) -> "DetectionCLI":
        """Rebuild model, data and trainer from a checkpoint, for evaluation: no logger, no callbacks.

        Args:
            checkpoint: see `load_checkpoint`.
            overrides: command line arguments that come after its configuration.

        Raises:
            ValueError: the weights do not fit the model that the overrides ask for.
        """
        names = json.dumps(checkpoint["class_names"])
        config = OUR_CLASS.sub(r"\1", checkpoint["config"])
        quiet = ["--trainer.logger=false", "--trainer.callbacks=null", "--model.network.pretrained=false"]
        cli = cls(["--config", config, *quiet, f"--data.class_names={names}", *overrides], False)
        try:
            cli.model.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            raise ValueError(f"the checkpoint's weights do not fit the model: {error}") from error
        return cli

    def fit(self) -> None:
        """Train, or go on from `ckpt_path`, and say how to score the best checkpoint.

        Raises:
            ValueError: there is no such checkpoint.
        """
        checkpoint = self.config.ckpt_path
        if checkpoint is not None:
            load_checkpoint(checkpoint)
        self.trainer.fit(self.model, self.datamodule, ckpt_path=checkpoint)
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if best:
            rank_zero_info(f"All scores and a report: python evaluate.py --ckpt_path {best}")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the checkpoint, and the links from data to model."""
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="checkpoint to go on from")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")
        parser.link_arguments(
            "data.class_names", "model.network.num_classes", compute_fn=len, apply_on="instantiate"
        )
        parser.link_arguments("data.image_size", "model.network.image_size", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments given, whatever the process was called with."""
        assert args is None or isinstance(args, list)
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Name the run folder after the recipe, unless it has a name; without a logger log no rates."""
        logger = self.config.trainer.logger
        if logger is False:
            callbacks = self.config.trainer.callbacks or []
            self.config.trainer.callbacks = [
                c for c in callbacks if "LearningRateMonitor" not in c.class_path
            ]
        recipes = self.config.config
        if recipes and logger and logger.init_args.name == "lightning_logs":
            logger.init_args.name = "-".join(Path(str(recipe)).stem for recipe in recipes)


def load_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint of ours to the CPU.

    Raises:
        ValueError: no file, not a checkpoint, or one that train.py did not write.
    """
    if not Path(path).is_file():
        raise ValueError(f"no checkpoint at {path}: give the best.ckpt or last.ckpt of a run folder")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint: is it one, and is the file complete?"
        ) from error
    missing = {"state_dict", "config", "class_names"} - checkpoint.keys()
    if missing:
        raise ValueError(f"{path} was not written by train.py: it lacks {', '.join(sorted(missing))}")
    return checkpoint
