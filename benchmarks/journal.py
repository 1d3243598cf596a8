"""The journal of labels with 100,000 images and a million events, against a small one.

    python benchmarks/journal.py

Measures what labelers wait for, and what runs beside them; then processes that write labels and
are killed (kill -9) at twenty random moments, and whether the journal has every label that it had
acknowledged. Writes journal.json. Needs 1.5 GB of disk for a while.
"""

import argparse
import datetime
import json
import os
import platform
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from chipdemo.labeling.history import disputed
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label, ModelPrediction
from chipdemo.labeling.queue import ORDERS, Queue
from chipdemo.labeling.ranking import Score, rank, set_scores
from chipdemo.labeling.statistics import (
    against_the_model,
    agreement,
    consensus_counts,
    likely_errors,
)

ROOT = Path(__file__).resolve().parent.parent
ANNOTATORS_PER_IMAGE = 3
ANNOTATORS = tuple(f"annotator {number:02}" for number in range(20))
BUSY, NEW = ANNOTATORS[0], "somebody new"  # BUSY has labeled half of all, and others still have to
# Shares of the images labeled by everyone, by BUSY alone, by BUSY and one more; the others by nobody
EVERYONE, ALONE, TWO = 0.45, 0.40, 0.10
MODEL, REVISION, CHANNELS, THRESHOLD = "model", "abc", 1280, 0.5
CALLS = 200
KILLS, WRITERS = 20, 4
WRITER = """
import sys
from pathlib import Path
from chipdemo.labeling.label import Label, ModelPrediction
from chipdemo.labeling.queue import Queue
from chipdemo.labeling.journal import Journal

with Journal(Path(sys.argv[1])) as journal:
    queue = Queue(journal, annotators_per_image=3)
    while True:
        label = Label(queue.next(sys.argv[2])[0].sha256, "normal", sys.argv[2])
        journal.append(label)
        print(label.event_id, flush=True)  # acknowledged
"""


def sha_of(number: int) -> str:
    return f"{number:064x}"


def voters_of(number: int, images: int) -> tuple[str, ...]:
    """Who labeled an image."""
    place = number / images
    if place < EVERYONE:
        return ANNOTATORS
    if place < EVERYONE + ALONE:
        return ANNOTATORS[:1]
    return (BUSY, ANNOTATORS[1 + number % 19]) if place < EVERYONE + ALONE + TWO else ()


def fill(journal: Journal, images: int) -> None:
    """Ten events an image, written past the journal's own methods, which would take an hour."""
    generator, panels, seq = random.Random(0), {"[]": 1}, 0
    now = time.time_ns() // 1000
    for first in range(0, images, 1000):
        rows, events, votes = [], [], []
        for number in range(first, min(first + 1000, images)):
            sha256, voters = sha_of(number), voters_of(number, images)
            prediction, labels = predicted_and_given(generator, len(voters))
            for annotator, label in zip(voters, labels):
                seq += 1
                events.append((seq, new_id(generator), sha256, label, annotator, prediction, ""))
                votes.append((sha256, annotator, seq, label, 0, json.loads(prediction)[2]))
            for _ in range(0 if voters else 4):  # labeled and retracted
                seq += 2
                retracted = new_id(generator)
                events.append((seq - 1, retracted, sha256, "unsure", BUSY, prediction, ""))
                events.append((seq, new_id(generator), sha256, "", BUSY, "", retracted))
            panel = panels.setdefault(json.dumps(voters), len(panels) + 1)
            rows.append((sha256, f"chip {number}.png", len(voters), panel, consensus_of(labels)))
        with journal.write() as database:
            database.executemany(
                "INSERT INTO panels VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(id, annotators, len(json.loads(annotators))) for annotators, id in panels.items()],
            )
            database.executemany(
                "INSERT INTO images (sha256, name, path, width, height, added_at, votes, panel, consensus) "
                "VALUES (?, ?, '', 300, 300, 0, ?, ?, ?)",
                rows,
            )
            database.executemany("INSERT INTO contents VALUES (?, x'89504e47')", [row[:1] for row in rows])
            database.executemany(
                "INSERT INTO events (seq, event_id, image_sha256, label, annotator, prediction, retracts, "
                "defect_type, boxes, decides, created_at, note, mask) VALUES (?, ?, ?, ?, ?, ?, ?, '', '[]', "
                f"0, {now} - ({10 * images} - ?1) * 600000, '', x'')",  # two in a second
                events,
            )
            database.executemany("INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?)", votes)


def predicted_and_given(generator: random.Random, people: int) -> tuple[str, list[str]]:
    """A model's prediction for an image, as the journal keeps it, and the labels of so many people."""
    abnormal = generator.random() < 0.3
    probability = min(max(generator.gauss(0.3 + 0.4 * abnormal, 0.15), 0), 1)
    labels = [("normal", "abnormal")[abnormal != (generator.random() < 0.1)] for _ in range(people)]
    return json.dumps([MODEL, REVISION, probability]), labels


def consensus_of(labels: list[str]) -> str:
    abnormal = labels.count("abnormal")
    if 2 * abnormal == len(labels):
        return "disputed" if labels else ""
    return "abnormal" if 2 * abnormal > len(labels) else "normal"


def new_id(generator: random.Random) -> str:
    return str(uuid.UUID(int=generator.getrandbits(128), version=4))


def milliseconds(call: Callable[[], object], after: Callable[[object], object] = lambda _: None) -> dict:
    """Of CALLS calls. after: called with the answer, not timed."""
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        answer = call()
        times.append((time.perf_counter() - started) * 1000)
        after(answer)
    return percentiles(times)


def percentiles(times: list[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(times, q)), 2) for q in (50, 95)} | {"calls": len(times)}


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return round(time.perf_counter() - started, 2)


def label_next(queue: Queue, annotator: str) -> Callable[[], object]:
    """A function that labels the next of images that were fetched before."""
    waiting = iter([one.sha256 for one in queue.next(annotator, CALLS)])
    prediction = ModelPrediction(MODEL, REVISION, 0.25)
    return lambda: queue.journal.append(Label(next(waiting), "normal", annotator, prediction=prediction))


def while_labeling(queue: Queue) -> dict:
    """Milliseconds of the calls that labelers wait for."""
    found = {"append": milliseconds(label_next(queue, NEW))}
    for name, annotator in (("somebody new", NEW), ("who has labeled half of all", BUSY)):
        found |= {
            f"next, {order} order, {name}": milliseconds(
                lambda order=order, annotator=annotator: queue.next(annotator, order=order),
                lambda given, annotator=annotator: queue.release([one.sha256 for one in given], annotator),
            )
            for order in ORDERS
        }
    found["next, the same again"] = milliseconds(lambda: queue.next(BUSY))
    found["progress"] = milliseconds(lambda: queue.progress(BUSY))
    found["counts"] = milliseconds(queue.journal.counts)
    found["progress and next"] = milliseconds(lambda: (queue.progress(BUSY), queue.next(BUSY, 2)))
    return found


def score(journal: Journal, images: int) -> None:
    generator = np.random.default_rng(0)
    kinds = generator.standard_normal((50, CHANNELS)).astype(np.float32)  # of images
    for first in range(0, images, 1_000):
        numbers = range(first, min(first + 1_000, images))
        embeddings = kinds[generator.integers(50, size=len(numbers))]
        embeddings = embeddings + generator.standard_normal(embeddings.shape).astype(np.float32)
        set_scores(
            journal,
            REVISION,
            [
                Score(sha_of(n), ModelPrediction("model", REVISION, generator.random()), THRESHOLD, embedding)
                for n, embedding in zip(numbers, embeddings)
            ],
        )


def appends_during(journal: Journal, work: Callable[[], object]) -> tuple[float, dict]:
    """Seconds that work takes, and milliseconds of labels that are given meanwhile, ten a second."""
    times, done = [], threading.Event()

    def label() -> None:
        queue = Queue(journal, ANNOTATORS_PER_IMAGE)
        while not times or not done.wait(0.1):
            image = queue.next("in between")[0]
            started = time.perf_counter()
            journal.append(Label(image.sha256, "normal", "in between"))
            times.append((time.perf_counter() - started) * 1000)

    thread = threading.Thread(target=label)
    thread.start()
    taken = seconds(work)
    done.set()
    thread.join()
    return taken, percentiles(times)


def beside_labeling(journal: Journal, images: int) -> dict:
    found = {
        name: seconds(call)
        for name, call in {
            "agreement": lambda: agreement(journal),
            "against the model": lambda: against_the_model(journal, THRESHOLD),
            "likely errors": lambda: likely_errors(journal),
            "disputed": lambda: disputed(journal, ANNOTATORS_PER_IMAGE, NEW),
            "consensus counts": lambda: consensus_counts(journal, ANNOTATORS_PER_IMAGE),
            "keeping all scores": lambda: score(journal, images),
        }.items()
    }
    for name in ("ranking", "ranking again"):
        found[name], found[f"append during {name}, ms"] = appends_during(
            journal, lambda: rank(journal, REVISION)
        )
    found["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def kill_writers(journal: Journal) -> dict:
    """Counts the acknowledged labels of writers that are killed at random moments, and the missing ones."""
    generator, acknowledged = random.Random(0), set()
    before = journal.counts().events
    for kill in range(KILLS):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, journal.path, f"writer {kill} {number}"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(WRITERS)
        ]
        first = [writer.stdout.readline() for writer in writers]  # all are at work
        time.sleep(generator.random())
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        lines = first + [line for writer in writers for line in writer.stdout]
        acknowledged |= {line.strip() for line in lines if line.endswith("\n")}
        for writer in writers:
            writer.wait()
    kept = {label.event_id for _, label in journal.events(after=before)}
    with journal.read() as database:
        sound = database.execute("PRAGMA integrity_check").fetchone()[0]
    return {
        "kills": KILLS,
        "processes": WRITERS,
        "acknowledged": len(acknowledged),
        "of them missing": len(acknowledged - kept),
        "kept but not acknowledged": len(kept - acknowledged),
        "integrity_check": sound,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the journals are made (default: of the system)")
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "journal.json")
    options = parser.parse_args()
    report = {
        "command": " ".join(["python benchmarks/journal.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, SQLite {sqlite3.sqlite_version}",
    }
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, images in (("small", 1_000), ("large", options.images)):
            with Journal(Path(folder) / name / "labels.db") as journal:
                fill(journal, images)
                counts = journal.counts()
                report[f"{name}, ms"] = {
                    "images": counts.images,
                    "events": counts.events,
                    **while_labeling(Queue(journal, ANNOTATORS_PER_IMAGE)),
                }
                print(json.dumps(report[f"{name}, ms"], indent=1), flush=True)
                if name == "large":
                    report["large, seconds"] = beside_labeling(journal, images)
                    report["after ranking, ms"] = while_labeling(Queue(journal, ANNOTATORS_PER_IMAGE))
                    report["kill -9"] = kill_writers(journal)
    options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
