"""Data sets in Pascal VOC's folders and XML files.

Format: `Annotations/NAME.xml`, `JPEGImages/NAME.jpg`, and the names of a split in `ImageSets/Main/SPLIT.txt`;
pixels count from 1, and `xmax`, `ymax` are the last ones inside. Everingham et al., The PASCAL Visual Object
Classes Challenge 2012 Development Kit, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from datamodules.batch import ImageInfo
from datamodules.formats.categories import Categories
from datamodules.formats.rows import ObjectList
from datamodules.images.headers import IMAGE_SUFFIXES, Header, check_images, require_size
from datamodules.problems import DataError, Problems
from datamodules.records import Records, Split


def read_class_names(root: Path, ignore_categories: Sequence[str] = ()) -> list[str]:
    """Names of all objects of the training and validation split, sorted, without the ignored ones.

    Raises:
        DataError: if a split's list cannot be read, or nothing is annotated.
    """
    names: set[str] = set()
    for stem in {*_stems(root, "train"), *_stems(root, "val")}:
        try:
            found = _parse(root / "Annotations" / f"{stem}.xml").findall("object")
            names |= {_name(entry) for entry in found}
        except (OSError, ValueError):
            continue  # for the reader to report
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
    their names. Boxes without size or wholly outside their image are left out, with one warning.

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
    names = class_names or read_class_names(root, ignore_categories)
    known = dict(enumerate((*names, *ignore_categories), start=1))
    categories = Categories(root / "Annotations", known, ignore_categories, names)
    folder = root / "JPEGImages"
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: data.root must hold Annotations, JPEGImages and ImageSets"
        )
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
    stems = _stems(root, split)
    paths = [files.get(stem, folder / f"{stem}.jpg") for stem in stems]
    headers = check_images(paths, list_path(root, split), problems)
    images = []
    for image_id, (stem, path) in enumerate(zip(stems, paths, strict=True), start=1):
        if path in headers:
            objects = ObjectList(ImageInfo(image_id, path.name, headers[path].size))
            file = root / "Annotations" / f"{stem}.xml"
            _read_objects(file, path, headers[path], objects, categories, problems)
            images.append((path, objects))
    return categories.records(images, problems)


def list_path(root: Path, split: Split) -> Path:
    """File that lists the names of a split's images."""
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _stems(root: Path, split: Split) -> list[str]:
    file = list_path(root, split)
    try:
        rows = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}): it must list one image name a line") from None
    stems = sorted({row.strip() for row in rows if row.strip()})
    if not stems:
        raise DataError(f"{file} lists no images: a data set needs at least one")
    return stems


def _read_objects(
    file: Path, image: Path, header: Header, objects: ObjectList, categories: Categories, problems: Problems
) -> None:
    try:
        tree = _parse(file)
        size = tree.find("size")
        if size is not None:
            shape = round(_number(size, "height")), round(_number(size, "width"))
            require_size(image, header, shape, str(file), problems)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        problems.add(
            f"{file} is malformed ({error}): restore it, or take it off the split's list", str(image)
        )
        return
    for row, entry in enumerate(tree.findall("object")):
        where = f"{file}: object[{row}]"
        try:
            label = categories.label_by_name(_name(entry), where)
            corners = entry.find("bndbox")
            if corners is None:
                raise ValueError("it has no bndbox")
            left, top, right, bottom = (_number(corners, key) for key in ("xmin", "ymin", "xmax", "ymax"))
            difficult = bool(int(entry.findtext("difficult", "0").strip() or "0"))
            # Pixels count from 1, and the last ones are inside.
            box = (left - 1, top - 1, right - left + 1, bottom - top + 1)
            objects.add(box, label, ignore=difficult)
            problems.row(where, str(image), objects.info, box, label, difficult)
        except DataError:
            raise
        except ValueError as error:
            problems.add(f"{where} is malformed ({error}): correct or remove it", str(image))


def _parse(file: Path) -> ElementTree.Element:
    """The root element of an XML file.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not well-formed, or declares a document type: VOC's files have none, and entities
            can blow a small file up to any size or name other files.
    """
    text = file.read_bytes()
    # Null characters are UTF-16's, where the search for the declaration would find nothing.
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:
        raise ValueError("it declares a document type or is not UTF-8")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(str(error)) from None


def _name(entry: ElementTree.Element) -> str:
    name = entry.findtext("name", "").strip()
    if not name:
        raise ValueError("it has no name")
    return name


def _number(entry: ElementTree.Element, key: str) -> float:
    text = entry.findtext(key, "missing").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{key} is {text[:40]!r}")
    return value
