"""Command lines as people type them."""

import codecs
import sys
from pathlib import Path

import pytest

from pinpoint.__main__ import main as command_line
from pinpoint.cli.arguments import of_sections, results_label, tidy
from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.recipes import RECIPES, find_recipe, read_recipe


def refused(*args: str) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        tidy(args)
    return str(caught.value)


class Parsed(DetectionCLI):
    """A command line that is parsed, and nothing built."""

    def instantiate_classes(self) -> None: ...


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--data.image_size", "640"], "--data.image_size=[640, 640]"),
        (["--data.image_size=640,1088"], "--data.image_size=[640, 1088]"),
        (["--data.image_size=640x1088"], "--data.image_size=[640, 1088]"),
        (["--data.image_size=[640,1088]"], "--data.image_size=[640,1088]"),
        (["--model.network.strides", "4,8,16"], "--model.network.strides=[4,8,16]"),
        (["--model.optimizer.lr", "1e-3"], "--model.optimizer.lr=1e-3"),
        (["--trainer.max_epochs", "-1"], "--trainer.max_epochs=-1"),
        (["--config", "quickstart"], f"--config={RECIPES / 'quickstart.yaml'}"),
        (["-c", "configs/voc.yaml"], f"--config={find_recipe('voc')}"),
        (["--help"], "--help"),
    ],
)
def test_shorthands_are_written_out(given: list[str], meant: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # recipes are found from any folder
    assert tidy(given) == [meant]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["epochs=10"], "--trainer.max_epochs=10"),
        (["--epochs", "10"], "--trainer.max_epochs=10"),
        (["--imgsz=640"], "--data.image_size=640"),
        (["--batch-size", "8"], "--data.batch_size=8"),
        (["--lr", "0.01"], "--model.optimizer.lr=0.01"),
        (["--device", "0,1"], "--trainer.devices=[0,1]"),
        (["--device", "cuda:0"], "--trainer.accelerator=cuda"),
        (["--weights", "best.ckpt"], "--model.init_from=best.ckpt"),
        (["--resume", "last.ckpt"], "--ckpt_path=last.ckpt"),
        (["load_from=best.ckpt"], "--model.init_from=best.ckpt"),
        (["--seed", "3"], "--seed_everything=3"),
        (["data.image_size=640"], "--data.image_size=640"),
        (["custom"], "--config custom"),
    ],
)
def test_habits_of_other_tools_are_answered(given: list[str], meant: str) -> None:
    message = refused(*given)
    assert f"{' '.join(given)} -> {meant}" in message
    assert "--config yolo --data.yaml FILE" in message  # there is no recipe yet
    assert "--config yolo" not in refused("--config", "custom", *given)


def test_all_strange_words_are_answered_at_once() -> None:
    message = refused("epochs=10", "imgsz=640", "nonsense")
    assert (
        "epochs=10 -> --trainer.max_epochs=10\n  imgsz=640 -> --data.image_size=640\n  nonsense -> ?"
        in message
    )


def test_a_data_set_where_a_data_module_belongs(tmp_path: Path) -> None:
    assert "--config yolo --data.yaml coco128.yaml" in refused("--data", "coco128.yaml")
    assert "--config custom --data.train_images" in refused("--data=train.json")
    (tmp_path / "Annotations").mkdir()
    assert f"--config voc --data.root {tmp_path}" in refused(f"--data={tmp_path}")


def test_a_recipe_that_is_not_there() -> None:
    assert "did you mean custom?" in refused("--config", "configs/custm.yaml")
    assert "ours are coco_hybrid" in refused("--config", "nothing.yaml")


def test_a_recipe_of_any_editor(tmp_path: Path) -> None:
    file = tmp_path / "windows.yaml"
    file.write_bytes(
        codecs.BOM_UTF8 + b"data:\r\n  class_path: ScenesDataModule\r\n  init_args:\r\n    batch_size: 3\r\n"
    )
    assert read_recipe(file) == {"data": {"class_path": "ScenesDataModule", "init_args": {"batch_size": 3}}}
    assert Parsed([f"--config={file}"]).config.data.init_args.batch_size == 3


def test_a_wrong_indent_is_shown_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("trainer:\n  max_epochs: 3\n   precision: 16\n")
    assert refused(f"--config={file}").startswith(f"{file}, line 3 cannot be read")
    file.write_text("trainer:\n\tmax_epochs: 3\n")
    assert refused(f"--config={file}").startswith(f"{file}, line 2 cannot be read")


def test_sections_are_told_apart() -> None:
    words = tidy(
        ["--config", "custom", "--trainer.max_epochs", "3", "--data.batch_size=2", "--ckpt_path", "x"]
    )
    recipe, *rest = of_sections(words, ("data",))
    assert rest == ["--data.batch_size=2"]
    assert "CocoDataModule" in recipe
    assert "ciou" not in recipe  # the recipe's model


def test_a_data_module_of_ones_own_is_no_file() -> None:
    assert tidy(["--config", "yolo", "--data", "own.MyData"])[1:] == ["--data=own.MyData"]
    for file in ("own/MyData.yaml", "data.yaml", "boats.json"):
        with pytest.raises(ValueError, match="names a data set where the name of a data module belongs"):
            tidy(["--config", "yolo", "--data", file])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--data.yaml=boats/data.yaml", ["boats"]),
        ("--data.val_annotations=x/night.json", ["night"]),
        ("--data.image_size=[640, 640]", ["image_size-640-640"]),
        ("--trainer.limit_val_batches=2", ["limit_val_batches-2"]),
        ("--trainer.precision=bf16-mixed", ["precision-bf16-mixed"]),
        ("--model.loss.box=nwd", []),
    ],
)
def test_data_is_named_in_a_word(option: str, words: list[str]) -> None:
    assert results_label([option]) == words


# What the parser says


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model.network.bakbone=x", r"^there is no option --model\.network\.bakbone; did you mean "
         r"--model\.network\.backbone\?$"),
        ("--model.network=YOLO9", r"^--model\.network=YOLO9: no such class; did you mean YOLOv9\?"),
        ("--data.batchsize=4", r"no option --data\.batchsize; did you mean --data\.batch_size"),
        ("--data.augment.mosaik=1", r"no option --data\.augment\.mosaik; did you mean --data\.augment"),
        ("--model.loss.classification=bcee", r"did you mean bce.* choose among bce, cross_entropy, focal"),
        ("--data.on_error=ignore", r"--data\.on_error=ignore: choose among raise, skip$"),
        ("--data.batch_size=16.5", r"^--data\.batch_size=16\.5: give a whole number, or choose among auto$"),
        ("--model.compile=fast", r"^--model\.compile=fast: give true or false, or choose among graphs$"),
        ("--model.optimizer=Adamm", r"no such class; did you mean Adam "),
        ("--trainer.callbacks+=EarlyStoping", r"no such class; did you mean EarlyStopping\?"),
        ("--data.root=d", r"another format; .* reads COCO(.*\n)+.*VisDrone: .*--config visdrone(\n|$)"),
        ("--trainer.callbacks+=LearningRateFinder", r"LearningRateFinder does not go with .* compare\.py"),
        ("--trainer.callbacks+=BackboneFinetuning", r"BackboneFinetuning does not go with .*backbone_lr"),
        ("--trainer.callbacks+=Timer", r"Timer does not go with .*--trainer\.max_time"),
        ("--trainer.callbacks+=EarlyStopping", r"^--trainer\.callbacks=EarlyStopping: it needs --trainer\."),
        ("--trainer.max_epochs=ten", r"^--trainer\.max_epochs=ten: it must be a whole number$"),
        ("--model.optimizer.lr=fast", r"^--model\.optimizer\.lr=fast: it must be a number$"),
        ("--model.optimizer.weight_decay=x", r"^--model\.optimizer\.weight_decay=x: it must be a number$"),
        ("--data.augment.mosaic=yes", r"^--data\.augment\.mosaic=True: it must be a number$"),
        ("--data.image_size=640x", r"^--data\.image_size=640x: .* whole number or a list in brackets$"),
        ("--data.image_size=[640]", r"=\[640\]: it must be a whole number or a list of 2 in brackets$"),
        ("--data.ignore_categories=x", r"^--data\.ignore_categories=x: it must be a list in brackets$"),
        ("--model.loss.cls=bce", r"no option --model\.loss\.cls; those of --model\.loss are box, class"),
        ("--patience=5", r"--patience=5 -> --trainer\.callbacks\+=EarlyStopping .*\.patience=5"),
        ("data=my.yaml", r"data=my\.yaml -> --config yolo --data\.yaml=my\.yaml"),
        ("--data.sampling=3", r"^--data\.sampling=3: it has options, .* --data\.sampling\.NAME=VALUE$"),
        ("--seed_everything=true", r"^--seed_everything=True: it must be a whole number$"),
    ],
)  # fmt: skip
def test_mistakes_are_answered_by_what_was_meant(option: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parsed(["--config", "custom", option])


@pytest.mark.parametrize("command", ["train", "doctor"])
def test_a_data_yaml_is_no_recipe(command: str, tmp_path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINPOINT_TRACEBACK", raising=False)
    file = tmp_path / "data.yaml"
    file.write_text("train: images\nval: images\nnames: [car]\n")
    with pytest.raises(SystemExit):
        command_line([command, "--config", str(file)])
    assert f"is no recipe: write --config yolo --data.yaml {file}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "option"),
    [
        ("data: {class_path: ScenesDataModule, init_args: {batch_sise: 3}}", "data.batch_size"),
        ("model: {network: {chanels: 16}}", "model.network.channels"),
        ("trainer: {max_epochz: 3}", "trainer.max_epochs"),
    ],
)
def test_a_mistake_in_a_recipe_of_another_folder(
    recipe: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("mine/recipe.yaml")
    file.parent.mkdir()
    file.write_text(recipe)
    with pytest.raises(ValueError, match=rf"did you mean --{option}"):
        Parsed(["--config", "quickstart", "--config", str(file)])


def test_the_installed_command_finds_modules_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    Path("loss_of_mine.py").write_text(
        "from losses.regression import SimilarityLoss\n\nclass Mine(SimilarityLoss): pass\n"
    )
    options = ["train", "--config", "quickstart", "--model.loss.box=loss_of_mine.Mine"]
    with pytest.raises(SystemExit) as ended:
        command_line([*options, "--model.loss.box.similarity=giou", "--print_config"])
    assert ended.value.code in (None, 0)
    assert "class_path: loss_of_mine.Mine" in capsys.readouterr().out


def test_a_name_with_options_asks_for_the_class() -> None:
    with pytest.raises(ValueError, match=r"HybridLoss --model\.loss\.box\.gamma=2"):
        Parsed(["--config", "custom", "--model.loss.box=hybrid", "--model.loss.box.gamma=2"])


def test_without_data_the_recipes_are_listed() -> None:
    for args in ([], ["--config", "small"], ["--trainer.max_epochs=3"], ["--data.train_images=x"]):
        with pytest.raises(ValueError, match=r"YOLO: .*\n.*--config yolo --data\.yaml FILE"):
            Parsed(args)


@pytest.mark.parametrize("command", ["doctor", "compare"])
def test_other_commands_list_the_recipes_too(command: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINPOINT_TRACEBACK", raising=False)
    with pytest.raises(SystemExit):
        command_line([command, "--trainer.max_epochs=3"])
    assert "--config yolo --data.yaml FILE" in capsys.readouterr().err


def test_a_misspelt_command(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINPOINT_TRACEBACK", raising=False)
    with pytest.raises(SystemExit):
        command_line(["evalute"])
    assert capsys.readouterr().err == "error: no command evalute: did you mean evaluate?\n"


def test_help_of_a_recipe_shows_its_own_data_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Parsed(["--config", "yolo", "--help"])
    text = capsys.readouterr().out
    assert text.index("--data.yaml") < text.index("--data.augment.mosaic") < text.index("--model.loss.box")
    assert text.index("--model.loss.box") < text.index("--trainer.max_epochs")
    assert "default: data/custom/data.yaml" in text  # the recipe's
    assert "--data.train_images" not in text
    assert "--model.network.channels" in text
    assert "default: mobilenetv4_conv_small)" in text
