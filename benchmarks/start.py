"""Seconds from `python app.py` to the first verdict, against `python -c "import gradio"`.

    python benchmarks/start.py

In turn within one round: the very first start of a fresh clone (an empty folder for the journal and for
exported networks), a later start with the same folder, and the bare import. The verdict is asked for by
POST /v1/inspect as soon as the port is open. Medians, also of the ratios within each round.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

from chipdemo.vision.checkpoint import write_json
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 300


def import_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True)
    return time.perf_counter() - started


def start_seconds(journal: Path, image: Path, flags: list[str]) -> float:
    """Until the app has answered with a verdict; it is stopped then."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "app.py", "--port", str(port), "--journal", journal, *flags]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        verdict(f"http://127.0.0.1:{port}", image)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def verdict(address: str, image: Path) -> str:
    """Asked for until the app is there to answer."""
    ends = time.monotonic() + WAIT_S
    while True:
        try:
            answer = httpx.post(f"{address}/v1/inspect", content=image.read_bytes(), timeout=WAIT_S)
            return answer.raise_for_status().json()["verdict"]
        except httpx.ConnectError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "start.json")
    options, flags = parser.parse_known_args()
    image = read_elpv().samples[0].path
    rows = []
    import_seconds()  # warms the disk's cache
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            journal = Path(folder, "labels.db")
            rows.append(
                {
                    "first start": start_seconds(journal, image, flags),
                    "later start": start_seconds(journal, image, flags),
                    "import gradio": import_seconds(),
                }
            )
    seconds = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    report = {
        "command": " ".join(["python benchmarks/start.py", *sys.argv[1:]]),
        "machine": f"{os.cpu_count()} cores",
        "rounds": options.rounds,
        "median_s": {name: round(float(np.median(values)), 2) for name, values in seconds.items()},
        "over_import": {
            name: round(float(np.median(values / seconds["import gradio"])), 3)
            for name, values in seconds.items()
        },
    }
    write_json(options.report, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
