"""Are near-duplicates found, and does a test part without them say the truth?

    python benchmarks/near_duplicates.py --transistors FOLDER --screws FOLDER

ELPV and the transistors of MVTec AD, each image entered four times: under other light, turned, cropped by
5 %, and as JPEG of quality 60. How many pairs of the same image are found, and how many of those found are
such pairs? Then a logistic regression on the pooled features of the starting backbone is trained on 70 %
and tested on 20 %, of several divisions: of the images as they are, and of the four times as many, in
groups and without. The images as they are tell how many near-duplicates are found where few are expected.
The settings of chipdemo/near_duplicates.py were chosen on ELPV and the screws.
"""

import argparse
import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from chipdemo.near_duplicates import near_duplicates, small_gray
from chipdemo.splits import TEST, TRAIN, split_by_hash
from chipdemo.vision.anomaly.features import starting_backbone
from chipdemo.vision.checkpoint import write_json
from chipdemo.vision.transforms import normalize, pixels_of
from training.measure import auroc
from training.sources import read_elpv

REPORT = Path(__file__).with_suffix(".json")
DIVISIONS = 10
FRACTIONS = (0.7, 0.1, 0.2)
C = 1e-3  # of scikit-learn's LogisticRegression


def relit(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """With another gamma, contrast and brightness."""
    gamma, contrast, brightness = (
        np.exp(generator.uniform(-0.5, 0.5)),
        *generator.uniform((0.7, -0.12), (1.3, 0.12)),
    )
    levels = np.clip(((np.arange(256) / 255) ** gamma - 0.5) * contrast + 0.5 + brightness, 0, 1)
    return image.point([round(255 * level) for level in levels] * len(image.getbands()))


def turned(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """By one of the seven right-angle turns and mirror images."""
    return image.transpose(Image.Transpose(int(generator.integers(7))))


def cropped(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """95 % of each side, anywhere."""
    (width, height), kept = image.size, [round(0.95 * side) for side in image.size]
    x, y = (int(generator.integers(side - of + 1)) for side, of in zip((width, height), kept))
    return image.crop((x, y, x + kept[0], y + kept[1]))


def unchanged(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    return image


def compressed(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """As JPEG of quality 60."""
    image.save(stream := BytesIO(), "JPEG", quality=60)
    return Image.open(stream)


CHANGES = (relit, turned, cropped, compressed)


@dataclass(frozen=True)
class Entered:
    """N entered images; row i of everything is the same one.

    image: number of the image that it is made from. features: (N, C), pooled. groups: of near-duplicates, as
    found in so many seconds.
    """

    image: list[int]
    features: np.ndarray
    groups: list[int]
    seconds: float


def enter(paths: Iterable[Path], changes: Sequence[Callable]) -> Entered:
    """Each image once under each change."""
    backbone, numbers, small, features = starting_backbone(), [], [], []
    net, spec = backbone.net, backbone.spec
    for number, path in enumerate(paths):
        image, generator = Image.open(path).convert("RGB"), np.random.default_rng(number)
        changed = [np.asarray(change(image, generator).convert("RGB")) for change in changes]
        pixels = np.stack(
            [pixels_of(Image.fromarray(one), spec.image_size, spec.interpolation) for one in changed]
        )
        with torch.inference_mode():
            output = net(normalize(torch.from_numpy(pixels), spec.mean, spec.std))
        features.append(output.embedding.numpy())
        small += map(small_gray, changed)
        numbers += [number] * len(changes)
    started = perf_counter()
    groups = near_duplicates(np.stack(small)).tolist()
    return Entered(numbers, np.concatenate(features), groups, perf_counter() - started)


def pairs_in(labels: Iterable) -> int:
    return sum(count * (count - 1) // 2 for count in Counter(labels).values())


def agreement(entered: Entered) -> dict[str, float]:
    """Precision, recall and F1 of the pairs in one group, against the pairs of one image."""
    both = pairs_in(zip(entered.groups, entered.image))
    found, wanted = pairs_in(entered.groups), pairs_in(entered.image)
    return {"precision": both / found, "recall": both / wanted, "f1": 2 * both / (found + wanted)}


def aurocs(entered: Entered, abnormal: np.ndarray, groups: list | None) -> list[float]:
    """Of the test part of each division. abnormal: (images,) bool. groups: None for none."""
    names, truth = [f"{row:06}" for row in range(len(entered.image))], abnormal[entered.image]
    strata = dict(zip(names, map(str, truth)))
    grouped = {name: str(group) for name, group in zip(names, groups)} if groups else None
    values = []
    for seed in range(DIVISIONS):
        split = split_by_hash(strata, FRACTIONS, seed, groups=grouped)
        train, test = ([int(name) for name in split[part]] for part in (TRAIN, TEST))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))
        model.fit(entered.features[train], truth[train])
        values.append(auroc(model.decision_function(entered.features[test]), truth[test]))
    return values


def measured(name: str, paths: list[Path], abnormal: np.ndarray) -> dict:
    clean, four = enter(paths, [unchanged]), enter(paths, CHANGES)
    sizes = Counter(clean.groups).values()
    row = {
        "data": name,
        "images": len(paths),
        "grouped_as_they_are": sum(size for size in sizes if size > 1),
        "seconds": [clean.seconds, four.seconds],
        **agreement(four),
        "auroc": {
            "as they are": aurocs(clean, abnormal, clean.groups),
            "four times, in groups": aurocs(four, abnormal, four.groups),
            "four times, groups known": aurocs(four, abnormal, four.image),
            "four times, groups off": aurocs(four, abnormal, None),
        },
    }
    print(
        f"{name}: {row['grouped_as_they_are']} of {len(paths):,} images grouped as they are; four times "
        f"each: precision {row['precision']:.3f}, recall {row['recall']:.3f}, F1 {row['f1']:.3f}; "
        f"{four.seconds:.0f} s",
        *(
            f"AUROC {way}: {np.mean(v):.4f} ± {np.std(v, ddof=1) / len(v) ** 0.5:.4f}"
            for way, v in row["auroc"].items()
        ),
        sep="\n  ",
        flush=True,
    )
    return row


def mvtec(folder: Path) -> tuple[list[Path], np.ndarray]:
    paths = sorted(path for path in folder.glob("t*/*/*") if path.suffix in (".png", ".jpg"))
    return paths, np.array([path.parent.name != "good" for path in paths])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transistors", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--screws", type=Path, required=True, help="likewise")
    options = parser.parse_args()
    samples = read_elpv().samples
    sets = {
        "transistors": mvtec(options.transistors),
        "screws": mvtec(options.screws),
        "ELPV": ([s.path for s in samples], np.array([s.label == "abnormal" for s in samples])),
    }
    report = {
        "command": "python benchmarks/near_duplicates.py --transistors FOLDER --screws FOLDER",
        "date": datetime.date.today().isoformat(),
        "divisions": DIVISIONS,
        "starting_weights": starting_backbone().starting_weights,
        "rows": [measured(name, paths, abnormal) for name, (paths, abnormal) in sets.items()],
    }
    write_json(REPORT, report)


if __name__ == "__main__":
    main()
