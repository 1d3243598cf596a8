"""What a folder of labeled images says by the names of its folders."""

from collections.abc import Iterator
from pathlib import Path

from chipdemo.inspection import ABNORMAL, NORMAL
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
PART_FOLDERS = ("train", "val", "validation", "test")
NO_DEFECTS = {"ground_truth", "masks"}  # what else may lie beside good/


def class_of(name: str) -> str | None:
    """The class that a folder or a label names, by any of its synonyms; None where it names none."""
    name = name.strip().lower()
    return NORMAL if name in NORMAL_NAMES else ABNORMAL if name in ABNORMAL_NAMES else None


def label_of(name: str) -> str | None:
    """The same, and "unsure"."""
    return UNSURE if name.strip().lower() == UNSURE else class_of(name)


def labeled_files(root: Path) -> Iterator[tuple[Path, str, str]]:
    """Every image of a folder, its label and its defect type; see labeled_folders."""
    for folder, label, types in labeled_folders(root):
        for path in _files(folder):
            of_type = path.relative_to(types).parts[:-1]
            yield path, label, "/".join(of_type) if label == ABNORMAL else ""


def labeled_folders(root: Path) -> Iterator[tuple[Path, str, Path]]:
    """Each folder that labels all images below it, the label, and the folder whose folders are
    defect types; upper and lower case are the same.

    `normal/` and `abnormal/` (or synonyms such as `good`, `defect`), folders below abnormal being
    defect types; or `good/` (or a synonym) beside one folder a defect type; and `unsure/`. Any of
    these may lie in `train/`, `val/` and `test/`, as MVTec AD has it; its `ground_truth/`, which
    holds masks, is passed over.
    """
    for part in part_folders(root) or [root]:
        # Beside a folder that says abnormal, one of another name may be anything, such as notes.
        named = any(class_of(folder.name) == ABNORMAL for folder in folders_in(part))
        for folder in folders_in(part):
            label = label_of(folder.name)
            if label or not named and folder.name.lower() not in NO_DEFECTS:
                yield folder, label or ABNORMAL, folder if label else part


def part_folders(root: Path) -> list[Path]:
    return [folder for folder in folders_in(root) if folder.name.lower() in PART_FOLDERS]


def folders_in(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
