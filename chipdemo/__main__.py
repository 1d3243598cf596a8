"""Everything but the browser, from the command line: python -m chipdemo --help.

A command is a function of the parsed flags and the settings; what it needs is imported inside it,
so that --help and mistakes answer at once.
"""

import argparse
import logging
import os
import shlex
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from chipdemo.errors import ChipDemoError, DataError, SettingsError
from chipdemo.settings import Settings, add_flags, flag, variable

if TYPE_CHECKING:
    from PIL.Image import Image

EXIT_USAGE = 2
EXPORTS = ("imagefolder", "parquet", "csv", "coco", "yolo")
HUB = "hf:"  # before the owner/name of a data set
OUTLIERS = ("show", "keep", "drop")
TILES = ("auto", "off")
ENGINES = ("here", "ray")
IMPORTS = ("imagefolder", "folder", "csv", "coco")
EXIT_FOUND = 1  # what --fail-on names was found
GRAPHS = ("onnx", "openvino")
CALIBRATING = 300  # photographs that the steps of an 8-bit network are chosen by
INSPECTING = ("model", "runtime", "max_megapixels")
FINDINGS = ("abnormal", "unlike", "unreadable")
Command = Callable[[argparse.Namespace, Settings], int | None]


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chipdemo", description="Chip Inspector from the command line."
    )
    rooms = parser.add_subparsers(required=True, metavar="COMMAND")
    _inspect_command(rooms)
    labels = rooms.add_parser("labels", help="photographs and labels: in, out, and how many there are")
    _labels_commands(labels.add_subparsers(required=True, metavar="COMMAND"))
    _teach_command(rooms)
    _export_command(rooms)
    return parser


def _inspect_command(rooms: argparse._SubParsersAction) -> None:
    inspect = _command(rooms, "inspect", inspect_many, "judge many photographs", *INSPECTING)
    inspect.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="photograph, folder, zip, pattern, CSV with a column image, hf:owner/name (a data set of the "
        "Hugging Face Hub), or s3://bucket/folder and the like",
    )
    inspect.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="results; goes on with earlier"
    )
    inspect.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="this process, or the Ray cluster at RAY_ADDRESS, a local one where that is not set "
        "(default: %(default)s)",
    )
    inspect.add_argument(
        "--workers", type=_workers, metavar="N", help="of --engine ray (default: one a core of the cluster)"
    )
    inspect.add_argument("--threshold", type=float, help="0-1; default: the model's own")
    inspect.add_argument(
        "--tiles",
        choices=TILES,
        default=TILES[0],
        help="large photographs in overlapping tiles too, which take longer, or as a whole "
        "(default: %(default)s)",
    )
    inspect.add_argument(
        "--fail-on",
        nargs="+",
        choices=FINDINGS,
        default=(),
        help=f"end with status {EXIT_FOUND} if any is so",
    )


def _teach_command(rooms: argparse._SubParsersAction) -> None:
    about = "teach a new chip from 10 or more good photographs: no training, no defect needed"
    take = _command(rooms, "teach", teach, about, "max_megapixels")
    take.add_argument("good", type=Path, metavar="FOLDER_OF_GOOD", help="all photographs below it are good")
    take.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoint folder to write")
    take.add_argument(
        "--abnormal", type=Path, metavar="FOLDER", help="known defects, to set the threshold by"
    )
    take.add_argument(
        "--memory-for",
        metavar="MODEL",
        help="trained classifier, a folder or Hub id: --out becomes a copy that judges as before, and also "
        "shows what no good photograph shows",
    )
    take.add_argument(
        "--false-alarms",
        type=_rate,
        default=0.02,
        metavar="RATE",
        help="share of good photographs that may be stopped, above 0 and up to 0.5 (default: %(default)s)",
    )
    take.add_argument(
        "--outliers",
        choices=OUTLIERS,
        default=OUTLIERS[0],
        help="good photographs that stand out: show them and end, learn them too, or leave them out "
        "(default: %(default)s)",
    )
    take.add_argument(
        "--without-photographs",
        action="store_true",
        help="keep no small copies of the good photographs, which show what a defect should look like",
    )


def _export_command(rooms: argparse._SubParsersAction) -> None:
    about = "write a model as one graph that needs no PyTorch: RGB pixels in, probability and heat out"
    take = _command(rooms, "export", export, about, "model")
    take.add_argument("--format", choices=GRAPHS, default=GRAPHS[0], help="default: %(default)s")
    take.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder")
    take.add_argument(
        "--int8",
        nargs="+",
        default=[],
        metavar="PATH",
        help="in 8 bits, whose steps are chosen by these photographs: some hundred of the kind it will see; "
        "faster on most processors, and less exact",
    )


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= 0.5:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and up to 0.5; found {text}")
    return rate


def _workers(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number of workers from 1; found {text}")
    return int(text)


def _labels_commands(commands: argparse._SubParsersAction) -> None:
    add = _command(commands, "add", labels_add, "add photographs to the queue", "journal")
    add.add_argument(
        "sources",
        nargs="+",
        metavar="PATH",
        help="folder, zip or photograph; or hf:owner/name, a data set of the Hugging Face Hub",
    )
    export = _command(commands, "export", labels_export, "write what people agree on", "journal")
    export.add_argument("folder", type=Path, metavar="DIR", help="new folder")
    export.add_argument("--format", choices=EXPORTS, default=EXPORTS[0], help="default: %(default)s")
    take = _command(commands, "import", labels_import, "take labels in; again, it adds nothing", "journal")
    take.add_argument("path", type=Path, metavar="PATH", help="labelled folder, CSV or COCO JSON")
    take.add_argument("--annotator", required=True, metavar="NAME", help="whose labels they are")
    take.add_argument("--format", choices=IMPORTS, default="", help="default: by what is there")
    publishing = ("journal", "dataset", "dataset_public")
    _command(commands, "publish", labels_publish, "publish what waits, now", *publishing)
    _command(commands, "compact", labels_compact, "make one file of the data set's many", "dataset")
    _command(commands, "status", labels_status, "how far the labelling is", "journal", "model", "dataset")


def _command(
    commands: argparse._SubParsersAction, name: str, run: Command, help: str, *settings: str
) -> argparse.ArgumentParser:
    """A command, with the flags of the settings that it needs."""
    parser = commands.add_parser(name, help=help, description=help)
    add_flags(parser, settings)
    parser.set_defaults(run=run)
    return parser


def inspect_many(flags: argparse.Namespace, settings: Settings) -> int:
    from tqdm import tqdm

    from chipdemo import batch, report
    from chipdemo.files import Limits
    from chipdemo.listing import listed
    from chipdemo.vision.inspector import load_inspector

    limits = Limits(megapixels=settings.max_megapixels)
    photographs = listed(flags.paths, limits)
    inspector = load_inspector(settings.model_source, runtime=settings.runtime, graphs=settings.graphs)
    tiles, inspect = flags.tiles == "auto", batch.inspect_all
    if flags.engine == "ray":
        from chipdemo.ray_engine import inspect_on_ray

        model = {"model": settings.model_source, "runtime": settings.runtime, "graphs": settings.graphs}
        inspect = partial(inspect_on_ray, **model, workers=flags.workers)
    with tqdm(total=len(photographs), unit=" photographs", disable=None) as bar:
        results = inspect(inspector, photographs, flags.out, flags.threshold, bar.update, limits, tiles)
    report.write_tables(results, flags.out)
    sums = report.sums_of(results)
    worst = {result["path"] for result in sums.worst}
    by_place = {one.place: one for one in photographs if one.place in worst}

    def picture_of(result: report.Result) -> "Image | None":
        one = by_place.get(result["path"])
        return one and batch.picture(inspector, one, limits, tiles)

    report.write_page(
        sums, results.run, f"{datetime.now():%Y-%m-%d %H:%M}", picture_of, flags.out / report.HTML
    )
    found = {"abnormal": sums.verdicts["abnormal"], "unlike": sums.unlike, "unreadable": sums.unreadable}
    print(f"{sums.photographs:,} photographs: {_counted({'normal': sums.verdicts['normal'], **found})}.")
    _show_refused([*photographs.passed_over, *(f"{one['file']}: {one['error']}" for one in sums.refused)])
    print(f"wrote {flags.out / report.HTML}")
    return EXIT_FOUND if any(found[name] for name in flags.fail_on) else 0


def export(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.batch import read
    from chipdemo.listing import listed
    from chipdemo.vision.graph import save_graph
    from chipdemo.vision.transforms import pixels_of
    from chipdemo.vision.weights import load_checkpoint

    net, spec, info = load_checkpoint(settings.model_source)
    seen = listed(flags.int8) if flags.int8 else ()
    every = max(len(seen) // CALIBRATING, 1)  # from all over the folder
    photographs = [
        pixels_of(read(one).image, spec.image_size, spec.interpolation)
        for one in islice(seen, 0, every * CALIBRATING, every)
    ]
    for path in save_graph(net, spec, info, flags.out, flags.format, photographs):
        print(f"wrote {path}")


def labels_add(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.files import Limits
    from chipdemo.labeling.intake import add_paths
    from chipdemo.labeling.store import Journal

    paths = [Path(source) for source in flags.sources if not source.startswith(HUB)]
    limits = Limits(megapixels=settings.max_megapixels)
    with Journal(settings.journal_path) as journal:
        intakes = [add_paths(journal, paths, _show_progress, limits)]
        for source in flags.sources:
            if source.startswith(HUB):
                from chipdemo.labeling.hub_intake import add_dataset

                intakes.append(add_dataset(journal, source.removeprefix(HUB), _show_progress, limits))
    added, known = sum(intake.added for intake in intakes), sum(intake.known for intake in intakes)
    print(f"{added:,} photographs added, {known:,} known before.")
    _show_refused([line for intake in intakes for line in intake.refused])


def labels_export(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.exchange import export_labels
    from chipdemo.labeling.store import Journal

    with Journal(settings.journal_path) as journal:
        exported = export_labels(journal, flags.folder, flags.format, _show_progress)
    print(f"{exported.folder}: {_counted(exported.labels) or 'no labels yet'}.")
    if exported.left_out:
        print(f"Left out: {_counted(exported.left_out)}.")


def labels_import(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.exchange import import_labels
    from chipdemo.labeling.store import Journal

    with Journal(settings.journal_path) as journal:
        imported = import_labels(journal, flags.path, flags.annotator, flags.format, _show_progress)
    print(f"{imported.added:,} labels added, {imported.known:,} known before.")
    _show_refused(imported.refused)


def labels_publish(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.publish import Publisher
    from chipdemo.labeling.store import Journal

    with Journal(settings.journal_path) as journal:
        count = Publisher(journal, _dataset(settings), settings.dataset_public).flush()
    print(f"{count:,} labels published to {settings.dataset}.")


def labels_compact(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.compaction import compact

    compacted = compact(_dataset(settings))
    print(f"{settings.dataset}: {compacted.before:,} files before, {compacted.after:,} now.")


def _dataset(settings: Settings) -> str:
    if not settings.dataset:
        raise SettingsError(
            f"Expected a data set of the Hugging Face Hub; found none. Name it with {flag('dataset')} "
            f"owner/name or {variable('dataset')}."
        )
    return settings.dataset


def labels_status(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.status import photographs_seen, status_of, training_commands
    from chipdemo.labeling.store import Journal

    with Journal(settings.journal_path) as journal:
        status = status_of(journal, photographs_seen(settings.model_source))
    new = "not known for this model" if status.new is None else f"{status.new:,}"
    print(f"journal        {settings.journal_path}")
    print(f"photographs    {status.photographs:,}, {status.labelled:,} of them labelled")
    print(f"agreed         {_counted(status.agreed)}")
    print(f"disagreements  {status.disagreements:,}")
    print(f"unpublished    {status.pending:,} events")
    print(f"new            {new} (normal or abnormal, and not seen by {settings.model_source})")
    print("To train from them:", *training_commands(settings, status), sep="\n  ")
    if settings.dataset:
        commands = training_commands(settings, status, settings.dataset)
        print("or, from all that is published:", *commands, sep="\n  ")


def teach(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.folders import class_of, folders_in
    from chipdemo.vision import teaching
    from chipdemo.vision.checkpoint import find_checkpoint
    from chipdemo.vision.study import starting_backbone, study_photographs, trained_backbone

    if flags.memory_for and flags.abnormal:
        raise DataError(
            "Expected --abnormal or --memory-for; found both. A trained classifier keeps its own threshold: "
            "leave --abnormal out."
        )
    paths = _photographs_in(flags.good)
    if bad := [folder.name for folder in folders_in(flags.good) if class_of(folder.name) == "abnormal"]:
        raise DataError(
            f"Expected good photographs alone in {flags.good}; found the folder {bad[0]}. Give the folder of "
            "the good ones, and the defects with --abnormal."
        )
    trained = find_checkpoint(flags.memory_for) if flags.memory_for else None
    backbone = trained_backbone(trained) if trained else starting_backbone()
    megapixels = settings.max_megapixels
    study = study_photographs(paths, backbone, _show_share, megapixels)
    lesson = teaching.learn(study, progress=_show_share)
    _show_refused(study.left_out)
    for warning in study.warnings:
        print(f"Warning: {warning}")
    if lesson.outliers:
        usual = float(statistics.median(lesson.scores))
        print(f"Among the good photographs, {len(lesson.outliers):,} stand out:")
        for row in lesson.outliers:
            print(f"  {study.names[row]}: {lesson.scores[row] / max(usual, 1e-6):.1f} times the usual score")
        if flags.outliers == "show":
            raise DataError(
                "Expected good photographs that are alike; nothing was learned yet. Look at those above, "
                "then go on with --outliers drop or --outliers keep."
            )
        if flags.outliers == "drop":
            lesson = teaching.learn(study.without(lesson.outliers), progress=_show_share)
    if trained:
        teaching.save_with_memory(flags.out, trained, lesson, not flags.without_photographs)
        print(f"{flags.memory_for} judges as before and knows {len(lesson.study.names):,} good photographs.")
        _show_how_to_open(flags)
        return
    defects = None
    if flags.abnormal:
        paths = _photographs_in(flags.abnormal)
        defects = study_photographs(paths, backbone, _show_share, megapixels)
        _show_refused(defects.left_out)
    metrics = teaching.save_taught(
        flags.out,
        backbone,
        lesson,
        flags.good.resolve().name,
        flags.false_alarms,
        defects,
        not flags.without_photographs,
    )
    validation = metrics["validation"]
    print(f"Learned {metrics['teaching']['photographs']:,} photographs ({metrics['starting_weights']}).")
    print(f"Of them, each judged by the others, {validation['false_alarm_rate']:.1%} would be stopped.")
    if "recall" in validation:
        print(f"Of the known defects, {validation['recall']:.1%} are caught.")
    _show_how_to_open(flags)


def _show_how_to_open(flags: argparse.Namespace) -> None:
    if not flags.without_photographs:
        print("It holds small copies of the good photographs, for whoever gets it.")
    print(f"Open it with: python app.py --model {shlex.quote(str(flags.out))}")


def _photographs_in(folder: Path) -> list[Path]:
    """Every file below a folder that is not hidden. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"Expected a folder of photographs; {folder} is none. Check the path.")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != "."]
    if not paths:
        raise DataError(f"Expected photographs in {folder}; found no file. Check the path.")
    return paths


def _show_share(done: float, what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{what}: {done:.0%}   ", end="\r", file=sys.stderr)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def _show_progress(done: int) -> None:
    if sys.stderr.isatty() and done % 100 == 0:
        print(f"\r{done:,} photographs", end="\r", file=sys.stderr)


def _show_refused(lines: Sequence[str]) -> None:
    if lines:
        print(f"Not taken: {len(lines):,}")
    for line in lines:
        print(f"  {line}")


def main(arguments: Sequence[str] | None = None) -> int:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    flags = command_line().parse_args(arguments)
    try:
        return flags.run(flags, Settings.from_env(os.environ).with_flags(flags)) or 0
    except ChipDemoError as error:
        print(f"chipdemo: {error}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
