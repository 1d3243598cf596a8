"""python -m chipdemo teach: good images -> a checkpoint."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chipdemo.cli import add_command, show_refused, show_share
from chipdemo.errors import DataError
from chipdemo.settings import Settings

if TYPE_CHECKING:
    from chipdemo.files import Found
    from chipdemo.teaching import Draft
    from chipdemo.vision.anomaly.teacher import NetworkDraft, NetworkTeacher

OUTLIERS = ("show", "keep", "drop")
KINDS = ("show", "apart", "together")
ALIGNMENTS = ("position-bound", "registered", "position-free")
MAX_RATE = 0.5


def add_to(commands: argparse._SubParsersAction) -> None:
    about = "teach a new chip from 10 or more good images, without training and without defects"
    take = add_command(commands, "teach", teach, about, "max_megapixels")
    take.add_argument("good", type=Path, metavar="FOLDER_OF_GOOD", help="every image below it is good")
    take.add_argument(
        "--out", type=Path, metavar="DIR", help="checkpoint folder to write; --recalibrate works without"
    )
    take.add_argument("--name", metavar="CHIP", help="name of the chip (default: that of the folder)")
    take.add_argument("--license", metavar="TEXT", help="of the images, as the model card states it")
    take.add_argument(
        "--recalibrate",
        metavar="MODEL",
        help="let a taught model go on learning from these images, such as 20 good ones of today: its memory "
        "bank widens and its threshold moves. It is replaced, or written to --out",
    )
    take.add_argument(
        "--abnormal", type=Path, metavar="FOLDER", help="known defects, which may raise the threshold"
    )
    take.add_argument(
        "--memory-for",
        metavar="MODEL",
        help="add a memory bank to a copy of this classifier: same verdicts, and inverse matching as a "
        "further explanation",
    )
    take.add_argument(
        "--false-positive-rate",
        type=_rate,
        metavar="RATE",
        help=f"share of good images that may be flagged, above 0 and up to {MAX_RATE} (default: 0.02; with "
        "--recalibrate, that of the model)",
    )
    take.add_argument(
        "--outliers",
        choices=OUTLIERS,
        default=OUTLIERS[0],
        help="good images that are unlike the others: list them and stop, keep them, or leave them out "
        "(default: %(default)s)",
    )
    take.add_argument(
        "--without-images",
        action="store_true",
        help="store no small copies of the good images; regions can then not be compared with normal chips",
    )
    _add_comparison(take)


def _add_comparison(take: argparse.ArgumentParser) -> None:
    """How images are compared; what is not said is found out from them."""
    take.add_argument(
        "--kinds",
        choices=KINDS,
        default=KINDS[0],
        help="clearly different kinds of good images, such as landscape and portrait: list them and stop, "
        "make a model of each in folders of --out, or one of all (default: %(default)s)",
    )
    take.add_argument(
        "--alignment",
        choices=ALIGNMENTS,
        help="how the parts are laid over each other before they are compared (default: found out from the "
        "images)",
    )
    take.add_argument(
        "--size",
        type=int,
        default=0,
        metavar="PIXELS",
        help="side at which images are compared, such as 256 or 480: a larger one shows smaller defects and "
        "takes longer (default: found out from the images)",
    )
    take.add_argument(
        "--backbone",
        metavar="NAME",
        help="any timm model whose features form a grid, convolutional or a vision transformer (default: "
        "tf_efficientnet_lite0)",
    )
    take.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help=".safetensors of the backbone (default: from the Hub or an installed package)",
    )


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {MAX_RATE}")
    return rate


def teach(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.files import Limits
    from chipdemo.teaching import MIN_IMAGES
    from chipdemo.vision.anomaly.saving import NOT_STATED
    from chipdemo.vision.anomaly.teacher import NetworkTeacher
    from chipdemo.vision.checkpoint import find_checkpoint

    if flags.recalibrate:
        recalibrate(flags, settings)
        return
    if not flags.out:
        raise DataError("Say where to write the model: --out DIR.")
    if flags.memory_for and flags.alignment == "registered":
        raise DataError("A classifier takes images as they are. Use another --alignment.")
    if flags.memory_for and (flags.backbone or flags.weights or flags.size):
        raise DataError("A classifier keeps its backbone. Leave out --backbone, --weights and --size.")
    if flags.memory_for and flags.abnormal:
        raise DataError("A classifier keeps its own threshold. Leave out --abnormal or --memory-for.")
    goods = _images_in(flags.good)
    _refuse_defects(flags.good)
    defects = _images_in(flags.abnormal) if flags.abnormal else []
    classifier = find_checkpoint(flags.memory_for) if flags.memory_for else None
    teacher = NetworkTeacher(
        classifier,
        flags.alignment or "",
        flags.backbone or "",
        flags.weights,
        flags.size,
        flags.license or NOT_STATED,
    )
    limits, name = Limits(megapixels=settings.max_megapixels), flags.name or flags.good.resolve().name
    draft = teacher.draft(goods, defects, limits, show_share, flags.kinds == "together")
    if not draft.kinds:
        _save(flags, teacher, draft, flags.out, name)
        return
    print(f"The {draft.images:,} good images are of {len(draft.kinds)} kinds:")
    for kind in draft.kinds:
        print(f"  {kind.text}")
    if flags.kinds == "show":
        raise DataError(
            "Nothing was written. Take out what does not belong here, or add --kinds apart for a model of "
            "each kind, or --kinds together for one of all."
        )
    for kind in draft.kinds:
        ending = kind.name.replace(" ", "-")
        if len(kind.names) < MIN_IMAGES:
            print(f"No model of {kind.text}.")
            continue
        of_kind = [one for one in goods if one.name in set(kind.names)]
        one = teacher.draft(of_kind, defects, limits, show_share, True)
        _save(flags, teacher, one, flags.out / ending, f"{name}-{ending}")


def _save(
    flags: argparse.Namespace, teacher: "NetworkTeacher", draft: "NetworkDraft", out: Path, name: str
) -> None:
    """Write a model and say how good it is."""
    from chipdemo.teaching import FALSE_POSITIVE_RATE

    without = _left_out(draft, flags.outliers)
    fitted = teacher.save(
        out,
        draft,
        without,
        name,
        flags.false_positive_rate or FALSE_POSITIVE_RATE,
        not flags.without_images,
        show_share,
    )
    print(f"Fitted to {len(fitted.features.names):,} good images ({teacher.backbone.starting_weights}).")
    if not flags.memory_for:
        _show_rates(out)
    if not flags.without_images:
        print("The folder holds small copies of the good images.")
    print(f"Open it with: python app.py --model {shlex.quote(str(out))}")


def recalibrate(flags: argparse.Namespace, settings: Settings) -> None:
    """A taught model goes on learning from the images of flags.good."""
    from chipdemo.files import Limits
    from chipdemo.vision.anomaly.continuing import ContinuingTeacher

    fixed = (
        flags.alignment,
        flags.size,
        flags.backbone,
        flags.weights,
        flags.without_images,
        flags.memory_for,
        flags.name,
        flags.license,
    )
    if any(fixed):
        raise DataError(
            "--recalibrate keeps the model as it was taught. Leave out the other options of teaching."
        )
    out = flags.out or Path(flags.recalibrate)
    if not (flags.out or out.is_dir()):
        raise DataError(f"{flags.recalibrate} is on the Hub. Say where to write the new model: --out DIR.")
    teacher, goods = ContinuingTeacher(flags.recalibrate), _images_in(flags.good)
    defects = _images_in(flags.abnormal) if flags.abnormal else []
    draft = teacher.draft(goods, defects, Limits(megapixels=settings.max_megapixels), show_share)
    without = _left_out(draft, flags.outliers)
    teacher.save(out, draft, without, flags.false_positive_rate or 0.0, show_share)
    print(f"Recalibrated by {len(draft.goods.names) - len(without):,} good images.")
    _show_rates(out)
    print(f"Open it with: python app.py --model {shlex.quote(str(out))}")


def _left_out(draft: "Draft", outliers: str) -> Sequence[int]:
    """Show the draft; the rows of the outliers that are to be left out. Raises DataError."""
    _show(draft)
    if draft.outliers and outliers == "show":
        raise DataError(
            "Nothing was written. Look at the outliers, then add --outliers drop or --outliers keep."
        )
    return [one.row for one in draft.outliers] if outliers == "drop" else []


def _show_rates(folder: Path) -> None:
    from chipdemo.threshold import promised
    from chipdemo.vision.checkpoint import curve_of, read_metrics

    point = curve_of(read_metrics(folder)["validation"]).at(0.5)
    flagged = point.false_positive_rate
    print(f"Each held out, {flagged.of('good images')} would be flagged.")
    print(f"Of new good images, at most {100 * promised(flagged):.1f} % are, with 90 % confidence.")
    if point.recall.total:
        print(f"Detected are {point.recall.of('known defects')}.")


def _show(draft: "Draft") -> None:
    show_refused(draft.unusable)
    print(draft.alignment)
    for warning in draft.warnings:
        print(f"Warning: {warning}")
    if draft.outliers:
        print(f"Outliers among the good images: {len(draft.outliers):,}")
    for one in draft.outliers:
        print(f"  {one.name}: {one.times_median:.1f} times the median score")


def _refuse_defects(folder: Path) -> None:
    """Raises DataError where a folder in it says that its images are abnormal."""
    from chipdemo.inspection import ABNORMAL
    from chipdemo.labeling.folders import class_of, folders_in

    if bad := [one.name for one in folders_in(folder) if class_of(one.name) == ABNORMAL]:
        raise DataError(
            f"{folder} holds the folder {bad[0]}, whose name says abnormal. Give the folder of the good "
            "images, and the defects with --abnormal."
        )


def _images_in(folder: Path) -> Sequence["Found"]:
    """Every file below a folder that is not hidden. Raises DataError."""
    from chipdemo.files import Found

    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Check the path.")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != "."]
    if not paths:
        raise DataError(f"{folder} holds no files. Check the path.")
    return [Found(path.relative_to(folder).as_posix(), path) for path in paths]
