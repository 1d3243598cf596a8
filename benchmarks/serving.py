"""The running app, seen from outside: start to first verdict, and many clients at once.

    python benchmarks/serving.py

Start: `python app.py` until the first answer of /inspect, in turn with `python -c "import gradio"`; once
for the first start with a model, which exports its network, and then for later ones. Load: 200 requests
by 20 concurrent clients; every answer must equal the one a single user got for the same image.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file

from chipdemo.vision.checkpoint import write_json
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
CLIENTS, REQUESTS, IMAGES = 20, 200, 20


@contextmanager
def app(flags: list[str]):
    """The app on a free port; gives its address as soon as the process runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "app.py", "--port", str(port), *flags]
    folder = tempfile.mkdtemp()  # its labels are nobody's
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "CHIPDEMO_JOURNAL": f"{folder}/labels.db"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def connect(address: str, **options) -> Client:
    port = int(address.rpartition(":")[2])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return Client(address, verbose=False, **options)
        except OSError:
            time.sleep(0.02)


def inspect(client: Client, path: Path) -> dict:
    """The part of the answer that depends on the image alone."""
    result, _ = client.predict(image=handle_file(path), api_name="/inspect")
    return {key: value for key, value in result.items() if key != "timing_ms"}


def start_seconds(flags: list[str], path: Path) -> float:
    started = time.perf_counter()
    with app(flags) as address:
        inspect(connect(address), path)
        return time.perf_counter() - started


def import_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True)
    return time.perf_counter() - started


def load(address: str, paths: list[Path]) -> dict:
    client = connect(address)
    alone = {path: inspect(client, path) for path in paths}
    jobs = [paths[number % len(paths)] for number in range(REQUESTS)]
    clients = [connect(address) for _ in range(CLIENTS)]

    def ask(number: int) -> tuple[float, str]:
        started = time.perf_counter()
        try:
            answer = inspect(clients[number % CLIENTS], jobs[number])
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is what is counted
            return time.perf_counter() - started, f"error: {error}"
        return time.perf_counter() - started, "right" if answer == alone[jobs[number]] else "mixed up"

    with ThreadPoolExecutor(CLIENTS) as pool:
        started = time.perf_counter()
        answers = list(pool.map(ask, range(REQUESTS)))
        total = time.perf_counter() - started
    seconds = [second for second, _ in answers]
    outcomes = [outcome for _, outcome in answers]
    return {
        "requests": REQUESTS,
        "clients": CLIENTS,
        "errors": sum(outcome.startswith("error") for outcome in outcomes),
        "mixed_up": outcomes.count("mixed up"),
        "p50_ms": round(float(np.percentile(seconds, 50)) * 1000),
        "p95_ms": round(float(np.percentile(seconds, 95)) * 1000),
        "requests_per_second": round(REQUESTS / total, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of the start")
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "serving.json")
    options, flags = parser.parse_known_args()
    paths = [sample.path for sample in read_elpv().samples[::100][:IMAGES]]
    with tempfile.TemporaryDirectory() as folder:
        flags += ["--journal", f"{folder}/labels.db"]  # beside which the exported network is kept
        import_seconds()  # warms the disk's cache
        first = start_seconds(flags, paths[0])
        pairs = [(start_seconds(flags, paths[0]), import_seconds()) for _ in range(options.rounds)]
        with app(flags) as address:
            under_load = load(address, paths)
    report = {
        "command": " ".join(["python benchmarks/serving.py", *sys.argv[1:]]),
        "first_start_to_first_verdict_s": round(first, 2),
        "start_to_first_verdict_s": round(float(np.median([start for start, _ in pairs])), 2),
        "import_gradio_s": round(float(np.median([bare for _, bare in pairs])), 2),
        "start_less_a_second_over_import": round(float(np.median([(s - 1) / bare for s, bare in pairs])), 2),
        "load": under_load,
    }
    write_json(options.report, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
