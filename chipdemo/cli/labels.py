"""python -m chipdemo labels: add, import, export, publish and count labels."""

import argparse
from pathlib import Path

from chipdemo.cli import add_command, amount, counted, show_lines, show_progress, show_refused
from chipdemo.errors import SettingsError
from chipdemo.settings import Settings, flag, variable

EXPORTS = ("imagefolder", "parquet", "csv", "coco", "yolo", "labelstudio")
IMPORTS = ("imagefolder", "folder", "csv", "coco", "labelstudio")
HUB = "hf:"  # before the owner/name of a dataset


def add_to(rooms: argparse._SubParsersAction) -> None:
    labels = rooms.add_parser("labels", help="add images, import, export and publish labels")
    commands = labels.add_subparsers(required=True, metavar="COMMAND")
    add = add_command(commands, "add", labels_add, "add images to the queue", "journal")
    add.add_argument(
        "sources",
        nargs="+",
        metavar="PATH",
        help="folder, zip or image; or hf:owner/name, a dataset of the Hugging Face Hub",
    )
    export = add_command(commands, "export", labels_export, "export labels by consensus", "journal")
    export.add_argument("folder", type=Path, metavar="DIR", help="folder to create")
    export.add_argument("--format", choices=EXPORTS, default=EXPORTS[0], help="default: %(default)s")
    take = add_command(commands, "import", labels_import, "import labels", "journal")
    take.add_argument(
        "path", type=Path, metavar="PATH", help="labeled folder, CSV, or JSON of COCO or Label Studio"
    )
    take.add_argument("--annotator", required=True, metavar="NAME", help="whose labels they are")
    take.add_argument("--format", choices=IMPORTS, default="", help="default: guessed from the files")
    for label in ("normal", "abnormal"):
        take.add_argument(
            f"--{label}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"a folder of {label} images, if its name does not say so; may be repeated",
        )
    publishing = ("journal", "dataset", "dataset_public")
    add_command(commands, "publish", labels_publish, "publish pending labels now", *publishing)
    add_command(commands, "compact", labels_compact, "merge the small files of the dataset", "dataset")
    add_command(commands, "status", labels_status, "count images and labels", "journal", "model", "dataset")


def labels_add(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.files import Limits
    from chipdemo.labeling.intake import add_paths
    from chipdemo.labeling.journal import Journal

    paths = [Path(source) for source in flags.sources if not source.startswith(HUB)]
    limits = Limits(megapixels=settings.max_megapixels)
    with Journal(settings.journal_path) as journal:
        intakes = [add_paths(journal, paths, show_progress, limits)]
        for source in flags.sources:
            if source.startswith(HUB):
                from chipdemo.labeling.hub.intake import add_dataset

                intakes.append(add_dataset(journal, source.removeprefix(HUB), show_progress, limits))
    added, known = sum(intake.added for intake in intakes), sum(intake.known for intake in intakes)
    print(f"{amount(added, 'image')} added, {known:,} known before.")
    show_refused([line for intake in intakes for line in intake.refused])


def labels_export(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.formats import export_labels
    from chipdemo.labeling.journal import Journal

    with Journal(settings.journal_path) as journal:
        exported = export_labels(journal, flags.folder, flags.format, show_progress)
    print(f"{exported.folder}: {counted(exported.labels) or 'no labels'}.")
    if exported.left_out:
        print(f"Left out: {counted(exported.left_out)}.")


def labels_import(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.formats import import_labels
    from chipdemo.labeling.journal import Journal

    with Journal(settings.journal_path) as journal:
        imported = import_labels(
            journal, flags.path, flags.annotator, flags.format, show_progress, flags.normal, flags.abnormal
        )
    print(f"{amount(imported.added, 'label')} added, {imported.known:,} known before.")
    if imported.replaced:
        print(f"{imported.replaced:,} of them replaced earlier labels of {flags.annotator}.")
    show_refused(imported.refused)
    show_lines("Parts of labels not taken", imported.left_out)


def labels_publish(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.hub.publish import Publisher
    from chipdemo.labeling.journal import Journal

    with Journal(settings.journal_path) as journal:
        count = Publisher(journal, _dataset(settings), settings.dataset_public).flush()
    print(f"{amount(count, 'label')} published to {settings.dataset}.")


def labels_compact(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.labeling.hub.compaction import compact

    compacted = compact(_dataset(settings))
    print(f"{settings.dataset}: {amount(compacted.before, 'file')} before, {compacted.after:,} now.")


def labels_status(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.inspection import CLASSES
    from chipdemo.labeling.journal import Journal
    from chipdemo.labeling.status import images_seen, status_of, training_commands
    from chipdemo.vision.revisions import newest_accepted

    in_use = newest_accepted(settings.model_source).source
    with Journal(settings.journal_path) as journal:
        status = status_of(journal, images_seen(in_use))
    new = "not known for this model" if status.new is None else f"{status.new:,}"
    print(f"journal        {settings.journal_path}")
    print(f"images         {status.images:,}, {status.labeled:,} of them labeled")
    print(f"agreed         {counted(status.agreed)}")
    print(f"disputed       {status.disputed:,}")
    print(f"unpublished    {status.pending:,} events")
    print(f"new            {new} (normal or abnormal, and not seen by {settings.model_source})")
    if any(status.agreed[label] for label in CLASSES):
        print("To train from them:", *training_commands(settings, in_use), sep="\n  ")
    else:
        print("There is nothing to train from yet. Add images and label them first.")
    if settings.dataset:
        commands = training_commands(settings, in_use, settings.dataset)
        print("To train from the published dataset:", *commands, sep="\n  ")


def _dataset(settings: Settings) -> str:
    if not settings.dataset:
        raise SettingsError(
            f"No dataset is set. Name one by {flag('dataset')} owner/name or {variable('dataset')}."
        )
    return settings.dataset
