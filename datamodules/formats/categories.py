"""Which class index each category of a data set has, and the images that were read with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.batch import ANY_CLASS
from datamodules.files import visible
from datamodules.formats.rows import ImageRows
from datamodules.problems import NEARLY_ALL, DataError, Problems, RowsWarning
from datamodules.records import Records


class Categories:
    """Maps the categories of a data set to the class indices of a model.

    Args:
        source: file or folder that defines the categories.
        names: name of each category id.
        ignored: names of the categories that mark regions with unlabelled objects of any class.
        class_names: order of the class indices; that of the category ids if not given. Names that the data
            set does not have get new category ids above its largest.

    Attributes:
        class_names: name of each class index.
        ids: category id of each class index.

    Raises:
        DataError: if two categories share a name, or without class names an ignored one does not exist or
            all are ignored.
    """

    def __init__(
        self,
        source: Path | str,
        names: Mapping[int, str],
        ignored: Sequence[str] = (),
        class_names: Sequence[str] | None = None,
    ) -> None:
        names = {id_: visible(name) for id_, name in names.items()}
        ignored = [visible(name) for name in ignored]
        known = list(names.values())
        if len(set(known)) < len(known):
            raise DataError(f"{source} has categories of the same name: give each name one id")
        if not class_names:
            if unknown := [name for name in ignored if name not in known]:
                raise DataError(
                    f"{source} has no category {unknown} named in data.ignore_categories: "
                    f"its categories are {', '.join(known)}"
                )
            if set(known) <= set(ignored):
                raise DataError(f"{source} has no category to detect: its categories are {known}")
        self.source = source
        self._names = dict(sorted(names.items()))
        own = [name for name in self._names.values() if name not in ignored]
        self.class_names = [visible(name) for name in class_names] if class_names else own
        self._labels = {name: label for label, name in enumerate(self.class_names)}
        self._labels |= dict.fromkeys(ignored, ANY_CLASS)
        id_of = {name: id_ for id_, name in self._names.items()}
        for name in self.class_names:
            id_of.setdefault(name, max(id_of.values(), default=0) + 1)
        self.ids = [id_of[name] for name in self.class_names]

    def __contains__(self, category: object) -> bool:
        return category in self._names

    def label(self, category: int, where: str) -> int:
        """Class index of a category, `ANY_CLASS` of an ignored one.

        Args:
            category: one of the categories.
            where: file and row, for the message.

        Raises:
            DataError: if the model does not know the category. That is a mistake of the whole split, not of
                one image: skipped images would leave a score that is not the data set's.
        """
        return self.label_by_name(self._names[category], where)

    def label_by_name(self, name: str, where: str) -> int:
        """The same for a category's name."""
        name = visible(name)
        if name not in self._labels:
            raise DataError(
                f"{where} is of category '{name}', which the model does not know (it knows "
                f"{', '.join(self.class_names)}): train a model on it, with it in data.class_names if those "
                "are given, or name it in data.ignore_categories, where the data has that option"
            )
        return self._labels[name]

    def records(self, images: Sequence[ImageRows], problems: Problems) -> Records:
        """What a reader has found, without the images that have a problem.

        Warns once of all boxes without size or wholly outside their image, which are left out.

        Args:
            images: ascending by image id.
            problems: what is wrong with them; gets their rows.

        Raises:
            DataError: if nearly all images or rows have a problem, or nearly all boxes are left out.
        """
        problems.rows = {str(image.path): (image.info, image.rows) for image in images}
        rows = sum(len(image.rows) for image in images)
        found = [image.record() for image in images]
        if vanished := sum(count for _, count in found):
            message = f"{self.source}: {vanished} of {rows} boxes without size or outside their image"
            if vanished > NEARLY_ALL * rows:
                raise DataError(f"{message}: are they written as the format says?")
            rank_zero_warn(f"{message} are left out", category=RowsWarning)
        kept = problems.without_problems([record for record, _ in found])
        return Records(self.class_names, self.ids, kept)


def union(names: Mapping[Path, Mapping[int, str]], ignored: Sequence[str] = ()) -> list[str]:
    """Class names of a run whose files have categories of their own: those of the first file, then new ones.

    Args:
        names: name of each category id, by file.
        ignored: names that are no classes.

    Raises:
        DataError: see `Categories`.
    """
    merged = dict.fromkeys(name for of_file in names.values() for _, name in sorted(of_file.items()))
    source = " and ".join(str(path) for path in names)
    return Categories(source, dict(enumerate(merged)), ignored).class_names
