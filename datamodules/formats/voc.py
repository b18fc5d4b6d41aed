"""Data sets in Pascal VOC's folders and XML files.

Format: `Annotations/NAME.xml`, `JPEGImages/NAME.jpg`, and the names of a split in `ImageSets/Main/SPLIT.txt`;
pixels count from 1, and `xmax`, `ymax` are the last ones inside. Everingham et al., The PASCAL Visual Object
Classes Challenge 2012 Development Kit, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from datamodules.files import exists, files_below, is_image, read_bytes, read_text, reason, sidecar
from datamodules.formats.categories import Categories
from datamodules.formats.rows import ImageRows
from datamodules.formats.values import IGNORE_FLAGS, flag, number, side
from datamodules.images.headers import annotated_turn, check_images, images_in, refuse_same_names
from datamodules.problems import DataError, Problems
from datamodules.records import Records, Split

ENCODING = re.compile(rb"""^\s*<\?xml[^>]*\bencoding\s*=\s*["']([\w.-]+)["']""", re.ASCII)
"""Where the head of an XML file says its encoding, if its first bytes do not."""

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_class_names(
    root: Path, splits: Sequence[Split] = ("train", "val"), ignore_categories: Sequence[str] = ()
) -> list[str]:
    """Names of all objects of some splits, sorted, without the ignored ones.

    Raises:
        DataError: if a split's list cannot be read, or nothing is annotated.
    """
    names: set[str] = set()
    unread: str | None = None
    for stem in {stem for split in splits for stem in _stems(root, split)}:
        file = _annotation_file(root, stem)
        try:
            names |= {_text(entry, "name") for entry in _parse(file).findall("object")}
        except (OSError, ValueError) as error:
            # For the reader to report, unless it is all there is.
            unread = f"{file} cannot be read ({reason(error)})"
    if unread and not names:
        raise DataError(f"{unread}: restore it, or take it off the split's list")
    return Categories(root / "Annotations", dict(enumerate(sorted(names))), ignore_categories).class_names


def read_voc(
    root: Path,
    split: Split,
    ignore_categories: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
    problems: Problems | None = None,
) -> Records:
    """Read one split of a VOC data set.

    Objects marked `difficult` become ignore boxes of their class, those of `ignore_categories` ignore boxes
    of every class. Category ids count the class names from 1, image ids the images from 1 in the order of
    their names. Boxes without size or wholly outside their image are left out, with one warning. A size of
    the image that is missing or 0 is the image's own.

    Args:
        root: folder that holds Annotations, JPEGImages and ImageSets.
        split: which split.
        ignore_categories: names of classes that mark regions with unlabelled objects.
        class_names: order of the class indices; see `read_class_names` if not given.
        problems: takes what is wrong with single images; the first is raised if not given.

    Raises:
        DataError: if a folder or list is missing, an annotation file is malformed, or an object's class is
            neither among the class names nor ignored.
    """
    problems = problems or Problems()
    names = class_names or read_class_names(root, ignore_categories=ignore_categories)
    known = dict(enumerate(dict.fromkeys((*names, *ignore_categories)), start=1))
    categories = Categories(root / "Annotations", known, ignore_categories, names)
    folder = root / "JPEGImages"
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: data.root must hold Annotations, JPEGImages and ImageSets"
        )
    stems, files = _stems(root, split), images_in(folder, deep=True)
    by_stem = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    paths = [by_stem.get(stem, folder / f"{stem}.jpg") for stem in stems]
    wanted = {path.with_suffix("") for path in paths}
    refuse_same_names([path for path in files if path.with_suffix("") in wanted], problems)
    headers = check_images(paths, list_path(root, split), problems)
    images = []
    for image_id, (stem, path) in enumerate(zip(stems, paths, strict=True), start=1):
        if path in headers:
            file = _annotation_file(root, stem)
            with problems.of_file(file, "restore it, or take it off the split's list", path):
                image = ImageRows(path, image_id, f"{stem}{path.suffix}", headers[path])
                images.append(_read_objects(file, image, categories, problems))
    return categories.records(images, problems)


def list_path(root: Path, name: str) -> Path:
    """File that lists the names of images, of a split or of trainval."""
    return root / "ImageSets" / "Main" / f"{name}.txt"


def _stems(root: Path, split: Split) -> list[str]:
    """Names of a split's images.

    Without lists of train and val, train is trainval.txt; without that, all that is annotated but test.
    """
    if split != "train" or any(exists(list_path(root, listed)) for listed in ("train", "val")):
        return _listed(list_path(root, split))
    if exists(both := list_path(root, "trainval")):
        return _listed(both)
    folder = root / "Annotations"
    files = [path for path in files_below(folder) if path.suffix.lower() == ".xml" and path.name[0] != "."]
    stems = {path.relative_to(folder).with_suffix("").as_posix() for path in files}
    if not stems:
        return _listed(list_path(root, split))
    if exists(test := list_path(root, "test")):
        stems -= set(_listed(test))
        if not stems:
            raise DataError(f"{test} lists all annotated images: none is left to train on")
    return sorted(stems)


def _listed(file: Path) -> list[str]:
    """Names that a list holds, sorted, without the ending that some tools write."""
    try:
        rows = read_text(file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file} cannot be read ({reason(error)}): it must list one image name a line. Without "
            "lists, data.val_fraction=0.2 divides all annotated images"
        ) from None
    names = {row.strip().replace("\\", "/") for row in rows if row.strip()}
    stems = sorted({str(Path(name).with_suffix("")) if is_image(Path(name)) else name for name in names})
    if not stems:
        raise DataError(f"{file} lists no images: a data set needs at least one")
    return stems


def _annotation_file(root: Path, stem: str) -> Path:
    return sidecar(root / "Annotations" / f"{stem}.xml")


def _read_objects(file: Path, image: ImageRows, categories: Categories, problems: Problems) -> ImageRows:
    """An image, with the objects of its file.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is malformed.
    """
    tree = _parse(file)
    height, width = (side(tree.findtext(f"size/{key}"), key) for key in ("height", "width"))
    size = (height, width) if height and width else None
    image.frame = annotated_turn(image.path, image.header, size, str(file), problems)
    for row, entry in enumerate(tree.findall("object")):
        place = f"{file}: object[{row}]"
        with problems.of_row(place, "correct or remove it", image.path):
            label = categories.label_by_name(_text(entry, "name"), place)
            left, top, right, bottom = (number(_text(entry, f"bndbox/{key}"), key) for key in CORNERS)
            ignore = any([flag(entry.findtext(key), key) for key in IGNORE_FLAGS])
            # Pixels count from 1, and the last ones are inside.
            image.add(place, (left - 1, top - 1, right - left + 1, bottom - top + 1), label, ignore=ignore)
    return image


def _parse(file: Path) -> ElementTree.Element:
    """The root element of an annotation file.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not well-formed, or declares a document type: VOC's files have none, and entities
            can blow a small file up to any size or name other files.
    """
    found = ENCODING.search(read_bytes(file)[:200])
    try:
        text = read_text(file, found[1].decode() if found else "utf-8").lstrip()
    except LookupError as error:
        raise ValueError(str(error)) from None
    # Null characters are those of UTF-16 and 32, where the search for the declaration would find nothing.
    if "<!DOCTYPE" in text or "<!ENTITY" in text or "\0" in text:
        raise ValueError("it declares a document type or is not UTF-8")
    try:
        # Python knows more encodings than the parser, which is told that there is none left.
        tree = ElementTree.fromstring(text.encode(), ElementTree.XMLParser(encoding="utf-8"))
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(str(error)) from None
    if tree.tag != "annotation":
        raise ValueError(f"it begins with <{tree.tag[:40]}>, not with <annotation>")
    return tree


def _text(entry: ElementTree.Element, key: str) -> str:
    text = entry.findtext(key, "").strip()
    if not text:
        raise ValueError(f"it has no {key}")
    return text
