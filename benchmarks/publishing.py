"""Four processes label and publish to one dataset at once, while the Hub fails them in every way.

    python benchmarks/publishing.py

Two share a journal, two have one each. The Hub is a server on this machine, used by the real client.
While they label, a new fault follows half a second after the last one was met: 500, 503, 429 with
Retry-After, 413, 507, cut connections, lost answers, and a second in which the token is refused. Twice a
process is killed (kill -9), another one replaces it, and the shards are compacted, if no fault stops that.
At the end `datasets.load_dataset` in a new process must read every acknowledged label exactly once, before
and after a last compaction.
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from chipdemo.errors import ChipDemoError
from chipdemo.images import content_sha256
from chipdemo.labeling.hub.compaction import compact
from chipdemo.labeling.hub.publish import SHARD, Publisher
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label
from tests.hub import CUT, LOST, Account, Hub
from tests.tiny import draw_chip

ROOT = Path(__file__).resolve().parent.parent
NAME, TOKEN = "ada/labels", "hf_ada"
PROCESSES, LABELS, IMAGES = 4, 500, 20
REQUESTS = ("GET /api/", "POST .*/preupload/", "POST .*/lfs/objects/batch", "PUT /lfs/", "POST .*/commit/")
ANSWERS = (500, 503, 429, 413, 507, CUT, LOST)
LOAD = f"import datasets; print(*datasets.load_dataset('{NAME}', split='train')['event_id'])"


def work(path: Path, annotator: str, count: int) -> None:
    """One process: print the id of each label once it is acknowledged, and publish in the background."""
    with Journal(path) as journal:
        publisher = Publisher(
            journal, NAME, flush_labels=10, flush_every_s=1, first_pause_s=0.2, longest_pause_s=5
        )
        publisher.start()
        shas = [add_image(journal, seed) for seed in range(IMAGES)]
        for number in range(count):
            label = Label(shas[number % IMAGES], "normal", annotator)
            journal.append(label)
            print(label.event_id, flush=True)
            time.sleep(random.uniform(0, 0.2))
        while journal.counts().pending:
            time.sleep(0.1)
        publisher.stop()


def add_image(journal: Journal, seed: int) -> str:
    image, file = draw_chip(seed), io.BytesIO()
    image.save(file, "PNG")
    sha256 = content_sha256(image)
    journal.add_image(sha256, image.size, f"{seed}.png", file.getvalue())
    return sha256


class Labeler:
    """A process that labels, with its acknowledged labels; after a kill, another process continues."""

    def __init__(self, path: Path, annotator: str, environment: dict[str, str]):
        self.path, self.annotator, self.environment = path, annotator, environment
        self.acknowledged: list[str] = []
        self.kills = 0
        self._start()

    def _start(self) -> None:
        left = LABELS // PROCESSES - len(self.acknowledged)
        command = [sys.executable, __file__, "--work", self.path, self.annotator, str(left)]
        self.process = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, args=(self.process,))
        self.reader.start()

    def _read(self, process: subprocess.Popen) -> None:
        self.acknowledged.extend(line.strip() for line in process.stdout if line.endswith("\n"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.kills += 1
        self._start()

    def wait(self) -> None:
        if self.process.wait():
            raise SystemExit(f"{self.annotator} ended with status {self.process.returncode}")
        self.reader.join()


def disturb(hub: Hub, over: threading.Event, reported: Counter) -> None:
    """Order faults until it is over."""
    chance = random.Random(0)
    while not over.wait(0.5):
        if any(fault.left for fault in hub.faults):
            continue
        if chance.random() < 0.1:
            account = hub.accounts.pop(TOKEN)
            over.wait(1)
            hub.accounts[TOKEN] = account
            reported["token refused, 1 s"] += 1
        else:
            answer = chance.choice(ANSWERS)
            hub.fail(chance.choice(REQUESTS), answer, retry_after_s="1" if answer == 429 else "")
            reported[str(answer)] += 1


def measure(folder: Path, hub: Hub) -> dict:
    environment = os.environ | hub.environment(folder / "home", TOKEN)
    journals = [folder / name for name in ("shared.db", "shared.db", "one.db", "other.db")]
    over, faults, started = threading.Event(), Counter(), time.perf_counter()
    labelers = [Labeler(path, f"annotator {n}", environment) for n, path in enumerate(journals)]
    disturber = threading.Thread(target=disturb, args=(hub, over, faults))
    disturber.start()
    for labeler, share in ((labelers[0], 0.3), (labelers[2], 0.6)):
        while len(labeler.acknowledged) < share * LABELS / PROCESSES:
            time.sleep(0.01)
        labeler.kill()
        with suppress(ChipDemoError):  # a fault may meet it too
            compact(NAME)
    while sum(len(labeler.acknowledged) for labeler in labelers) < LABELS:
        time.sleep(0.01)
    over.set()
    disturber.join()
    met = faults.total() - sum(fault.left for fault in hub.faults)
    for labeler in labelers:
        labeler.wait()
    seconds = time.perf_counter() - started
    hub.faults.clear()
    files = hub.repository(NAME, "dataset").files
    before = sum(bool(SHARD.fullmatch(path)) for path in files)
    read = load(environment)
    after = compact(NAME).after
    again = load(
        environment | {"HF_HOME": str(folder / "again"), "HF_HUB_CACHE": str(folder / "again" / "hub")}
    )
    acknowledged = Counter(event_id for labeler in labelers for event_id in labeler.acknowledged)
    return {
        "processes": PROCESSES,
        "killed": sum(labeler.kills for labeler in labelers),
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - read),
        "doubled": sum(count > 1 for count in read.values()),
        "lost_after_compaction": len(acknowledged - again),
        "doubled_after_compaction": sum(count > 1 for count in again.values()),
        "faults_ordered": dict(sorted(faults.items())),
        "faults_met_while_labeling": met,
        "requests": len(hub.requests),
        "commits": len(hub.repository(NAME, "dataset").commits),
        "shards_before_and_after_compaction": [before, after],
        "seconds": round(seconds, 1),
    }


def load(environment: dict[str, str]) -> Counter:
    """How often a new process reads which event."""
    ended = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return Counter(ended.stdout.split())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "publishing.json")
    options = parser.parse_args()
    if options.work:
        path, annotator, count = options.work
        work(Path(path), annotator, int(count))
        return
    with (
        TemporaryDirectory() as folder,
        Hub({TOKEN: Account("ada")}) as hub,
        pytest.MonkeyPatch.context() as patch,
    ):
        hub.serve(patch, Path(folder) / "home", TOKEN)
        report = {"command": "python benchmarks/publishing.py", **measure(Path(folder), hub)}
    text = json.dumps(report, indent=1)
    options.report.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
