"""An ablation: many models, measured on one and the same test part. No torch, no gradio.

training/ablate.py writes it, the Compare tab reads it: a JSON file of the shape of Ablation below,
with "format": 1. Reading is strict: a key too many or too few, a number out of its range or a list
of another length is an AblationError that names the place, e.g. "rows[2].seeds[0].threshold".
"""

import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from chipdemo.errors import AblationError

FORMAT = 1
MAX_BYTES = 16_000_000  # of a file; 20 models with 5 seeds on 656 images need 1.5 million
MAX_TEXT = 400  # letters of a name or a note
MAX_COMMAND = 4_000  # letters of the command
MOST = 1e15  # of any count, time or rate
METRICS = {  # as the file calls them, and as people do; all are fractions
    "accuracy": "accuracy",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "expected_calibration_error": "calibration error",
}
CHANCE = 0.05  # a difference with a smaller p is beyond chance

shown = reprlib.repr  # shortened, so that no file fills the screen
Check = Callable[[Any, str], Any]  # (value, place in the file) -> the value to keep; raises AblationError


def _wrong(place: str, expected: str, found: str) -> AblationError:
    return AblationError(
        f"{place or 'the file'}: expected {expected}; found {found}. Correct it there, or write the "
        "file again with training/ablate.py."
    )


def _text(most: int = MAX_TEXT, least: int = 1) -> Check:
    def check(value: Any, place: str) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most or not value.isprintable():
            raise _wrong(place, f"printable text of {least} to {most} letters", shown(value))
        return value

    return check


def _number(low: float, high: float = MOST, whole: bool = False) -> Check:
    kinds = (int,) if whole else (int, float)
    expected = f"a {'whole ' * whole}number from {low:g}" + (f" to {high:g}" if high < MOST else "")

    def check(value: Any, place: str) -> float:
        if type(value) not in kinds or not low <= value <= high:
            raise _wrong(place, expected, shown(value))
        return value

    return check


def _matching(pattern: str, expected: str) -> Check:
    def check(value: Any, place: str) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _wrong(place, expected, shown(value))
        return value

    return check


def _truth(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(place, "true or false", shown(value))
    return value


def _day(value: Any, place: str) -> str:
    try:
        return date.fromisoformat(
            _matching(r"\d{4}-\d\d-\d\d", "a date, e.g. 2026-11-21")(value, place)
        ).isoformat()
    except ValueError as error:
        raise _wrong(place, "a date of the calendar", shown(value)) from error


def _or_null(check: Check) -> Check:
    return lambda value, place: None if value is None else check(value, place)


def _many(check: Check, least: int = 1, most: float = math.inf) -> Check:
    """A list, read as a tuple."""
    count = f"{least}" if least == most else f"{least} or more" if most == math.inf else f"{least} to {most}"

    def check_all(value: Any, place: str) -> tuple:
        if not isinstance(value, list) or not least <= len(value) <= most:
            found = f"{len(value)} entries" if isinstance(value, list) else shown(value)
            raise _wrong(place, f"a list of {count} entries", found)
        return tuple(check(entry, f"{place}[{index}]") for index, entry in enumerate(value))

    return check_all


def _keyed(checks: Mapping[str, Check]) -> Check:
    """An object with exactly these keys, read as a dict."""

    def check(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(place, f"an object with {', '.join(checks)}", shown(value))
        for name in checks:
            if name not in value:
                raise _wrong(place, f"the key {name}", f"no {name}")
        for name in value:
            if name not in checks:
                raise _wrong(place, f"no keys but {', '.join(checks)}", shown(name))
        return {name: one(value[name], f"{place}.{name}".lstrip(".")) for name, one in checks.items()}

    return check


def _made(kind: type) -> Check:
    """An object with the fields of a dataclass, read as one."""
    keyed = _keyed({one.name: one.metadata["check"] for one in fields(kind)})
    return lambda value, place: kind(**keyed(value, place))


def _read_by(check: Check) -> Any:
    return field(metadata={"check": check})


FRACTION, COUNT, AMOUNT = _number(0, 1), _number(0, whole=True), _number(0)


@dataclass(frozen=True)
class DataUsed:
    """What the rows were trained and measured on; train, validation, test: images."""

    name: str = _read_by(_text())
    license: str = _read_by(_text(least=0))
    part: str = _read_by(_text())
    train: int = _read_by(COUNT)
    validation: int = _read_by(COUNT)
    test: int = _read_by(COUNT)


@dataclass(frozen=True)
class Images:
    """The test part, N images; entry i of every list is the same image.

    sha256: images.content_sha256, 64 hex digits. abnormal: the truth. file: its name in the dataset.
    """

    sha256: tuple[str, ...] = _read_by(_many(_matching("[0-9a-f]{64}", "64 hex digits")))
    abnormal: tuple[bool, ...] = _read_by(_many(_truth))
    file: tuple[str, ...] = _read_by(_many(_text()))


@dataclass(frozen=True)
class SeedResult:
    """One training run on the test part. probabilities: (N,) of being abnormal, calibrated.

    threshold: chosen on validation. confusion: ((tn, fp), (fn, tp)), abnormal being positive.
    """

    seed: int = _read_by(COUNT)
    threshold: float = _read_by(FRACTION)
    probabilities: tuple[float, ...] = _read_by(_many(FRACTION))
    metrics: Mapping[str, float] = _read_by(_keyed(dict.fromkeys(METRICS, FRACTION)))
    confusion: tuple[tuple[int, int], tuple[int, int]] = _read_by(_many(_many(COUNT, 2, 2), 2, 2))


@dataclass(frozen=True)
class Summary:
    """A metric over a row's seeds. sd: None for one seed.

    low, high: 95 % bootstrap interval over the images.
    """

    mean: float = _read_by(FRACTION)
    sd: float | None = _read_by(_or_null(FRACTION))
    low: float = _read_by(FRACTION)
    high: float = _read_by(FRACTION)


@dataclass(frozen=True)
class Difference:
    """A row's metric less its twin's, -1 to 1, with its 95 % interval. test: how p was found."""

    metric: str = _read_by(_matching("|".join(METRICS), f"one of {', '.join(METRICS)}"))
    difference: float = _read_by(_number(-1, 1))
    low: float = _read_by(_number(-1, 1))
    high: float = _read_by(_number(-1, 1))
    p: float = _read_by(FRACTION)
    test: str = _read_by(_text())

    @property
    def beyond_chance(self) -> bool:
        return self.p < CHANCE


@dataclass(frozen=True)
class Row:
    """One model.

    id: unlike any other row's. source: the paper's table it follows. twin: id of the same model
    without what is tried, or None. macs: multiply-adds an image. latency_ms: of one image.
    throughput: images a second in batches of 32. training_seconds: mean of a seed.
    checkpoint: folder relative to the ablation's file, or Hub id, or "".
    """

    id: str = _read_by(_text(80))
    name: str = _read_by(_text(80))
    source: str = _read_by(_text(least=0))
    twin: str | None = _read_by(_or_null(_text(80)))
    starting_weights: str = _read_by(_text())
    precision: str = _read_by(_text(40))
    parameters: int = _read_by(COUNT)
    macs: int = _read_by(COUNT)
    latency_ms: float = _read_by(AMOUNT)
    throughput: float = _read_by(AMOUNT)
    training_seconds: float = _read_by(AMOUNT)
    checkpoint: str = _read_by(_text(least=0))
    seeds: tuple[SeedResult, ...] = _read_by(_many(_made(SeedResult)))
    summary: Mapping[str, Summary] = _read_by(_keyed(dict.fromkeys(METRICS, _made(Summary))))
    versus_twin: Difference | None = _read_by(_or_null(_made(Difference)))

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(N,) mean over the seeds."""
        return np.mean([seed.probabilities for seed in self.seeds], axis=0)

    @cached_property
    def stopped(self) -> np.ndarray:
        """(N,) bool: what half of the seeds or more call abnormal, each at its own threshold."""
        return np.mean([np.array(s.probabilities) >= s.threshold for s in self.seeds], axis=0) >= 0.5

    @property
    def confusion(self) -> np.ndarray:
        """(2, 2) images, mean over the seeds: [[tn, fp], [fn, tp]]."""
        return np.mean([seed.confusion for seed in self.seeds], axis=0)


@dataclass(frozen=True)
class Ablation:
    """Everything an ablation.json holds. date: of the measurement. command: what writes it again."""

    command: str = _read_by(_text(MAX_COMMAND))
    date: str = _read_by(_day)
    machine: str = _read_by(_text())
    data: DataUsed = _read_by(_made(DataUsed))
    images: Images = _read_by(_made(Images))
    rows: tuple[Row, ...] = _read_by(_many(_made(Row), most=100))

    @cached_property
    def abnormal(self) -> np.ndarray:
        """(N,) bool, the truth."""
        return np.array(self.images.abnormal)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


OLD_KEYS = {"licence": "license", "photographs": "images"}  # before, and now


def migrated(content: Any) -> Any:
    """The content of an ablation.json of before with the keys of today."""
    if isinstance(content, dict):
        return {OLD_KEYS.get(key, key): migrated(value) for key, value in content.items()}
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return [migrated(value) for value in content]
    return content


def ablation_of(content: Any) -> Ablation:
    """The ablation in parsed JSON. Raises AblationError that names the first place it cannot take."""
    content = migrated(content)
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT or isinstance(found, bool):
        raise AblationError(
            f'Expected an ablation, a JSON object with "format": {FORMAT}; found format '
            f"{reprlib.repr(found)}. Choose a file that training/ablate.py wrote, or update Chip Inspector."
        )
    ablation = _made(Ablation)({key: value for key, value in content.items() if key != "format"}, "")
    _require_agreement(ablation)
    return ablation


def _require_agreement(ablation: Ablation) -> None:
    """What no single place shows: lengths, counts, names and twins fit each other."""
    truth = ablation.images.abnormal
    count, abnormal = len(truth), sum(truth)
    for name in ("sha256", "file"):
        _require_length(getattr(ablation.images, name), count, f"images.{name}")
    if abnormal in (0, count):
        raise _wrong("images.abnormal", "normal and abnormal images", f"{abnormal} abnormal of {count}")
    if ablation.data.test != count:
        raise _wrong("data.test", f"{count}, as there are images", shown(ablation.data.test))
    names = [row.id for row in ablation.rows]
    for index, row in enumerate(ablation.rows):
        place = f"rows[{index}]"
        if names.index(row.id) != index:
            raise _wrong(f"{place}.id", "a name that no other row has", shown(row.id))
        if row.twin is not None and (row.twin not in names or row.twin == row.id):
            raise _wrong(f"{place}.twin", "null or the id of another row", shown(row.twin))
        if row.versus_twin and row.twin is None:
            raise _wrong(
                f"{place}.versus_twin", "null where there is no twin", shown(row.versus_twin.difference)
            )
        for name, summary in row.summary.items():
            if (summary.sd is None) != (len(row.seeds) == 1):
                expected = "null for one seed, a number for more"
                raise _wrong(f"{place}.summary.{name}.sd", expected, shown(summary.sd))
        for number, seed in enumerate(row.seeds):
            _require_length(seed.probabilities, count, f"{place}.seeds[{number}].probabilities")
            if [sum(counts) for counts in seed.confusion] != [count - abnormal, abnormal]:
                expected = f"sums of {count - abnormal} normal and {abnormal} abnormal images"
                raise _wrong(f"{place}.seeds[{number}].confusion", expected, shown(seed.confusion))


def _require_length(values: Sequence, count: int, place: str) -> None:
    if len(values) != count:
        raise _wrong(place, f"{count} entries, one an image", f"{len(values)} entries")


def read_ablation(path: Path) -> Ablation:
    """Read an ablation.json. Raises AblationError, which names the file but no folder."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise AblationError(
                f"Expected an ablation of at most {MAX_BYTES:,} bytes; {path.name} has {size:,}. Choose a "
                "file that training/ablate.py wrote."
            )
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise AblationError(f"{path.name} could not be read ({error.strerror}). Choose it again.") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested without end
        raise AblationError(
            f"Expected {path.name} to be JSON; it is not ({error}). Choose a file that training/ablate.py "
            "wrote."
        ) from error
    return ablation_of(content)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def write_ablation(path: Path, ablation: Ablation) -> None:
    """Write it with one line a row; read_ablation gives back an equal one.

    Raises AblationError, and writes nothing, where read_ablation would refuse it.
    """
    content = ablation.to_json()
    rows = [json.dumps(row, ensure_ascii=False) for row in content.pop("rows")]
    head = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    text = "{\n" + ",\n".join(head) + ',\n"rows": [\n' + ",\n".join(rows) + "\n]\n}\n"
    ablation_of(json.loads(text))
    path.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Published:
    """A row of a paper's table; fractions."""

    name: str
    accuracy: float
    recall: float
    precision: float


PUBLISHED_SOURCE = "Kim et al., Table 1, on their own 1,142 images, which are private"
PUBLISHED = (
    Published("MobileNetV2", 0.70, 0.72, 0.68),
    Published("ResNet-50", 0.82, 0.84, 0.79),
    Published("MobileNetV2 + CBAM", 0.84, 0.86, 0.82),
    Published("ResNet-50 + CBAM", 0.96, 1.00, 0.90),
)
