"""Every setting in one place: its flag, its CHIPDEMO_* variable, its unit and its default.

A flag beats its variable; a variable beats the default. app.py and python -m chipdemo build their
command lines from this dataclass, so a new field is a new flag with its help.
"""

import argparse
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from chipdemo.errors import SettingsError

if TYPE_CHECKING:
    from chipdemo.files import Limits
    from chipdemo.threshold import Target

PREFIX = "CHIPDEMO_"
WEIGHTS = Path(__file__).parent / "weights"
DEFAULT_MODEL = WEIGHTS / "elpv-resnet50-cbam"
TRANSISTOR_MODEL = WEIGHTS / "mvtec-transistor"
SHIPPED = (DEFAULT_MODEL, TRANSISTOR_MODEL)
LITE0_MODEL = Path(__file__).parent / "ablation" / "elpv" / "lite0-cbam"  # of the Compare tab
DEFAULT_JOURNAL = Path("~/.chipdemo/labels.db")  # the same wherever the program is started
AUTO = "auto"
RUNTIMES = (AUTO, "openvino", "onnx", "torch")
FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = (AUTO, FLOAT32, BFLOAT16)
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")

Accounts = tuple[tuple[str, str], ...]
Defects = tuple[tuple[str, str], ...]
TARGETS = ("target_recall", "target_fpr")  # settings that exclude each other
TAKEN_LETTERS = "beghnpsvxz"  # keys of the Label tab
DEFECTS: Defects = (
    ("c", "crack"), ("f", "finger"), ("d", "dead area"), ("t", "stain"), ("r", "scratch"),
)  # fmt: skip


def _text(text: str) -> str:
    return text.strip()


def _dataset(text: str) -> str:
    if text.strip() and not re.fullmatch(r"[\w.-]+/[\w.-]+", text.strip(), re.ASCII):
        raise ValueError("owner/name of letters, digits, '-', '_' and '.'")
    return text.strip()


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip() not in names:
            raise ValueError(" or ".join(names))
        return text.strip()

    return parse


def _switch(text: str) -> bool:
    if text.strip().lower() in YES + NO:
        return text.strip().lower() in YES
    raise ValueError("yes or no")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text.strip().isdecimal() and low <= int(text) <= high:
            return int(text)
        raise ValueError(f"a whole number from {low} to {high}")

    return parse


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError("a number above 0")
    return number


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        raise ValueError("a fraction above 0 and below 1, such as 0.95")
    return number


def _accounts(text: str) -> Accounts:
    """ "ada:secret,bob:word" -> (("ada", "secret"), ("bob", "word")). No spaces around them."""
    pairs = [pair.partition(":") for pair in text.split(",")] if text else []
    if not all(user and password for user, _, password in pairs):
        raise ValueError("user:password, or several with commas between them")
    return tuple((user, password) for user, _, password in pairs)


def _names(text: str) -> tuple[str, ...]:
    """ "ada, acme" -> ("ada", "acme")."""
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def _defects(text: str) -> Defects:
    """ "c:crack, f:finger" -> (("c", "crack"), ("f", "finger"))."""
    pairs = [name.partition(":") for name in _names(text)]
    found = tuple((letter.strip().lower(), name.strip()) for letter, _, name in pairs)
    free = set(ascii_lowercase) - set(TAKEN_LETTERS)
    letters = [letter for letter, _ in found]
    if not (set(letters) <= free and len(set(letters)) == len(letters) and all(name for _, name in found)):
        raise ValueError(
            f"letter:type, or several with commas between them, no letter twice or of {TAKEN_LETTERS}"
        )
    return found


def _setting(default: Any, parse: Callable[[str], Any], help: str, **more: Any) -> Any:
    """A field. more: metavar; also, a variable that is read where ours is absent; secret; several, the flag
    may be given more than once; shown, the default in words."""
    secret = more.get("secret", False)
    return field(default=default, repr=not secret, metadata={"parse": parse, "help": help, **more})


@dataclass(frozen=True)
class Settings:
    """All settings. Complete and valid when built by from_env and with_flags."""

    host: str = _setting(
        "127.0.0.1",
        _text,
        "address to listen on; 0.0.0.0 for the whole network",
        also="GRADIO_SERVER_NAME",  # a Hugging Face Space sets it
    )
    port: int = _setting(
        7860, _whole(1, 65535), "TCP port to listen on", metavar="PORT", also="GRADIO_SERVER_PORT"
    )
    model: tuple[str, ...] = _setting(
        (),
        _names,
        "checkpoint folder or Hugging Face Hub id; of several, each image goes to the one that knows it best",
        metavar="MODEL[,...]",
        several=True,
        shown="the shipped models",
    )
    runtime: str = _setting(
        AUTO,
        _one_of(*RUNTIMES),
        "what runs the network: openvino, onnx, torch, or auto for the fastest that is installed",
        metavar="NAME",
    )
    precision: str = _setting(
        AUTO,
        _one_of(*PRECISIONS),
        "precision of the network: float32, bfloat16, or auto for bfloat16 where the processor has it and "
        "metrics.json of the model says that its verdicts stay the same",
        metavar="NAME",
    )
    target_recall: float | None = _setting(
        None,
        _share,
        "choose the threshold that detects at least this share of new abnormal images, with 90 % confidence; "
        "a fraction, such as 0.95",
        metavar="FRACTION",
        shown="the threshold of the model",
    )
    target_fpr: float | None = _setting(
        None,
        _share,
        "choose the threshold that flags at most this share of new normal images, with 90 % confidence; "
        "a fraction, such as 0.02",
        metavar="FRACTION",
        shown="the threshold of the model",
    )
    hot_reload: int = _setting(
        0,
        _whole(0, 86_400),
        "seconds between checks for a newer revision of the model, which is put in use without a restart; "
        "0 for no checks",
        metavar="SECONDS",
    )
    journal: str = _setting(
        "",
        _text,
        "file that keeps images and labels",
        metavar="FILE",
        shown=DEFAULT_JOURNAL.as_posix(),
    )
    history_images: int = _setting(
        10_000,
        _whole(0, 1_000_000),
        "inspected images that the history of each user keeps; 0 for no history after the page is closed",
        metavar="N",
    )
    history_mb: int = _setting(
        2_000, _whole(1, 10_000_000), "megabytes that the images of all histories take", metavar="MB"
    )
    history_days: int = _setting(
        90, _whole(1, 36_500), "days that the history keeps an image", metavar="DAYS"
    )
    share: bool = _setting(False, _switch, "also open a public link through gradio.live")
    auth: Accounts = _setting(
        (),
        _accounts,
        "accounts that may sign in; other users of this machine can read a command line, "
        "so the variable is the safer way",
        metavar="USER:PASSWORD[,...]",
        secret=True,
    )
    api_keys_file: str = _setting(
        "",
        _text,
        "file of the keys that programs need for the HTTP API; python -m chipdemo api-key makes one",
        metavar="FILE",
    )
    annotator: str = _setting(
        "",
        _text,
        "name of the annotator where nobody signs in (on this machine only)",
        metavar="NAME",
        shown="the user's name",
    )
    labelers: tuple[str, ...] = _setting(
        (),
        _names,
        "who may label: accounts, or members of Hugging Face organizations",
        metavar="NAME[,...]",
        shown="everyone signed in",
    )
    reviewers: tuple[str, ...] = _setting(
        (),
        _names,
        "which labelers settle disputed images; accounts named here may also train, export and publish",
        metavar="NAME[,...]",
        shown="all of them settle",
    )
    annotators_per_image: int = _setting(1, _whole(1, 100), "annotators who label each image", metavar="N")
    defects: Defects = _setting(
        DEFECTS,
        _defects,
        "types of defects with their keys; others can be typed",
        metavar="LETTER:TYPE[,...]",
        shown=",".join(map(":".join, DEFECTS)),
    )
    max_megapixels: float = _setting(
        64.0, _positive, "largest image that is read, millions of pixels", metavar="MP"
    )
    max_upload_mb: int = _setting(
        256, _whole(1, 100_000), "largest file that is accepted, megabytes", metavar="MB"
    )
    concurrency: int = _setting(2, _whole(1, 256), "images judged at the same time", metavar="N")
    queue_size: int = _setting(
        200, _whole(1, 100_000), "requests that may wait; more are turned away", metavar="N"
    )
    metrics: bool = _setting(False, _switch, "answer /metrics for Prometheus, without sign-in")
    dataset: str = _setting(
        "",
        _dataset,
        "Hugging Face dataset that labels are published to",
        metavar="OWNER/NAME",
    )
    dataset_public: bool = _setting(False, _switch, "create the dataset as public if it does not exist")
    flush_labels: int = _setting(
        100, _whole(1, 100_000), "labels that wait to be published before a commit", metavar="N"
    )
    flush_every_s: float = _setting(
        120.0, _positive, "seconds after which labels are published in any case", metavar="SECONDS"
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """The defaults, overruled by variables. Raises SettingsError."""
        values = {}
        for setting in fields(cls):
            for name in (variable(setting.name), setting.metadata.get("also", "")):
                if name in environ:
                    values[setting.name] = _parsed(setting, environ[name], name)
                    break
        return cls(**values)

    def with_flags(self, flags: argparse.Namespace) -> "Settings":
        """These settings, overruled by parsed flags. Raises SettingsError."""
        values = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        if any(getattr(flags, name, None) is not None for name in TARGETS):
            values |= dict.fromkeys(TARGETS)  # a flag beats the variable of the other one too
        for setting in fields(self):
            given = getattr(flags, setting.name, None)
            if given is not None:
                text = ",".join(given) if setting.metadata.get("several") else str(given)
                values[setting.name] = _parsed(setting, text, flag(setting.name))
        return type(self)(**values)

    def __post_init__(self) -> None:
        if None not in (self.target_recall, self.target_fpr):
            names = " and ".join(f"{flag(name)} ({variable(name)})" for name in TARGETS)
            raise SettingsError(f"{names} are both set. Choose the threshold by one of them.")

    @property
    def limits(self) -> "Limits":
        """Of what is uploaded."""
        from chipdemo.files import Limits  # here, since Pillow would slow down --help

        return Limits(file_bytes=self.max_upload_mb * 1_000_000, megapixels=self.max_megapixels)

    @property
    def target(self) -> "Target | None":
        """What the threshold has to promise; None for the threshold of the model."""
        from chipdemo.threshold import FPR, RECALL, Target  # here, since numpy would slow down --help

        for metric, share in ((RECALL, self.target_recall), (FPR, self.target_fpr)):
            if share is not None:
                return Target(metric, share)
        return None

    @property
    def model_sources(self) -> tuple[str, ...]:
        """The checkpoint folders or Hub ids to load: the shipped models unless set."""
        return self.model or tuple(map(str, SHIPPED))

    @property
    def model_source(self) -> str:
        """The first of them, which labels train."""
        return self.model_sources[0]

    @property
    def graphs(self) -> Path:
        """The folder of exported networks, of models without a graph.onnx that fits; beside the journal."""
        return self.journal_path.parent / "graphs"

    @property
    def journal_path(self) -> Path:
        """The file of the journal. Raises SettingsError where its home folder is not known."""
        try:
            return Path(self.journal or DEFAULT_JOURNAL).expanduser().absolute()
        except RuntimeError as error:
            raise SettingsError(
                f"This user has no home folder for the journal. Name its file with {variable('journal')}."
            ) from error


def variable(name: str) -> str:
    """max_megapixels -> CHIPDEMO_MAX_MEGAPIXELS."""
    return PREFIX + name.upper()


def flag(name: str) -> str:
    """max_megapixels -> --max-megapixels."""
    return "--" + name.replace("_", "-")


def command_line() -> argparse.ArgumentParser:
    """A parser with a flag for each setting. Nothing heavy is imported to show its help."""
    parser = argparse.ArgumentParser(
        description="Chip Inspector: inspect images of chips in the browser.",
        epilog="Each flag has a variable, named in its help; a flag beats its variable.",
    )
    add_flags(parser, [setting.name for setting in fields(Settings)])
    return parser


def add_flags(parser: argparse._ActionsContainer, names: Collection[str]) -> None:
    """The flags of these settings, each with its help."""
    for setting in (setting for setting in fields(Settings) if setting.name in names):
        about = setting.metadata
        shown = about.get("shown") or ("none" if setting.default in ("", ()) else setting.default)
        shown = {True: "yes", False: "no"}.get(shown, shown) if setting.type is bool else shown
        text = f"{about['help']} (default: {shown}; {variable(setting.name)})".replace("%", "%%")
        if setting.type is bool:
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag(setting.name), action=action, default=None, help=text)
        else:
            metavar = about.get("metavar", setting.name.upper())
            action = "append" if about.get("several") else "store"
            parser.add_argument(flag(setting.name), metavar=metavar, action=action, default=None, help=text)


def _parsed(setting: Any, text: str, source: str) -> Any:
    """Raises SettingsError with the value found, unless it is secret, and what it has to be."""
    try:
        return setting.metadata["parse"](text)
    except ValueError as error:
        found = "not usable" if setting.metadata.get("secret") else repr(text)
        raise SettingsError(f"{source} is {found}. It has to be {error}.") from None
