"""Chip Inspector in the browser: python app.py, then open the address that it prints.

The composition root: settings -> models -> Judge -> page -> launch. `python app.py --help` lists every flag.
"""

import atexit
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from chipdemo.errors import ChipDemoError, SettingsError
from chipdemo.settings import Settings, command_line

if TYPE_CHECKING:
    from chipdemo.batch.service import InspectionService
    from chipdemo.inspection import Model
    from chipdemo.judge import Judge
    from chipdemo.labeling.hub.publish import Publisher
    from chipdemo.labeling.journal import Journal
    from chipdemo.labeling.training import Training
    from chipdemo.models import HotReload, ModelInUse, Models
    from chipdemo.teaching import Teacher

EXIT_USAGE = 2
log = logging.getLogger("chipdemo")
ABLATION = Path(__file__).parent / "chipdemo" / "ablation" / "elpv.json"  # what the Compare tab opens with


def read_settings(arguments: Sequence[str] | None, environ: Mapping[str, str]) -> Settings:
    """Flags over variables over defaults. Raises SettingsError; --help exits."""
    flags = command_line().parse_args(arguments)
    return Settings.from_env(environ).with_flags(flags)


def run(settings: Settings) -> NoReturn:
    """Load the model and serve. Raises ChipDemoError, and KeyboardInterrupt when all is put away."""
    check_port(settings.host, settings.port)
    load = loading(settings)
    models = models_of(settings, load)
    from chipdemo.examples import elpv_example_set  # imported late: --help and mistakes answer at once
    from chipdemo.judge import Judge
    from chipdemo.labeling.journal import Journal
    from chipdemo.labeling.scoring import Scorer
    from chipdemo.metrics import Metrics
    from chipdemo.monitoring import Recent, log_inspection
    from chipdemo.ui.inspect.first_example import FirstExample
    from chipdemo.ui.label.logic import desk_of
    from chipdemo.ui.page import build_app, serve, stop_serving
    from chipdemo.vision.zerogpu import lends

    with ExitStack() as closing:

        def running(service: Any) -> Any:
            """Started now, and stopped in the reverse order at the end."""
            service.start()
            closing.callback(service.stop)
            return service

        journal = closing.enter_context(Journal(settings.journal_path))
        recent = Recent()
        for reload in hot_reloads(models, settings, load):
            running(reload)
        metrics = Metrics(journal) if settings.metrics else None
        counting = [recent.add, *([metrics.add] if metrics else [])]
        judge = Judge(models, [log_inspection, *counting])
        service = service_of(Judge(models, counting), settings)  # /v1 has log lines of its own
        running(Scorer(journal, judge, max_megapixels=settings.max_megapixels))
        publisher = running(publisher_of(journal, settings)) if settings.dataset else None
        desk = desk_of(journal, judge, settings, publisher, training_of(journal, models, settings, load))
        closing.callback(desk.close)
        if lends():
            network_teacher()  # what is lent a GPU has to be known before the page is served
        examples = [elpv_example_set(models.first.model.info.name)]
        first_example = FirstExample(judge, examples, settings.max_megapixels)
        app = build_app(
            judge,
            settings,
            recent,
            examples,
            ABLATION,
            load=lambda folder: load(str(folder)),
            desk=desk,
            metrics=metrics,
            teacher=network_teacher,
            continuing=continuing_teacher,
            first_example=first_example,
        )
        service.start()
        serve(app, settings, service, metrics, prevent_thread_lock=True)
        running(first_example)  # not before, since that would delay the page
        closing.callback(stop_serving, app)  # before the last labels are published
        closing.callback(service.stop)  # before that, each request that was accepted is answered
        wait()


def wait() -> NoReturn:
    """For Ctrl-C."""
    gc.freeze()  # what was built stays
    gc.enable()
    while True:
        time.sleep(3600)


def loading(settings: Settings) -> "Callable[..., Model]":
    """What loads a checkpoint of a source, and a revision where one is named."""
    from chipdemo.vision.predictor import load_model

    return partial(
        load_model,
        runtime=settings.runtime,
        precision=settings.precision,
        graphs=settings.graphs,
        target=settings.target,
        must_promise=len(settings.model_sources) == 1,
    )


def models_of(settings: Settings, load: "Callable[[str], Model]") -> "Models":
    """The models of the settings; the page, whose gradio takes most of the start, is imported meanwhile.

    Raises CheckpointError, TargetError.
    """
    from chipdemo.models import Models

    threading.Thread(target=import_module, args=["chipdemo.ui.page"], daemon=True).start()
    return Models(*(in_use(source, load) for source in settings.model_sources))


def in_use(source: str, load: "Callable[[str], Model]") -> "ModelInUse":
    """The newest revision of a model that was not refused. Raises CheckpointError, TargetError."""
    from chipdemo.models import ModelInUse
    from chipdemo.vision.revisions import newest_accepted

    accepted = newest_accepted(source)
    if accepted.refused:
        log.warning("%s %s", accepted.refused.text, accepted.refused.advice)
    return ModelInUse(load(accepted.source), *accepted)


def hot_reloads(models: "Models", settings: Settings, load: "Callable[..., Model]") -> "list[HotReload]":
    """What takes newer revisions of the models over, if that is asked for."""
    from chipdemo.models import HotReload
    from chipdemo.vision.checkpoint import latest_revision

    if not settings.hot_reload:
        return []
    pairs = zip(settings.model_sources, models.in_use)
    return [HotReload(one, source, settings.hot_reload, load, latest_revision) for source, one in pairs]


def service_of(judge: "Judge", settings: Settings) -> "InspectionService":
    from chipdemo.batch.service import InspectionService

    workers = settings.concurrency + 1  # one has the next images ready when a network becomes free
    return InspectionService(judge, settings.max_megapixels, settings.queue_size, workers)


def training_of(
    journal: "Journal", models: "Models", settings: Settings, load: "Callable[[str], Model]"
) -> "Training":
    from chipdemo.labeling.training import Training
    from chipdemo.vision.checkpoint import STATE

    return Training(
        journal,
        settings,
        models.first,
        lambda folder: load(accepted(str(folder))),
        keeps=lambda out: (out / STATE).is_file(),
    )


def accepted(source: str) -> str:
    """A checkpoint folder that somebody chose: it takes over from now on, also where it is worse."""
    from chipdemo.vision.revisions import accept, newest_accepted

    refused = newest_accepted(source).refused
    if refused:
        accept(source, refused.revision)
    return source


def check_port(host: str, port: int) -> None:
    """Raises SettingsError where the address cannot be listened on; found out before the model is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except socket.gaierror as error:
        raise SettingsError(f"Cannot listen on {host}: there is no such host. Check --host.") from error
    except OSError as error:
        steps = {
            errno.EADDRINUSE: "Stop the program that uses this port, or choose another one with --port.",
            errno.EADDRNOTAVAIL: "It is not an address of this machine. Check --host.",
            errno.EACCES: "Choose a port from 1024 on with --port.",
        }
        reason = os.strerror(error.errno)
        step = steps.get(error.errno, "Check --host and --port.")
        raise SettingsError(f"Cannot listen on {host}, port {port}: {reason}. {step}") from error


def publisher_of(journal: "Journal", settings: Settings) -> "Publisher":
    from chipdemo.labeling.hub.publish import Publisher

    return Publisher(
        journal, settings.dataset, settings.dataset_public, settings.flush_labels, settings.flush_every_s
    )


@cache
def network_teacher() -> "Teacher":
    """Made when somebody teaches first, since PyTorch takes seconds to import."""
    from chipdemo.vision.anomaly.teacher import NetworkTeacher

    return NetworkTeacher()


def continuing_teacher(source: str) -> "Teacher":
    """Of a taught model, as for --model, or a zip of its folder. Raises CheckpointError, DataError."""
    from chipdemo.vision.anomaly.continuing import ContinuingTeacher

    return ContinuingTeacher(source)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C. The status to exit with: 0 then, EXIT_USAGE for what the user can mend."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("chipdemo").setLevel(logging.INFO)
    os.environ.setdefault("MPLBACKEND", "agg")  # else gradio's first answer waits for matplotlib's pyplot
    gc.disable()  # looking for garbage takes a tenth of the start
    try:
        run(read_settings(arguments, os.environ))
    except ChipDemoError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 0
    finally:
        gc.enable()


def end_at_once(status: Sequence[int]) -> None:
    """End the process with the status that main gave, if it gave one.

    Threads of the server may be inside of a runtime still. Python ends them where they want to go on, which
    C++ answers by aborting the process ("terminate called without an active exception").
    """
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status[0])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container stops as by Ctrl-C
    ended: list[int] = []
    atexit.register(end_at_once, ended)  # the first to be registered is the last to run
    ended.append(main())
    sys.exit(ended[0])
