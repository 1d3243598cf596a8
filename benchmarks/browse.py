"""Pages of the gallery of 100,000 images with a million events: milliseconds for each filter.

    python benchmarks/browse.py

The journal is that of journal.py, with scores, notes and defect types. An annotator who has labeled half of
all images looks, then a named reviewer; at the first page, at one in the middle and at the last. A page has
60 images and as many kept thumbnails. Then what a label costs with and without what is kept for browsing.
Writes browse.json. Needs 1.5 GB of disk for a while.
"""

import argparse
import datetime
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.journal import (
    ANNOTATORS_PER_IMAGE,
    BUSY,
    NEW,
    ROOT,
    fill,
    label_next,
    milliseconds,
    score,
)
from chipdemo.labeling.browse import (
    AGAINST_MODEL,
    DELETED,
    MINE,
    NOT_MINE,
    OOD,
    PAGE,
    PROBABLE,
    SHOWS,
    SORTS,
    Filters,
    Viewer,
    delete,
    find,
    thumbnails,
)
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.queue import Queue

REPEATS = 5
THUMBNAIL_BYTES = 6_000
SEARCHES = (
    {"name": "chip 99"},
    {"name": "not there"},
    {"label": "abnormal"},
    {"defect_type": "crack"},
    {"note": "scratch"},
    {"show": MINE, "label": "abnormal", "sort": PROBABLE},
    {"show": OOD, "sort": PROBABLE},
    {"show": AGAINST_MODEL, "sort": PROBABLE},
    {"show": NOT_MINE, "name": "9", "sort": PROBABLE},
    {"label": "normal", "note": "scratch", "name": "7"},
)
VIEWERS = {
    "annotator": Viewer(BUSY, ANNOTATORS_PER_IMAGE),
    "reviewer": Viewer(BUSY, ANNOTATORS_PER_IMAGE, ANNOTATORS_PER_IMAGE),
}


def furnish(journal: Journal, images: int) -> None:
    """Scores; a tenth of the images out of distribution, with notes, with types; some deleted or skipped."""
    score(journal, images)
    with journal.write() as database:
        database.execute("UPDATE cards SET out_of_distribution = (id % 10 = 3)")
        database.execute("UPDATE gallery SET note = 'a scratch at the edge, seen twice' WHERE id % 10 = 1")
        database.execute("UPDATE gallery SET defect_type = 'crack' WHERE id % 10 = 2")
        database.execute(
            "INSERT INTO skips SELECT sha256, ? FROM images WHERE votes = 0 LIMIT ?", (BUSY, images // 50)
        )
        rows = database.execute("SELECT sha256 FROM images ORDER BY id DESC").fetchall()
        database.executemany(
            "INSERT INTO thumbnails VALUES (?, zeroblob(?))", [(row[0], THUMBNAIL_BYTES) for row in rows[::5]]
        )
    delete(journal, [row["sha256"] for row in rows[:: max(1, len(rows) // 1_000)]], BUSY)


def pages(journal: Journal, viewer: Viewer, chosen: dict) -> dict:
    """Milliseconds of the first page, one in the middle and the last, REPEATS times each.

    The first one counts the images of all pages. processor: the most of one page without what other
    processes of the machine took.
    """
    _, total = find(journal, Filters(**chosen), viewer)
    last = max(0, (total - 1) // PAGE)
    times, processor = [], []
    for page in sorted({0, last // 2, last}) * REPEATS:
        started, used = time.perf_counter(), time.process_time()
        find(journal, Filters(**chosen, page=page), viewer, total if page else None)
        times.append((time.perf_counter() - started) * 1000)
        processor.append((time.process_time() - used) * 1000)
    figures = {"p50": np.median(times), "slowest": max(times), "processor": max(processor)}
    return {"images": total} | {name: round(float(value), 1) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the journal is made (default: of the system)")
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "browse.json")
    options = parser.parse_args()
    report = {
        "command": " ".join(["python benchmarks/browse.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, SQLite {sqlite3.sqlite_version}",
    }
    chosen = [*({"show": show, "sort": sort} for show in SHOWS for sort in SORTS), *SEARCHES]
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        Journal(Path(folder) / "labels.db") as journal,
    ):
        fill(journal, options.images)
        furnish(journal, options.images)
        counts = journal.counts()
        report |= {"images": counts.images, "events": counts.events, "images on a page": PAGE}
        for who, viewer in VIEWERS.items():
            report[f"pages, {who}, ms"] = {
                ", ".join(map(str, one.values())): pages(journal, viewer, one) for one in chosen
            }
        measured = [one for who in VIEWERS for one in report[f"pages, {who}, ms"].values()]
        report["slowest page, ms"] = {
            name: max(one[name] for one in measured) for name in ("slowest", "processor")
        }
        kept = [one.sha256 for one in find(journal, Filters(show=DELETED), VIEWERS["annotator"])[0]]
        with journal.write() as database:
            database.executemany(
                "INSERT OR IGNORE INTO thumbnails VALUES (?, zeroblob(?))",
                [(sha256, THUMBNAIL_BYTES) for sha256 in kept],
            )
        report["kept thumbnails of a page, ms"] = milliseconds(lambda: thumbnails(journal, kept, 64))
        report["append, ms"] = milliseconds(label_next(Queue(journal, ANNOTATORS_PER_IMAGE), NEW))
        report["next, ms"] = milliseconds(lambda: Queue(journal, ANNOTATORS_PER_IMAGE).next(NEW))
    options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
