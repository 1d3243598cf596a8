"""A batch on a Ray cluster, by Ray Data: inspected on many machines, written by one process.

Blocks of images go to the workers as the paths where they lie. A worker holds the model; it reads, decodes
and inspects. Results come back in the order given. If a worker dies, its block is inspected again, and
none of its results counts before the block is back as a whole.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from chipdemo.batch.report import complete_parts, write_part
from chipdemo.batch.run import BATCH, Progress, Results, Task, inspect_stream, result_of, resume
from chipdemo.batch.sources import RESUME, BatchImage
from chipdemo.errors import BatchError, ChipDemoError, SettingsError
from chipdemo.files import Limits
from chipdemo.inspection import Model
from chipdemo.judge import Judge
from chipdemo.models import Models

try:
    import ray
    from ray.data import ActorPoolStrategy, DataContext, Dataset
    from ray.exceptions import RayError
except ImportError as error:
    raise SettingsError(
        "--engine ray needs the package ray, which is not installed. Run pip install 'ray[data]', or leave "
        "out --engine."
    ) from error

logging.getLogger("ray.data").setLevel(logging.ERROR)  # below that it reports on its own work

BLOCK = 16 * BATCH  # images that a worker inspects at a time; the network gets the same batches as here


def inspect_on_ray(
    task: Task,
    images: Iterable[BatchImage],
    folder: Path,
    progress: Progress = lambda done: None,
    *,
    load: Callable[[], Sequence[Model]],
    workers: int | None = None,
) -> Results:
    """As inspect_all, on the cluster at RAY_ADDRESS, or on this machine where that is not set.

    The results are also written as Parquet parts, as they come. load: loads the task's models in a worker; it
    is sent there. workers: how many load it, each with an equal share of the cores; one a core unless given.
    Raises the same as inspect_all, and SettingsError where there is no such cluster.
    """
    results, todo = resume(task, images, folder, progress)
    blocks, count = list(iter(lambda: tuple(islice(todo, BLOCK)), ())), complete_parts(results, folder)
    if not blocks:
        return results
    _connect()
    arguments = (load, task.run()["revision"], task.threshold, task.tiles, task.limits)
    for block in _inspected(_dataset(blocks, arguments, workers)):
        results.append(block)
        write_part(block, count, folder)
        count += len(block)
        progress(len(block))
    return results


class Worker:
    """Inspects blocks of images in a process of its own; the model is loaded once."""

    def __init__(
        self,
        load: Callable[[], Sequence[Model]],
        revision: str,
        threshold: float | None,
        tiles: bool,
        limits: Limits,
    ):
        """revision: of the models, as Task.run has it."""
        models = load()
        self.task = Task(Judge(Models(*models)), models, threshold, tiles, limits)
        if (run := self.task.run())["revision"] != revision:
            raise BatchError(
                f"A worker has revision {run['revision']} of {run['model']} instead of {revision}. "
                "Give every machine the same model."
            )

    def __call__(self, blocks: dict[str, Any]) -> dict[str, list[str]]:
        """blocks: one, as "item" -> the JSON of its images' results, as "result"."""
        (images,) = blocks["item"]
        batches = inspect_stream(self.task, images)
        return {"result": [json.dumps(result_of(one)) for batch in batches for one in batch]}


def _connect() -> None:
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports usage to its makers otherwise
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        address = os.environ.get("RAY_ADDRESS", "this machine")
        raise SettingsError(
            f"Ray does not answer at {address}: {error}. Correct RAY_ADDRESS, or unset it."
        ) from error


def _dataset(blocks: list[tuple[BatchImage, ...]], arguments: tuple, workers: int | None) -> Dataset:
    """The results of the blocks, not yet computed. arguments: of Worker."""
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
        fn_constructor_args=arguments,
    )


def _inspected(dataset: Dataset) -> Iterator[list[dict[str, Any]]]:
    """Blocks of results. Raises BatchError where a worker raises an error or the cluster fails."""
    try:
        for block in dataset.iter_batches(batch_size=None):
            yield [json.loads(line) for line in block["result"]]
    except RayError as error:
        cause = getattr(error, "cause", None)
        reason = cause if isinstance(cause, ChipDemoError) else str(error).strip().splitlines()[-1]
        raise BatchError(f"The Ray cluster stopped: {reason} {RESUME}") from error
