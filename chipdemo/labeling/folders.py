"""The labels that the names of folders give to the images in them."""

from collections.abc import Collection, Iterator
from pathlib import Path

from chipdemo.errors import DataError
from chipdemo.inspection import ABNORMAL, CLASSES, NORMAL
from chipdemo.labeling.label import UNSURE

NORMAL_NAMES = {"normal", "good", "ok", "pass", "functional", "negative", "0"}
ABNORMAL_NAMES = {
    "abnormal",
    "defect",
    "defects",
    "defective",
    "bad",
    "ng",
    "nok",
    "fail",
    "anomaly",
    "positive",
    "1",
}
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
NOT_DEFECTS = {"ground_truth", "masks", "images", "labels", "annotations"}  # other folders beside good/
SHOWN = 8  # names of folders in an error


def class_of(name: str, normal: Collection[str] = (), abnormal: Collection[str] = ()) -> str | None:
    """The class that the name of a folder or a label means; None where it means none.

    normal, abnormal: names that mean these, besides the synonyms and before them. Upper and lower case are
    the same.
    """
    name = _plain(name)
    for names, label in ((normal, NORMAL), (abnormal, ABNORMAL)):
        if name in map(_plain, names):
            return label
    return NORMAL if name in NORMAL_NAMES else ABNORMAL if name in ABNORMAL_NAMES else None


def label_of(name: str, normal: Collection[str] = (), abnormal: Collection[str] = ()) -> str | None:
    """As class_of; also "unsure"."""
    return UNSURE if _plain(name) == UNSURE else class_of(name, normal, abnormal)


def labeled_files(
    root: Path, normal: Collection[str] = (), abnormal: Collection[str] = ()
) -> Iterator[tuple[Path, str, str]]:
    """Every file in a folder of labeled images, its label and its defect type. See labeled_folders."""
    for folder, label, types in labeled_folders(root, normal, abnormal):
        for path in _files(folder):
            defect_type = path.relative_to(types).parts[:-1]
            yield path, label, "/".join(defect_type) if label == ABNORMAL else ""


def labeled_folders(
    root: Path, normal: Collection[str] = (), abnormal: Collection[str] = ()
) -> list[tuple[Path, str, Path]]:
    """The folders that give a label to all files below them: (folder, label, parent of the defect types).

    Two layouts are read:
    - normal/ and abnormal/, or synonyms of these, at the top of root or in each of train/, val/ and test/,
      with a folder a defect type in abnormal/.
    - MVTec AD: train/ has good/ alone, and in val/ and test/ every other folder is a defect type.
    unsure/ may be beside them; masks and the like (NOT_DEFECTS) are left out. normal, abnormal: further names
    of class folders. Raises DataError, with the names that were found, for any other folder.
    """
    splits = split_folders(root)
    levels = [folders_in(level) for level in splits or [root]]
    found = [folder for level in levels for folder in level]
    _check_names(root, found, normal, abnormal)
    labels = {folder: label_of(folder.name, normal, abnormal) for folder in found}
    if splits and any(class_of(folder.name, normal, abnormal) for folder in folders_in(root)):
        raise DataError(f"{root} has class folders beside {splits[0].name}/. Move them into the splits.")
    if not any(label in CLASSES for label in labels.values()):
        raise DataError(
            f"{root} has no class folders{', only ' + _names(found) if found else ''}. Put the images into "
            f"{root.name}/{NORMAL} and {root.name}/{ABNORMAL}."
        )
    found = [folder for folder in found if labels[folder] or _plain(folder.name) not in NOT_DEFECTS]
    learned = {labels[folder] for folder in found if SPLITS.get(_plain(folder.parent.name)) == "train"}
    types = [
        folder
        for folder in found
        if not labels[folder] and learned == {NORMAL} and SPLITS[_plain(folder.parent.name)] != "train"
    ]
    if others := [folder for folder in found if not labels[folder] and folder not in types]:
        raise DataError(
            f"{_names(others)} in {root} may be normal or abnormal. Put defect types into {ABNORMAL}/, and "
            "remove or rename the rest."
        )
    return [
        (folder, labels[folder] or ABNORMAL, folder if labels[folder] else folder.parent) for folder in found
    ]


def split_folders(root: Path) -> list[Path]:
    """train/, val/ and test/ in root, as far as they are there."""
    return [folder for folder in folders_in(root) if _plain(folder.name) in SPLITS]


def split_of(path: Path, root: Path) -> str:
    """The split of a file below root, by its top folder: "train", "val", "test", or "" for none."""
    return SPLITS.get(_plain(path.relative_to(root).parts[0]), "")


def folders_in(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _check_names(root: Path, found: list[Path], normal: Collection[str], abnormal: Collection[str]) -> None:
    if both := set(map(_plain, normal)) & set(map(_plain, abnormal)):
        raise DataError(f"{both.pop()} is named both normal and abnormal. Choose one.")
    there = {_plain(folder.name) for folder in found}
    for name in (*normal, *abnormal):
        if _plain(name) not in there:
            raise DataError(f"{root} has no folder {name}. It has {_names(found)}.")


def _names(folders: list[Path]) -> str:
    names = sorted({folder.name for folder in folders})
    shown = ", ".join(f"{name}/" for name in names[:SHOWN]) or "no folders"
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def _plain(name: str) -> str:
    return name.strip().lower()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
