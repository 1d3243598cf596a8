"""The next model of one that was taught from good images: memory and head, without training a network.

Images labeled normal widen its memory bank, and those labeled abnormal set its threshold and, where there are
enough, a head. See chipdemo/vision/anomaly/continuing.py.
"""

import shlex
from functools import partial
from pathlib import Path

from tqdm import tqdm

from chipdemo.comparison import comparison_of
from chipdemo.files import DEFAULT_LIMITS, Found
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.splits import TEST, TRAIN, VAL
from chipdemo.teaching import silent
from chipdemo.vision.anomaly.continuing import ContinuingTeacher
from chipdemo.vision.checkpoint import METRICS, SPLIT, read_json, read_metrics, write_json
from chipdemo.vision.predictor import load_model
from chipdemo.vision.transforms import pixels_of
from training.checkpoint import measured
from training.comparison import answers_of, compare_with, rows_to_compare, table
from training.data import Sample
from training.divided import load_divided
from training.in_use import InUse
from training.options import Options, changed
from training.sources import read_data


def continue_taught(options: Options, in_use: InUse, folder: Path) -> None:
    """Write the next checkpoint, and compare it with the model in use on the test split.

    Raises DataError where too few images are labeled normal.
    """
    data = read_data(options.data, options.group_pattern)
    split_file = Path(options.split) if options.split else None
    to_pixels = partial(pixels_of, size=in_use.spec.image_size, interpolation=in_use.spec.interpolation)
    images = load_divided(
        data,
        split_file,
        to_pixels,
        partial(tqdm, disable=None, leave=False),
        (),
        in_use.split,
        options.groups,
    )
    rows = rows_to_compare(in_use, images)
    learned = [*images.samples[TRAIN], *images.samples[VAL]]
    goods, defects = (found(learned, label) for label in (NORMAL, ABNORMAL))
    teacher = ContinuingTeacher(str(in_use.folder))
    draft = teacher.draft(goods, defects, DEFAULT_LIMITS, silent)
    model = teacher.save(folder, draft, ())
    print(f"memory bank: {len(model.images):,} images | head: {'yes' if model.head else 'no'}", flush=True)

    answers = answers_of(load_model(str(folder)), images.samples[TEST])
    metrics = read_metrics(folder) | {
        "data": f"{in_use.info.data} + {data.name}",
        "test": measured(images, TEST, answers.probabilities, answers.threshold),
        "comparison": compare_with(in_use, answers, images),
        "training": {
            "command": shlex.join(["python", "training/train.py", *changed(options)]),
            "options": {"data": options.data},
            "division": images.division,
            "earlier_data": list(in_use.data),
            "compared": len(rows),
        },
    }
    write_json(folder / METRICS, metrics)
    write_json(folder / SPLIT, read_json(folder / SPLIT) | {"test": list(images.sha256[TEST])})
    print(table(metrics["comparison"]), comparison_of(metrics).text, sep="\n", flush=True)


def found(samples: list[Sample], label: str) -> list[Found]:
    """The files of samples with this label, as teaching takes them."""
    return [Found(one.path.name, one.content or one.path) for one in samples if one.label == label]
