"""train.py --help, which is written by hand, so that it need not wait for the libraries."""

import re

from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.train import HELP, main


class Parsed(DetectionCLI):
    """A command line that is parsed, and nothing built."""

    def instantiate_classes(self) -> None: ...


def test_every_option_of_the_short_help_exists() -> None:
    named = {
        tuple(match) for match in re.findall(r"--((?:data|model|trainer)\.[\w.]+) '?([\w.:,\[\]]+|$)", HELP)
    }
    assert len(named) > 15
    options = [f"--{name}={value}" for name, value in named if value not in ("A", "FILE")]
    Parsed(["--config", "custom", *options])


def test_short_help_names_the_recipes(capsys) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    assert "--config yolo --data.yaml FILE" in text
    assert "--data.image_size" in text
