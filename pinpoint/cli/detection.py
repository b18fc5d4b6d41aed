"""The command line that the scripts share."""

import logging
import math
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from datamodules.freed_memory import keep_freed_memory
from datamodules.parsing import load_yaml
from detector.checkpoint import load_checkpoint, without_origin
from detector.exported import ExportedForward, ExportedNetwork, is_exported
from detector.module import Detector
from detector.networks.fusion import fuse
from detector.training.batch_size import AutomaticBatch
from detector.training.checkpoints import LastCheckpoint
from detector.training.files import WholeFiles
from detector.training.norm_statistics import CommonNorms
from detector.training.progress import RunBar
from detector.training.randomness import StepSeeds
from detector.training.ranks import RankWatch
from detector.training.signals import SIGNALS, Stopped
from pinpoint.cli import slurm
from pinpoint.cli.arguments import tidy
from pinpoint.cli.calling import called, command
from pinpoint.cli.monitors import check_monitors
from pinpoint.cli.parser import Parser
from pinpoint.cli.recipes import DEFAULTS
from pinpoint.cli.resume import drop_later, log_into, require_epochs, require_same, require_state, run_folder
from pinpoint.cli.run_lock import sole_user
from pinpoint.cli.strangers import known_classes, naming
from pinpoint.cli.trainer_options import check_trainer
from pinpoint.cli.wrong_values import explain_value

# Lightning 2.6 calls a pytree function that torch 2.14 deprecates; nothing a user can mend.
warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated")
# Our sampler knows at which batch to go on, which Lightning, looking at the loader, cannot see.
warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
# A run that goes on does so in its own folder.
warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
# Only our own lock lies there, or a run that goes on, whose rows are given back.
warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
# What we log once an epoch has been brought together already, and is the same on all ranks.
warnings.filterwarnings("ignore", message=r"It is recommended to use `self\.log\(.*sync_dist=True")
# Lightning 2.6 advertises its services whenever a Trainer is made.
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
    lambda record: "Tip: For seamless cloud" not in record.getMessage()
)

OUR_CLASS = re.compile(r"(?<=class_path: )(?:datamodules|detector|losses)\.(?:\w+\.)*(\w+)")
"""A class of ours in a configuration; its name alone finds it, whichever module it stood in when saved."""


class KeepConfig(SaveConfigCallback):
    """Writes the configuration to the run folder and into every checkpoint.

    Args:
        parser: of the command line.
        config: of this run.
        recipe: what is written, from which the same training can begin anew.
        options: see `SaveConfigCallback`.
    """

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, recipe: Namespace, **options: Any
    ) -> None:
        super().__init__(parser, recipe, **options)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the configuration as YAML."""
        checkpoint["config"] = self.parser.dump(self.config, skip_none=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml where there is a run folder: without a logger it would land just anywhere."""
        self.save_to_log_dir = bool(trainer.loggers)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the loggers what was trained on what: TensorBoard's hparams.yaml, the tables of others."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams({name: config[name] for name in ("seed_everything", "data", "model")})


class DetectionCLI(LightningCLI):
    """Parses configs and overrides, builds trainer, model and data, and runs nothing.

    Class names and image size flow from the data to the model.

    Args:
        args: command line arguments; None for those of the process.
        keep_config: write the configuration to the run folder and the checkpoints.
    """

    def __init__(self, args: list[str] | None = None, keep_config: bool = True) -> None:
        self.keeps_config = keep_config
        super().__init__(
            Detector,
            LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=KeepConfig if keep_config else None,
            save_config_kwargs={"overwrite": True},  # a run that goes on does so in its folder
            run=False,
            args=args,
            parser_class=Parser,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={
                "default_config_files": [str(DEFAULTS)],
                "usage": "train.py --config RECIPE [--section.option=value ...]",
                "description": "Every option; --print_config shows them with the values of the recipe.",
            },
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
        cli = cls.unfused(checkpoint, overrides)
        cli.model.network = fuse(cli.model.network)
        return cli

    @classmethod
    def unfused(cls, checkpoint: dict[str, Any], overrides: Sequence[str] = ()) -> "DetectionCLI":
        """The same with the network as it is trained.

        Raises:
            ValueError: see `from_checkpoint`.
        """
        cli = cls._for_evaluation(checkpoint["config"], checkpoint["class_names"], list(overrides))
        try:
            cli.model.load_state_dict(checkpoint["state_dict"])
        except RuntimeError as error:
            raise ValueError(f"the checkpoint's weights do not fit the model: {error}") from error
        return cli

    @classmethod
    def from_file(cls, path: str, overrides: list[str]) -> "DetectionCLI":
        """The same from a checkpoint, a shared model or an exported file.

        Args:
            path: see `load_checkpoint`; or a file of export.py, which then computes in the network's place.
            overrides: see `from_checkpoint`.

        Raises:
            ValueError: see `load_checkpoint` and `ExportedForward`.
        """
        if not is_exported(path):
            return cls.from_checkpoint(load_checkpoint(path), overrides)
        exported = ExportedForward(Path(path))
        cli = cls._for_evaluation(exported.config, exported.facts.class_names, overrides)
        cli.model.network = ExportedNetwork(exported)
        return cli

    @classmethod
    def _for_evaluation(cls, text: str, class_names: Sequence[str], overrides: list[str]) -> "DetectionCLI":
        # How the training ran (a share of the batches, its machine, precision, limits, augmentations, perhaps
        # of the user's own) is no part of a model.
        config = load_yaml(OUR_CLASS.sub(r"\1", text))
        config["data"].get("init_args", {}).pop("augment", None)
        run = ("trainer", "ckpt_path", "new_version")
        config = {name: section for name, section in config.items() if name not in run}
        config["model"] = without_origin(config["model"])
        # YAML, as it is read as such: JSON's two halves of an emoji are no letters there.
        listed = yaml.safe_dump(list(class_names), default_flow_style=True, width=math.inf).strip()
        names = f"--data.class_names={listed}"
        quiet = ["--trainer.logger=false", "--trainer.callbacks=null", names]
        with known_classes(overrides):
            return cls([f"--config={yaml.safe_dump(config)}", *quiet, *overrides], keep_config=False)

    def fit(self) -> None:
        """Train, or go on from `ckpt_path`, and say how to score the best checkpoint.

        Raises:
            ValueError: there is no such checkpoint, it is of another training, goes on already, or would be
                overwritten.
            Stopped: a signal came, and the run can go on.
        """
        with sole_user(self._run_folder()):
            self._fit(self.config.ckpt_path)

    def _run_folder(self) -> Path | None:
        """Where this process logs and saves; None for nowhere, as in all ranks but the first.

        Raises:
            ValueError: it holds another training.
        """
        kinds = (TensorBoardLogger, CSVLogger)
        folders = [logger.log_dir for logger in self.trainer.loggers if isinstance(logger, kinds)]
        saves = self.trainer.checkpoint_callback is not None
        if not self.trainer.is_global_zero or not (folders if self.trainer.loggers else saves):
            return None
        folder = Path(folders[0] if folders else self.trainer.default_root_dir).absolute()
        own = Path(self.config.ckpt_path or "").absolute().parent
        saved = folder / "checkpoints"
        if saves and saved.resolve() != own.resolve() and (there := sorted(saved.glob("*.ckpt"))):
            other = "logger.version=NAME" if folders else "default_root_dir=FOLDER"
            raise ValueError(
                f"{there[-1]} is of another training, and this one would be saved in its place: go on with "
                f"it with --ckpt_path, or train elsewhere with --trainer.{other}"
            )
        return folder if folders else saved

    def _fit(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            content = load_checkpoint(checkpoint)
            now = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
            require_same(checkpoint, content, self.model, load_yaml(content["config"]), now)
            require_state(checkpoint, content, self.model, self.trainer.fit_loop.state_dict())
            require_epochs(checkpoint, content, self.trainer.max_epochs)
            if (folder := run_folder(Path(checkpoint))) is not None:
                drop_later(self.trainer.loggers, folder, content["global_step"])
            del content
        if self.trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()  # docs/decisions/cpu-threads.md
        try:
            with SIGNALS:
                self.trainer.fit(self.model, self.datamodule, ckpt_path=checkpoint)
        except Stopped as stopped:
            self._say_how_to_go_on(stopped)
            raise
        assert isinstance(self.parser, Parser)
        if self.trainer.is_global_zero:
            slurm.finished(self.parser.given)
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if saved := best or self._last_saved():  # without a validation there is no best one
            words = [*called("evaluate"), "--ckpt_path", saved, *naming(self.parser.given)]
            rank_zero_info(f"All scores and a report: {shlex.join(words)}")

    def _last_saved(self) -> str:
        """The last.ckpt that this process has written; empty for none."""
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        saved = (c._last_checkpoint_saved for c in callbacks if isinstance(c, LastCheckpoint))
        return next(filter(None, saved), "")

    def _say_how_to_go_on(self, stopped: Stopped) -> None:
        if not self.trainer.is_global_zero:
            return
        checkpoint = self._last_saved() or self.config.ckpt_path
        name, steps = signal.Signals(stopped.signum).name, self.trainer.global_step
        if checkpoint:
            say = f"stopped by {name} after {steps} steps; go on with: {command(checkpoint)}"
        else:
            say = f"stopped by {name} before the first checkpoint"
        files = self.trainer.strategy.checkpoint_io
        if isinstance(files, WholeFiles) and files.failure is not None:
            say += f" (from an earlier step: the last checkpoint was not written, {files.failure.strerror})"
        print(say, file=sys.stderr)
        if name == "SIGUSR1" and checkpoint and (number := slurm.job()) is not None:
            assert isinstance(self.parser, Parser)
            slurm.requeue(number, checkpoint, self.parser.given)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the checkpoint, and the links from data to model."""
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="checkpoint to go on from")
        parser.add_argument(
            "--new_version", type=bool, default=False, help="go on in a new version_N, not in its run folder"
        )
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")
        parser.link_arguments(
            "data.class_names", "model.network.init_args.num_classes", compute_fn=len, apply_on="instantiate"
        )
        parser.link_arguments("data.image_size", "model.network.init_args.image_size", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments given, whatever the process was called with."""
        assert isinstance(parser, Parser)
        assert args is None or isinstance(args, list)
        parser.given = tidy(sys.argv[1:] if args is None else args)
        self.config = parser.parse_args(list(parser.given))

    def before_instantiate_classes(self) -> None:
        """Name the run folder after the recipe, unless it has a name; without a logger log no rates.

        Raises:
            ValueError: an option of the trainer that does not go with this training.
        """
        if self.keeps_config:
            assert isinstance(self.parser, Parser)
            if (stopped := slurm.requeued(self.parser.given)) is not None:
                # Where this job was last, which began with the checkpoint that is given.
                self.config.ckpt_path, self.config.new_version = stopped, False
        trainer = self.config.trainer
        if trainer.logger is True:  # Lightning's own choice would not go on in its folder
            trainer.logger = self.parser.get_defaults().trainer.logger
        loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
        callbacks = trainer.callbacks = _once(trainer.callbacks or [])
        check_trainer(trainer)
        unwanted = ["LearningRateMonitor"] * (loggers == [False])
        unwanted += ["Checkpoint"] * (trainer.enable_checkpointing is False)
        if unwanted:
            trainer.callbacks = [c for c in callbacks if not c.class_path.endswith(tuple(unwanted))]
        recipes = self.config.config
        for logger in loggers:
            options = getattr(logger, "init_args", {})
            if recipes and options.get("name") == "lightning_logs":
                options["name"] = "-".join(Path(str(recipe)).stem for recipe in recipes)
        # What is trained, not where it goes on: as a recipe it begins another training, in its own folder.
        self.save_config_kwargs["recipe"] = recipe = self.config.clone()
        recipe.ckpt_path, recipe.new_version = None, False
        if self.config.ckpt_path is not None:
            self.config.model.init_from = None  # the run that goes on has weights
            folder = run_folder(Path(self.config.ckpt_path))
            if folder is not None and not self.config.new_version:
                log_into(loggers, folder)

    def instantiate_classes(self) -> None:
        """Build model and data, and let the data put images on the grey that the network was made for."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            if wrong := explain_value("trainer", str(error)):
                raise ValueError(wrong) from error
            raise
        self.datamodule.fill = self.model.network.fill
        callbacks, validates = self.trainer.callbacks, self.trainer.limit_val_batches != 0  # type: ignore[attr-defined]
        check_monitors(callbacks, self.datamodule.class_names, validates)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with our bar in the place of Lightning's own, unless the recipe names one."""
        common = self.config.trainer.sync_batchnorm
        if common:
            plugins = self.config_init.trainer.plugins or []
            kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), CommonNorms()]
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except TypeError as error:  # Lightning's word for some values
            raise ValueError(f"--trainer: {error}") from error
        if common and trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
            raise ValueError(
                "--trainer.sync_batchnorm=true: torch brings the statistics of norms together on GPUs alone; "
                "leave it out on a CPU"
            )
        if not hasattr(trainer, "val_check_interval"):  # Lightning 2.6 forgets it where it is a time
            trainer.val_check_interval = None  # type: ignore[assignment]
        named = any("ProgressBar" in c.class_path for c in self.config.trainer.callbacks or [])
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeFiles()
        callbacks.insert(0, StepSeeds())
        if trainer.world_size > 1:
            callbacks.insert(0, RankWatch(trainer.global_rank, trainer.local_rank))
        if self.datamodule.automatic_batch:
            callbacks.insert(0, AutomaticBatch(self.config.ckpt_path))
        if not named:
            callbacks[:] = [RunBar() if isinstance(c, ProgressBar) else c for c in callbacks]
        return trainer


def _once(callbacks: Sequence[Any]) -> list[Any]:
    """Callbacks of a configuration; one of ours that is named again takes the place of the one before."""
    ours = {c.class_path: i for i, c in enumerate(callbacks) if c.class_path.startswith("detector.")}
    return [c for i, c in enumerate(callbacks) if ours.get(c.class_path, i) == i]
