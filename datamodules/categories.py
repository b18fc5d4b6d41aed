"""Which class index each category of a data set has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.batch import ANY_CLASS
from datamodules.records import DataError


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
        name = self._names[category]
        if name not in self._labels:
            raise DataError(
                f"{where} is of category '{name}', which the model does not know (it knows "
                f"{', '.join(self.class_names)}): train a model on it, or name it in data.ignore_categories, "
                "where the data has that option"
            )
        return self._labels[name]
