"""Which class index each category of a data set has, and the images that were read with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from datamodules.batch import ANY_CLASS
from datamodules.formats.rows import ObjectList
from datamodules.problems import DataError, Problems
from datamodules.records import Record, Records


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
        DataError: if two categories share a name, an ignored one does not exist, or all are ignored.
    """

    def __init__(
        self,
        source: Path,
        names: Mapping[int, str],
        ignored: Sequence[str] = (),
        class_names: Sequence[str] | None = None,
    ) -> None:
        known = list(names.values())
        if unknown := [name for name in ignored if name not in known]:
            raise DataError(
                f"{source} has no category {unknown} named in data.ignore_categories: "
                f"its categories are {', '.join(known)}"
            )
        if len(set(known)) < len(known):
            raise DataError(f"{source} has categories of the same name: give each name one id")
        if set(known) <= set(ignored):
            raise DataError(f"{source} has no category to detect: its categories are {known}")
        self.source = source
        self._names = dict(sorted(names.items()))
        own = [name for name in self._names.values() if name not in ignored]
        self.class_names = list(class_names) if class_names else own
        self._labels = {name: label for label, name in enumerate(self.class_names)}
        self._labels |= dict.fromkeys(ignored, ANY_CLASS)
        id_of = {name: id_ for id_, name in self._names.items()}
        for name in self.class_names:
            id_of.setdefault(name, max(id_of.values()) + 1)
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
        if name not in self._labels:
            raise DataError(
                f"{where} is of category '{name}', which the model does not know (it knows "
                f"{', '.join(self.class_names)}): train a model on it, or name it in data.ignore_categories, "
                "where the data has that option"
            )
        return self._labels[name]

    def records(self, images: Iterable[tuple[Path, ObjectList]], problems: Problems) -> Records:
        """What a reader has found, without the images that have a problem.

        Warns once of all boxes without size or wholly outside their image, which are left out.

        Args:
            images: each image file with its objects, ascending by image id.
            problems: what is wrong with them.

        Raises:
            DataError: if every image has a problem.
        """
        images = list(images)
        if vanished := sum(objects.vanished for _, objects in images):
            rank_zero_warn(
                f"{self.source}: {vanished} boxes without size or outside their image are left out"
            )
        found = [Record(str(path), objects.info, objects.annotations()) for path, objects in images]
        return Records(self.class_names, self.ids, problems.sift(found))
