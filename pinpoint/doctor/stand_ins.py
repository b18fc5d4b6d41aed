"""Image files without pixels, to examine annotations whose images are elsewhere.

    python -m pinpoint.doctor.stand_ins SIZES FOLDER

SIZES is a COCO JSON, or a JSON object that gives each file name its [width, height]. What is written is the
head of a JPEG of that size under each name; `python -m pinpoint.doctor --annotations-only` reads no more.
"""

import argparse
import json
from pathlib import Path

from pinpoint.cli.errors import user_errors


def main(args: list[str] | None = None) -> None:
    """Write the files; args are the command line's."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m pinpoint.doctor.stand_ins", description=__doc__, formatter_class=raw
    )
    parser.add_argument("sizes", type=Path, help="COCO JSON, or a JSON object {file name: [width, height]}")
    parser.add_argument("folder", type=Path, help="where to")
    options = parser.parse_args(args)
    try:
        data = json.loads(options.sizes.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{options.sizes} cannot be read as JSON ({error})") from error
    try:
        if "images" in data:
            data = {image["file_name"]: (image["width"], image["height"]) for image in data["images"]}
        heads = {name: jpeg_head(width, height) for name, (width, height) in data.items()}
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{options.sizes} does not give every file name a width and height of whole numbers below 65536 "
            f"({type(error).__name__}: {error})"
        ) from error
    for name, head in heads.items():
        path = options.folder / name
        if not path.resolve().is_relative_to(options.folder.resolve()):
            raise ValueError(f"{options.sizes}: {name} lies outside of {options.folder}: name files below it")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:  # never over an image
            file.write(head)
    print(f"{len(heads)} files are in {options.folder}")


def jpeg_head(width: int, height: int) -> bytes:
    """A JPEG of one grey component without any data.

    Args:
        width: pixels, below 65536.
        height: pixels, below 65536.

    Source: ITU-T T.81, appendix B (frame header, scan header).
    """
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    frame = b"\xff\xc0\x00\x0b\x08" + size + b"\x01\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    return b"\xff\xd8" + frame + scan + b"\xff\xd9"


if __name__ == "__main__":
    with user_errors():
        main()
