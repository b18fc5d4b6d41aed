from pathlib import Path

import pytest

from datamodules.modules import ScenesDataModule
from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.recipes import data_module

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def options(module):
    return module.image_size, module.batch_size, module.seed, module.augment, module.class_names


def test_builds_what_train_py_builds(tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text("seed_everything: 5\ndata: {init_args: {batch_size: 3, augment: {mosaic: 0.25}}}\n")
    recipes = [CONFIGS / "visdrone_hybrid.yaml", more]
    overrides = ["--data.augment.flip=0.125", "--data.image_size=[64,96]"]
    ours = data_module(recipes, overrides)
    cli = DetectionCLI([*(f"--config={path}" for path in recipes), *overrides], False)
    assert type(ours) is type(cli.datamodule)
    assert options(ours) == options(cli.datamodule)
    assert options(ours)[:3] == ((64, 96), 3, 5)


def test_options_of_a_training_are_left_aside():
    module = data_module(
        ["quickstart"], ["--trainer.max_epochs", "3", "--model.loss.box=ciou", "--data.batch_size=5"]
    )
    assert module.batch_size == 5


def test_one_number_is_a_square(tmp_path):
    recipe = tmp_path / "square.yaml"
    recipe.write_text("data: {class_path: ScenesDataModule, init_args: {image_size: 96}}")
    assert data_module([recipe]).image_size == (96, 96)


def test_a_class_may_come_from_the_command_line_alone():
    module = data_module([], ["--data=ScenesDataModule", "--data.train_count=3"])
    assert isinstance(module, ScenesDataModule)
    assert module.counts["train"] == 3


@pytest.mark.parametrize(
    ("recipes", "overrides", "message"),
    [
        (["nope.yaml"], [], r"no recipe at .*nope\.yaml: ours are .*custom"),
        (["small.yaml"], [], r"no data: give a recipe.*\n.*COCO"),
        (
            ["quickstart.yaml"],
            ["--data.augment.mosaik=1"],
            r"no option --data.augment.mosaik; did you mean --data.augment.mosaic\?",
        ),
        (["quickstart.yaml"], ["--data.augment.flip=2"], r"augment.flip must lie in \[0, 1\], got 2"),
        ([], [], r"no data: give a recipe"),
        (["quickstart.yaml"], ["--modle.x=2"], "no option --modle.x"),
    ],
)
def test_mistakes_give_one_message(recipes, overrides, message):
    with pytest.raises(ValueError, match=message) as caught:
        data_module([CONFIGS / name for name in recipes], overrides)
    assert "Union" not in str(caught.value)


@pytest.mark.parametrize("content", ["just words", "data: [", "data: {class_path: NoSuchModule}"])
def test_not_a_recipe(tmp_path, content):
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"broken\.yaml"):
        data_module([path])


def test_extra_transforms_come_from_yaml_even_nested(tmp_path):
    recipe = tmp_path / "extra.yaml"
    recipe.write_text(
        """
        data:
          class_path: ScenesDataModule
          init_args:
            augment:
              extra:
                - class_path: albumentations.Rotate
                  init_args: { limit: [-15, 15], fill: 127, rotate_method: ellipse, p: 1 }
                - class_path: albumentations.OneOf
                  init_args:
                    transforms:
                      - class_path: albumentations.CLAHE
                      - class_path: albumentations.GaussNoise
                        init_args: { std_range: [0.02, 0.1] }
        """
    )
    rotate, one_of = data_module([recipe]).augment.extra
    assert (rotate.limit, rotate.fill, rotate.rotate_method, rotate.p) == ((-15, 15), 127, "ellipse", 1)
    assert [type(transform).__name__ for transform in one_of.transforms] == ["CLAHE", "GaussNoise"]
