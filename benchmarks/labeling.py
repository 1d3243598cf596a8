"""Twenty annotators label at once, through real clients of the running app.

    python benchmarks/labeling.py

2,000 ELPV images, 20 accounts with a client each. Each asks for images and labels them at the pace of
--pause. Every acknowledged label is then looked up in the journal: none may be lost or doubled. The time
of a label is from the call to the answer, which comes when the label is on the disk.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from gradio_client import Client

from benchmarks.serving import app, connect
from chipdemo.images import read_image
from chipdemo.labeling.journal import Journal
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.checkpoint import write_json
from chipdemo.vision.predictor import load_model
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
ANNOTATORS, LABELS, PREFETCHED = 20, 2000, 4  # images that a page holds
ACCOUNTS = {f"annotator{number:02}": f"word{number:02}" for number in range(ANNOTATORS)}


def fill(journal: Journal, count: int) -> None:
    """The images, and scores under the model's revision, as the order of the queue needs them."""
    revision = load_model(str(DEFAULT_MODEL)).info.revision
    for sample in read_elpv().samples[:count]:
        decoded = read_image(sample.path)
        content = sample.path.read_bytes()
        journal.add_image(decoded.sha256, decoded.image.size, sample.path.name, content)
        with journal.write() as database:
            row = (decoded.sha256, revision, random.random())
            database.execute("INSERT INTO scores VALUES (?, ?, ?, x'')", row)


def work(client: Client, share: int, pause_s: float) -> list[tuple[str, float]]:
    """Label so many images; gives the event ids that were acknowledged, and the seconds of each."""
    saved = []
    time.sleep(random.uniform(0, pause_s))
    while len(saved) < share:
        images = client.predict(count=PREFETCHED, api_name="/queue")["images"]
        if not images:
            break
        for image in images[: share - len(saved)]:
            time.sleep(random.uniform(0.5, 1.5) * pause_s)
            label = random.choice(("normal", "abnormal", "unsure"))
            began = time.perf_counter()
            answer = client.predict(sha256=image["sha256"], label=label, api_name="/label")
            saved.append((answer["event"]["event_id"], time.perf_counter() - began))
    return saved


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=int, default=LABELS)
    parser.add_argument(
        "--pause", type=float, default=2.0, help="mean seconds between two labels of an annotator"
    )
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "labeling.json")
    options, flags = parser.parse_known_args()
    os.environ["CHIPDEMO_AUTH"] = ",".join(map(":".join, ACCOUNTS.items()))
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "labels.db") as journal:
        fill(journal, options.labels)
        with app(["--journal", str(journal.path), *flags]) as address:
            # Real annotators have a machine each; this one is spared the TLS certificates of every call
            clients = [connect(address, auth=each, ssl_verify=False) for each in ACCOUNTS.items()]
            began = time.perf_counter()
            with ThreadPoolExecutor(ANNOTATORS) as pool:
                share = options.labels // ANNOTATORS
                jobs = [pool.submit(work, client, share, options.pause) for client in clients]
                saved = [each for job in jobs for each in job.result()]
            total_s = time.perf_counter() - began
        events = [event for _, event in journal.events()]
    acknowledged = Counter(event_id for event_id, _ in saved)
    written = Counter(event.event_id for event in events)
    votes = Counter((event.image_sha256, event.annotator) for event in events)
    milliseconds = [1000 * seconds for _, seconds in saved]
    report = {
        "command": " ".join(["python benchmarks/labeling.py", *sys.argv[1:]]),
        "annotators": ANNOTATORS,
        "pause_s": options.pause,
        "acknowledged": len(saved),
        "in_the_journal": len(events),
        "lost": len(acknowledged - written),
        "doubled": sum(count - 1 for count in votes.values()),
        "images_labeled_twice": len(events) - len({event.image_sha256 for event in events}),
        "label_p50_ms": round(float(np.percentile(milliseconds, 50))),
        "label_p95_ms": round(float(np.percentile(milliseconds, 95))),
        "labels_per_second": round(len(saved) / total_s, 1),
        "load_average_1min": round(os.getloadavg()[0], 1),
    }
    write_json(options.report, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
