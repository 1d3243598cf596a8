"""The HTTP API under load, beside the bare network on the same machine in the same run.

    apt-get install wrk hey
    python benchmarks/serving.py                      # a minute for each model
    python benchmarks/serving.py --soak 30            # 30 minutes at 80 % load

wrk posts ELPV images over 1, 4 and 20 connections that stay open. The bare network is the backbone alone in
OpenVINO, in the precision of the app, as fast as it gets: two streams or one, whichever gives more images a
second. It takes turns with the app, so that a machine whose speed drifts is fair to both.
Soak: hey posts one image at a fixed rate; beside it, 1 % of as many requests are no images, and a client
hangs up in the middle of a request. Every answer is checked; the memory is that of the app's process.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks.latency import Bare, large_jpeg, precision_of
from chipdemo.batch.service import InspectionService, Order
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import DEFAULT_MODEL, LITE0_MODEL
from chipdemo.vision.checkpoint import write_json
from chipdemo.vision.predictor import load_model
from training.sources import read_elpv

ROOT = Path(__file__).resolve().parent.parent
IMAGES, SECONDS, ROUNDS = 20, 4, 6
SCRIPT = """
local bodies = {}
for number = 1, #COUNT do
  local file = io.open("FOLDER/" .. number, "rb")
  bodies[number] = file:read("*a")
  file:close()
end
local turn = 0
request = function()
  turn = turn % #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/octet-stream"}, bodies[turn])
end
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("%d %f %f %f %d", summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, failed))
end
"""


@contextmanager
def app(*flags: str) -> Iterator[tuple[str, psutil.Process]]:
    """The app on a free port, once it is ready: its address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "app.py"), "--port", str(port), *flags]
        environment = os.environ | {"CHIPDEMO_JOURNAL": f"{folder}/labels.db"}
        with Path(folder, "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        address = f"http://127.0.0.1:{port}"
        try:
            while True:
                try:
                    if httpx.get(f"{address}/v1/ready").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
                if process.poll() is not None:
                    raise SystemExit(Path(folder, "log").read_text())
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def wrk(address: str, files: list[bytes], connections: int, seconds: int = SECONDS) -> dict[str, float]:
    """What wrk measures: images a second, p50 and p95 in ms, failed requests."""
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(files, 1):
            Path(folder, str(number)).write_bytes(content)
        script = Path(folder, "post.lua")
        script.write_text(SCRIPT.replace("#COUNT", str(len(files))).replace("FOLDER", folder))
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "30s",
            "-s",
            script,
            address,
        ]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count, lasted, p50, p95, failed = map(float, text.strip().splitlines()[-1].split())
    return {"per_second": count / lasted, "p50_ms": p50, "p95_ms": p95, "failed": failed}


def elpv_files() -> list[bytes]:
    return [sample.path.read_bytes() for sample in read_elpv().samples[::100][:IMAGES]]


def in_process_ms(model, files: list[bytes], rounds: int = 60) -> float:
    """Median of one image, from the bytes of its file to JSON, without HTTP."""
    judge, times = Judge(Models(model)), []
    for number in range(rounds):
        started = time.perf_counter()
        json.dumps(judge.inspect(judge.read(files[number % len(files)], 64)).to_json())
        times.append(1000 * (time.perf_counter() - started))
    return float(np.median(times))


def per_second_together(model, files: list[bytes], seconds: float = 3) -> dict[str, float]:
    """Images a second without HTTP while 20 wait, by how many share a forward pass at most."""
    rates = {together: [] for together in (1, 2, 4, 8)}
    for _ in range(ROUNDS):
        for together, found in rates.items():
            judge = Judge(Models(model))
            service = InspectionService(judge, 64, 100, 3, together)
            service.start()
            order = Order(lambda judge=judge: judge.models.every)
            waiting, count, started = deque(), 0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                waiting.append(service.submit(files[count % len(files)], order))
                count += 1
                if len(waiting) == 20:
                    waiting.popleft().result()
            service.stop()
            found.append(count / (time.perf_counter() - started))
    return {str(together): round(float(np.median(found)), 1) for together, found in rates.items()}


def measured(folder: Path) -> dict:
    """One model: medians of the rounds, and of the ratios within a round."""
    model = load_model(str(folder), runtime="auto", graphs=ROOT / "runs" / "graphs", precision="auto")
    bare = Bare(model.spec.backbone, model.spec.image_size, precision_of(model))
    files, large, rounds = elpv_files(), [large_jpeg()], []
    with app("--model", str(folder)) as (address, _):
        inspect = f"{address}/v1/inspect"
        wrk(inspect, files, 4, 3)  # warms up
        for _ in range(ROUNDS):
            before = bare.per_second(SECONDS)
            at_4 = wrk(inspect, files, 4)
            bare_rate = (before + bare.per_second(SECONDS)) / 2
            before = in_process_ms(model, files)
            at_1 = wrk(inspect, files, 1)
            in_process = (before + in_process_ms(model, files)) / 2
            at_20 = wrk(inspect, files, 20)
            found = {
                "bare_ms": bare.one_ms(),
                "bare_per_second": bare_rate,
                "in_process_ms": in_process,
                "large_jpeg_ms": wrk(f"{inspect}?tiles=false", large, 1)["p50_ms"],
                "share_of_bare_at_4": at_4["per_second"] / bare_rate,
                "p95_at_20_over_ideal": at_20["p95_ms"] / (20_000 / at_20["per_second"]),
                "p50_at_1_over_in_process": at_1["p50_ms"] / in_process,
            }
            for count, load in (1, at_1), (4, at_4), (20, at_20):
                found |= {f"{name}_at_{count}": value for name, value in load.items()}
            rounds.append(found)
    medians = {name: float(np.median([one[name] for one in rounds])) for name in rounds[0]}
    return {
        "runtime": model.info.runtime,
        **{name: round(value, 2) for name, value in medians.items()},
        "per_second_by_images_in_one_forward": per_second_together(model, files),
    }


def soaked(folder: Path, minutes: float) -> dict:
    """Errors and memory over a long time at 80 % load."""
    files, bad = elpv_files(), b"this is no image"
    with app("--model", str(folder)) as (address, process), tempfile.TemporaryDirectory() as place:
        inspect = f"{address}/v1/inspect"
        rate = 0.8 * wrk(inspect, files, 4, 20)["per_second"]
        Path(place, "chip.png").write_bytes(files[0])
        expected = httpx.post(inspect, content=files[1]).json()["abnormal_probability"]
        ended, other = threading.Event(), {"bad": 0, "good": 0, "wrong": 0, "hung_up": 0}

        def beside() -> None:
            with httpx.Client(timeout=60) as client:
                while not ended.wait(1 / (0.01 * rate)):
                    other["bad"] += 1
                    other["wrong"] += client.post(inspect, content=bad).status_code != 422
                    other["good"] += 1
                    answer = client.post(inspect, content=files[1])
                    other["wrong"] += answer.json().get("abnormal_probability") != expected
                    hang_up(address, files[0])
                    other["hung_up"] += 1

        memory = []

        def watch() -> None:
            while not ended.wait(5):
                memory.append(process.memory_info().rss / 1e6)

        threads = [threading.Thread(target=one) for one in (beside, watch)]
        for thread in threads:
            thread.start()
        command = [
            "hey",
            "-z",
            f"{round(60 * minutes)}s",
            "-c",
            "4",
            "-q",
            str(rate / 4),
            "-m",
            "POST",
            "-o",
            "csv",
        ]
        command += ["-T", "application/octet-stream", "-D", f"{place}/chip.png", inspect]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[1:]
        ended.set()
        for thread in threads:
            thread.join()
    statuses = [line.split(",")[6] for line in lines]
    early, late = np.median(memory[12:36]), np.median(memory[-24:])
    return {
        "minutes": minutes,
        "images_per_second": round(len(lines) / (60 * minutes), 1),
        "requests": len(lines) + other["bad"] + other["good"],
        "errors": sum(status != "200" for status in statuses) + other["wrong"],
        "no_images": other["bad"],
        "hung_up": other["hung_up"],
        "p95_ms": round(1000 * float(np.percentile([float(line.split(",")[0]) for line in lines], 95)), 1),
        "memory_mb_after_1_to_3_minutes": round(float(early)),
        "memory_mb_in_the_last_2_minutes": round(float(late)),
        "growth_of_memory": round(float(late / early - 1), 4),
    }


def hang_up(address: str, content: bytes) -> None:
    """Send half of a request and close the connection."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1/inspect HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content[: len(content) // 2])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", type=Path, default=[DEFAULT_MODEL, LITE0_MODEL])
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="of the first model, and nothing else")
    parser.add_argument("--report", type=Path, default=ROOT / "benchmarks" / "serving.json")
    options = parser.parse_args()
    if missing := [tool for tool in ("wrk", "hey") if not shutil.which(tool)]:
        raise SystemExit(
            f"{' and '.join(missing)} is not installed. Run apt-get install {' '.join(missing)}."
        )
    report = json.loads(options.report.read_text()) if options.report.exists() else {}
    report["command"] = " ".join(["python benchmarks/serving.py", *sys.argv[1:]])
    report["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    if options.soak:
        report["soak"] = {"model": options.model[0].name} | soaked(options.model[0], options.soak)
    else:
        report["models"] = {folder.name: measured(folder) for folder in options.model}
    write_json(options.report, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
