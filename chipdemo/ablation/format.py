"""An ablation: many models, measured on one and the same test split. No torch, no gradio.

training/ablate.py writes it, the Compare tab reads it: a JSON file of the shape of Ablation below,
with "format": 2. Reading is strict, and an AblationError names the first value that is wrong, e.g.
"rows[2].seeds[0].threshold". Files of format 1 are read as well.
"""

import json
import re
import reprlib
from dataclasses import asdict
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from chipdemo.errors import AblationError

FORMAT = 2
MAX_BYTES = 16_000_000  # of a file; 20 models with 5 seeds on 656 images need 1.5 million
Metric = Literal[
    "accuracy", "recall", "precision", "f1", "auroc", "average_precision", "expected_calibration_error"
]
METRICS: dict[Metric, str] = {  # as the screen calls them; all are fractions
    "accuracy": "accuracy",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "expected_calibration_error": "calibration error",
}
SIGNIFICANCE = 0.05  # a difference with a smaller p is significant
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def wrong(message: str, found: Any, place: str = "") -> PydanticCustomError:
    """For validators. place: within the value that is validated."""
    return PydanticCustomError("wrong", message, {"found": found, "place": place})


def printable(text: str) -> str:
    if not text.isprintable():
        raise wrong("Input should be printable text on one line", text)
    return text


def calendar_day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise wrong("Input should be a day of the calendar", text) from error


def all_metrics(by_name: dict[Metric, Any]) -> dict[Metric, Any]:
    if missing := [name for name in get_args(Metric) if name not in by_name]:
        raise wrong(f"Input should have the key {missing[0]}", list(by_name))
    return by_name


MaybeText = Annotated[str, Field(max_length=400), AfterValidator(printable)]
Text = Annotated[MaybeText, Field(min_length=1)]
Name = Annotated[Text, Field(max_length=80)]
Command = Annotated[str, Field(min_length=1, max_length=4_000), AfterValidator(printable)]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$"), AfterValidator(calendar_day)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
SignedFraction = Annotated[float, Field(ge=-1, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**15)]


@dataclass(frozen=True, config=STRICT)
class DataUsed:
    """What the rows were trained and measured on. split: the test split in words. The counts: images."""

    name: Text
    license: MaybeText
    split: Text
    train: Count
    validation: Count
    test: Count


@dataclass(frozen=True, config=STRICT)
class Images:
    """The test split, N images; entry i of every list is the same image.

    sha256: images.content_sha256, 64 hex digits. abnormal: the truth. file: its name in the dataset.
    """

    sha256: tuple[Sha256, ...]
    abnormal: tuple[bool, ...]
    file: tuple[Text, ...]

    @model_validator(mode="after")
    def check_lengths(self) -> "Images":
        count = len(self.abnormal)
        for name, values in (("sha256", self.sha256), ("file", self.file)):
            if len(values) != count:
                raise wrong(f"Input should have {count} entries, as abnormal has", len(values), name)
        if sum(self.abnormal) in (0, count):
            raise wrong("Input should have normal and abnormal images", sum(self.abnormal), "abnormal")
        return self


@dataclass(frozen=True, config=STRICT)
class SeedResult:
    """One training run on the test split. probabilities: (N,) of being abnormal, calibrated.

    threshold: chosen on validation. confusion: ((tn, fp), (fn, tp)), abnormal being positive.
    """

    seed: Count
    threshold: Fraction
    probabilities: tuple[Fraction, ...]
    metrics: Annotated[dict[Metric, Fraction], AfterValidator(all_metrics)]
    confusion: tuple[tuple[Count, Count], tuple[Count, Count]]


@dataclass(frozen=True, config=STRICT)
class Summary:
    """A metric over a row's seeds. sd: None for one seed.

    low, high: 95 % bootstrap interval over the images.
    """

    mean: Fraction
    sd: Fraction | None
    low: Fraction
    high: Fraction


@dataclass(frozen=True, config=STRICT)
class Difference:
    """A row's metric less its baseline's, -1 to 1, with its 95 % interval. test: how p was found."""

    metric: Metric
    difference: SignedFraction
    low: SignedFraction
    high: SignedFraction
    p: Fraction
    test: Text

    @property
    def significant(self) -> bool:
        return self.p < SIGNIFICANCE


@dataclass(frozen=True, config=STRICT)
class Row:
    """One model.

    id: unlike any other row's. source: the paper's table it follows. baseline: id of the same model
    without what is tried, or None. macs: multiply-adds an image. latency_ms: of one image.
    throughput: images a second in batches of 32. training_seconds: mean of a seed.
    checkpoint: folder relative to the ablation's file, or Hub id, or "".
    """

    id: Name
    name: Name
    source: MaybeText
    baseline: Name | None
    starting_weights: Text
    precision: Name
    parameters: Count
    macs: Count
    latency_ms: Amount
    throughput: Amount
    training_seconds: Amount
    checkpoint: MaybeText
    seeds: Annotated[tuple[SeedResult, ...], Field(min_length=1)]
    summary: Annotated[dict[Metric, Summary], AfterValidator(all_metrics)]
    versus_baseline: Difference | None

    @model_validator(mode="after")
    def check_baseline_and_deviations(self) -> "Row":
        if self.baseline == self.id:
            raise wrong("Input should be the id of another row, or null", self.baseline, "baseline")
        if self.versus_baseline and self.baseline is None:
            found = self.versus_baseline.difference
            raise wrong("Input should be null for a row without a baseline", found, "versus_baseline")
        expected = "null for one seed" if len(self.seeds) == 1 else "a number for several seeds"
        for name, summary in self.summary.items():
            if (summary.sd is None) != (len(self.seeds) == 1):
                raise wrong(f"Input should be {expected}", summary.sd, f"summary.{name}.sd")
        return self

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(N,) mean over the seeds."""
        return np.mean([seed.probabilities for seed in self.seeds], axis=0)

    @cached_property
    def flagged(self) -> np.ndarray:
        """(N,) bool: what half of the seeds or more call abnormal, each at its own threshold."""
        return np.mean([np.array(s.probabilities) >= s.threshold for s in self.seeds], axis=0) >= 0.5

    @property
    def confusion(self) -> np.ndarray:
        """(2, 2) images, mean over the seeds: [[tn, fp], [fn, tp]]."""
        return np.mean([seed.confusion for seed in self.seeds], axis=0)


@dataclass(frozen=True, config=STRICT)
class Ablation:
    """Everything an ablation.json holds. date: of the measurement. command: what writes it again."""

    command: Command
    date: Day
    machine: Text
    data: DataUsed
    images: Images
    rows: Annotated[tuple[Row, ...], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def check_rows_against_images(self) -> "Ablation":
        count, abnormal = len(self.images.abnormal), sum(self.images.abnormal)
        if self.data.test != count:
            raise wrong(f"Input should be {count}, the number of images", self.data.test, "data.test")
        ids = [row.id for row in self.rows]
        for index, row in enumerate(self.rows):
            if ids.index(row.id) != index:
                raise wrong("Input should differ from the other rows' ids", row.id, f"rows[{index}].id")
            if row.baseline is not None and row.baseline not in ids:
                place = f"rows[{index}].baseline"
                raise wrong("Input should be the id of another row, or null", row.baseline, place)
            for number, seed in enumerate(row.seeds):
                place = f"rows[{index}].seeds[{number}]"
                if (found := len(seed.probabilities)) != count:
                    message = f"Input should have {count} entries, one for each image"
                    raise wrong(message, found, f"{place}.probabilities")
                if [sum(counts) for counts in seed.confusion] != [count - abnormal, abnormal]:
                    message = f"Input should sum to {count - abnormal} normal and {abnormal} abnormal images"
                    raise wrong(message, seed.confusion, f"{place}.confusion")
        return self

    @cached_property
    def abnormal(self) -> np.ndarray:
        """(N,) bool, the truth."""
        return np.array(self.images.abnormal)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


ABLATION = TypeAdapter(Ablation)


def ablation_of(content: Any) -> Ablation:
    """The ablation in parsed JSON. Raises AblationError that names the first value that is wrong."""
    found = content.get("format") if isinstance(content, dict) else None
    if found == 1 and found is not True:
        content, found = migrated(content), FORMAT
    if found != FORMAT:
        raise AblationError(
            f'This is no ablation of "format": {FORMAT} (found {reprlib.repr(found)}). Choose a file that '
            "training/ablate.py wrote."
        )
    fields = {key: value for key, value in content.items() if key != "format"}
    try:
        # As text, since strict validation of Python values takes no list for a tuple
        return ABLATION.validate_json(json.dumps(fields))
    except ValidationError as error:
        raise AblationError(first_fault(error)) from error


def first_fault(error: ValidationError) -> str:
    """E.g. "rows[2].seeds[0].threshold should be less than or equal to 1 (found 1.01)."."""
    fault = error.errors(include_url=False)[0]
    context = fault.get("ctx", {})
    steps = [step for step in fault["loc"] if step != "[key]"]
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    place = f"{place}.{context.get('place', '')}".strip(".") or "The file"
    found = reprlib.repr(context.get("found", fault["input"]))  # shortened, so that no file fills the screen
    if fault["type"] == "missing":
        return f"{place} is missing."
    if fault["type"] == "unexpected_keyword_argument":
        return f"{place[:120]} is not a key of an ablation."
    message = re.sub("^(Input|String|Tuple) ", "", fault["msg"])
    return f"{place[:120]} {message} (found {found})."


OLD_KEYS = {  # of format 1
    "photographs": "images",
    "licence": "license",
    "part": "split",
    "twin": "baseline",
    "versus_twin": "versus_baseline",
}
OLD_WORDS = {"photographs": "images", ", test,": ", test split,", "training part": "training split"}
WORDED = ("split", "test", "starting_weights")  # keys whose text says what was measured, and on what


def migrated(content: Any) -> Any:
    """The content of a file of format 1 with the keys and the words of format 2."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return [migrated(value) for value in content]
    if not isinstance(content, dict):
        return content
    content = {OLD_KEYS.get(key, key): migrated(value) for key, value in content.items()}
    for key in WORDED:
        if isinstance(content.get(key), str):
            for old, new in OLD_WORDS.items():
                content[key] = content[key].replace(old, new)
    return content


def read_ablation(path: Path) -> Ablation:
    """Read an ablation.json. Raises AblationError, which names the file but no folder."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise AblationError(f"{path.name} has {size:,} bytes; an ablation has at most {MAX_BYTES:,}.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AblationError(f"{path.name} could not be read ({error.strerror}). Choose it again.") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested without end
        raise AblationError(f"{path.name} is not a JSON file ({error}).") from error
    return ablation_of(content)


def write_ablation(path: Path, ablation: Ablation) -> None:
    """Write it with one line a row; read_ablation gives back an equal one."""
    content = ablation.to_json()
    rows = [json.dumps(row, ensure_ascii=False) for row in content.pop("rows")]
    head = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    text = "{\n" + ",\n".join(head) + ',\n"rows": [\n' + ",\n".join(rows) + "\n]\n}\n"
    path.write_text(text, encoding="utf-8")


class Published(NamedTuple):
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
