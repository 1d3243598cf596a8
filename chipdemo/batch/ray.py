"""The batch on a Ray cluster, through Ray Data: many machines, and the results of one process.

Images go out in blocks, as the places where they lie; workers hold the model, read, decode and
judge. Results come back in the order given. A block that a worker dies over is judged again, and
none counts before it is back as a whole.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from chipdemo.batch.report import complete_parts, write_part
from chipdemo.batch.run import BATCH, Progress, Results, begun, inspect_stream, result_of
from chipdemo.batch.sources import GOES_ON, Listed
from chipdemo.errors import BatchError, ChipDemoError, SettingsError
from chipdemo.files import DEFAULT_LIMITS, Limits
from chipdemo.judge import Judge
from chipdemo.models import Models

try:
    import ray
    from ray.data import ActorPoolStrategy, DataContext, Dataset
    from ray.exceptions import RayError
except ImportError as error:
    raise SettingsError(
        "--engine ray needs the package ray; it is not installed. Run: pip install 'ray[data]', or leave "
        "--engine out."
    ) from error

logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells much of its own work

BLOCK = 16 * BATCH  # images that a worker judges at a time; the network gets the same batches as here


def inspect_on_ray(
    judge: Judge,
    images: Iterable[Listed],
    folder: Path,
    threshold: float | None = None,
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
    tiles: bool = True,
    *,
    model: str,
    runtime: str,
    graphs: Path | None = None,
    workers: int | None = None,
) -> Results:
    """batch.inspect_all, on the cluster at RAY_ADDRESS, or where there is none on this machine.

    The results are also written as Parquet parts, as they come. model, runtime, graphs: of the inspector,
    as load_inspector has them. workers: that load it, each with an equal share of the cores; one a core
    unless given. Raises the same, and SettingsError where there is no such cluster.
    """
    results, todo = begun(judge.models.in_use, images, folder, threshold, progress, tiles)
    blocks, count = list(iter(lambda: tuple(islice(todo, BLOCK)), ())), complete_parts(results, folder)
    if not blocks:
        return results
    _connect()
    model = str(Path(model).absolute()) if Path(model).exists() else model
    task = (
        model,
        runtime,
        graphs,
        judge.models.in_use.info.revision,
        results.run["threshold"],
        limits,
        tiles,
    )
    for some in _judged(_dataset(blocks, task, workers)):
        results.append(some)
        write_part(some, count, folder)
        count += len(some)
        progress(len(some))
    return results


class Worker:
    """Judges blocks of images in a process of its own; the model is loaded once."""

    def __init__(
        self,
        model: str,
        runtime: str,
        graphs: Path | None,
        revision: str,
        threshold: float,
        limits: Limits,
        tiles: bool,
    ):
        from chipdemo.vision.predictor import load_model

        loaded = load_model(model, runtime=runtime, graphs=graphs)
        if loaded.info.revision != revision:
            raise BatchError(
                f"Expected revision {revision} of {model} on every machine; found {loaded.info.revision}. "
                "Give all of them the same."
            )
        self.judge, self.model = Judge(Models(loaded)), loaded
        self.threshold, self.limits, self.tiles = threshold, limits, tiles

    def __call__(self, blocks: dict[str, Any]) -> dict[str, list[str]]:
        """blocks: one, as "item" -> the JSON of its images' results."""
        (images,) = blocks["item"]
        batches = inspect_stream(self.judge, self.model, images, self.threshold, self.limits, self.tiles)
        return {"result": [json.dumps(result_of(one)) for batch in batches for one in batch]}


def _connect() -> None:
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of what is inspected is told to anyone
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise SettingsError(
            f"Expected a Ray cluster at {os.environ.get('RAY_ADDRESS', 'this machine')}; found {error}. "
            "Correct RAY_ADDRESS, or unset it to use this machine."
        ) from error


def _dataset(blocks: list[tuple[Listed, ...]], task: tuple, workers: int | None) -> Dataset:
    cores = int(ray.cluster_resources().get("CPU", 1))
    workers = min(workers or cores, len(blocks))
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    return ray.data.from_items(blocks, override_num_blocks=len(blocks)).map_batches(
        Worker,
        batch_size=1,
        compute=ActorPoolStrategy(size=workers),
        num_cpus=cores // workers or cores / workers,
        fn_constructor_args=task,
    )


def _judged(dataset: Dataset) -> Iterator[list[dict[str, Any]]]:
    """Blocks of results. Raises BatchError where the cluster gives up."""
    try:
        for block in dataset.iter_batches(batch_size=None):
            yield [json.loads(line) for line in block["result"]]
    except RayError as error:
        cause = getattr(error, "cause", None)
        said = cause if isinstance(cause, ChipDemoError) else str(error).strip().splitlines()[-1]
        raise BatchError(f"The Ray cluster gave up: {said} {GOES_ON}") from error
