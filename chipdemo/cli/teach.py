"""python -m chipdemo teach: good images -> a checkpoint."""

import argparse
import shlex
import statistics
from pathlib import Path

from chipdemo.cli import add_command, show_refused, show_share
from chipdemo.errors import DataError
from chipdemo.settings import Settings

OUTLIERS = ("show", "keep", "drop")


def add_to(commands: argparse._SubParsersAction) -> None:
    about = "teach a new chip from 10 or more good images: no training, no defect needed"
    take = add_command(commands, "teach", teach, about, "max_megapixels")
    take.add_argument("good", type=Path, metavar="FOLDER_OF_GOOD", help="all images below it are good")
    take.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint folder to write")
    take.add_argument(
        "--abnormal", type=Path, metavar="FOLDER", help="known defects, to set the threshold by"
    )
    take.add_argument(
        "--memory-for",
        metavar="MODEL",
        help="trained classifier, a folder or Hub id: --out becomes a copy that judges as before, and also "
        "shows what no good image shows",
    )
    take.add_argument(
        "--false-alarms",
        type=_rate,
        default=0.02,
        metavar="RATE",
        help="share of good images that may be stopped, above 0 and up to 0.5 (default: %(default)s)",
    )
    take.add_argument(
        "--outliers",
        choices=OUTLIERS,
        default=OUTLIERS[0],
        help="good images that stand out: show them and end, learn them too, or leave them out "
        "(default: %(default)s)",
    )
    take.add_argument(
        "--without-images",
        action="store_true",
        help="keep no small copies of the good images, which show what a defect should look like",
    )


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= 0.5:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and up to 0.5; found {text}")
    return rate


def teach(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.folders import class_of, folders_in
    from chipdemo.vision.anomaly import fitting as teaching
    from chipdemo.vision.anomaly.features import starting_backbone, study_images, trained_backbone
    from chipdemo.vision.checkpoint import find_checkpoint

    if flags.memory_for and flags.abnormal:
        raise DataError(
            "Expected --abnormal or --memory-for; found both. A trained classifier keeps its own threshold: "
            "leave --abnormal out."
        )
    paths = _images_in(flags.good)
    if bad := [folder.name for folder in folders_in(flags.good) if class_of(folder.name) == "abnormal"]:
        raise DataError(
            f"Expected good images alone in {flags.good}; found the folder {bad[0]}. Give the folder of "
            "the good ones, and the defects with --abnormal."
        )
    trained = find_checkpoint(flags.memory_for) if flags.memory_for else None
    backbone = trained_backbone(trained) if trained else starting_backbone()
    megapixels = settings.max_megapixels
    study = study_images(paths, backbone, show_share, megapixels)
    lesson = teaching.learn(study, progress=show_share)
    show_refused(study.left_out)
    for warning in study.warnings:
        print(f"Warning: {warning}")
    if lesson.outliers:
        usual = float(statistics.median(lesson.scores))
        print(f"Among the good images, {len(lesson.outliers):,} stand out:")
        for row in lesson.outliers:
            print(f"  {study.names[row]}: {lesson.scores[row] / max(usual, 1e-6):.1f} times the usual score")
        if flags.outliers == "show":
            raise DataError(
                "Expected good images that are alike; nothing was learned yet. Look at those above, "
                "then go on with --outliers drop or --outliers keep."
            )
        if flags.outliers == "drop":
            lesson = teaching.learn(study.without(lesson.outliers), progress=show_share)
    if trained:
        teaching.save_with_memory(flags.out, trained, lesson, not flags.without_images)
        print(f"{flags.memory_for} judges as before and knows {len(lesson.study.names):,} good images.")
        _show_how_to_open(flags)
        return
    defects = None
    if flags.abnormal:
        paths = _images_in(flags.abnormal)
        defects = study_images(paths, backbone, show_share, megapixels)
        show_refused(defects.left_out)
    metrics = teaching.save_taught(
        flags.out,
        backbone,
        lesson,
        flags.good.resolve().name,
        flags.false_alarms,
        defects,
        not flags.without_images,
    )
    validation = metrics["validation"]
    print(f"Learned {metrics['teaching']['images']:,} images ({metrics['starting_weights']}).")
    print(f"Of them, each judged by the others, {validation['false_positive_rate']:.1%} would be stopped.")
    if "recall" in validation:
        print(f"Of the known defects, {validation['recall']:.1%} are caught.")
    _show_how_to_open(flags)


def _show_how_to_open(flags: argparse.Namespace) -> None:
    if not flags.without_images:
        print("It holds small copies of the good images, for whoever gets it.")
    print(f"Open it with: python app.py --model {shlex.quote(str(flags.out))}")


def _images_in(folder: Path) -> list[Path]:
    """Every file below a folder that is not hidden. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"Expected a folder of images; {folder} is none. Check the path.")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != "."]
    if not paths:
        raise DataError(f"Expected images in {folder}; found no file. Check the path.")
    return paths
