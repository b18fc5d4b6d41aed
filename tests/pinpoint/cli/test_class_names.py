"""Names of classes on their way from a checkpoint to the evaluation, whatever they hold."""

from tiny import TINY_MODEL

from datamodules.files import visible
from pinpoint.cli.detection import DetectionCLI

NAMES = [
    "🚁 drone",
    "日本",
    "a: b, [c]",
    'it\'s "x"',
    "back\\slash",
    "$x_1$",
    "yes",
    "1",
    "tab\tname",
    "\x7f",
    "x" * 200,
]


def test_any_class_name_comes_back(coco_folder) -> None:
    coco_folder.data["categories"] = [{"id": i, "name": name} for i, name in enumerate(NAMES, start=1)]
    coco_folder.save()
    places = (f"--data.train_images={coco_folder.images}", f"--data.train_annotations={coco_folder.json}")
    cli = DetectionCLI(["--config=custom", *places, "--data.val_fraction=0.5", *TINY_MODEL])
    text = cli.parser.dump(cli.config, skip_none=False)
    names = [visible(name) for name in NAMES[::-1]]  # as checkpoints have them
    again = DetectionCLI._for_evaluation(text, names, [])
    assert again.datamodule.class_names == again.model.class_names == names
