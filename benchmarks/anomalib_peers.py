"""Inverse feature matching beside anomalib's PatchCore and PaDiM: one machine, one run, the same backbone.

    python -m venv PEERS
    PEERS/bin/pip install -r requirements.txt anomalib
    PEERS/bin/python benchmarks/anomalib_peers.py --data FOLDER/transistor FOLDER/screw

FOLDER and the versions as for benchmarks/teaching.py. anomalib has an environment of its own because nothing
else here needs it. Its torch models get our backbone's weights and our pixels, and keep their defaults
otherwise: PatchCore with layers of stride 8 and 16, PaDiM of stride 4, 8 and 16 with 100 features. All maps
are judged by the same code. The models have no threshold, so no rates are compared.

PatchCore keeps 10 % of the patches, 21,811 of 213 images, chosen greedily, which takes more than an hour.
So its greedy choice is run for 1 %, and the time for 10 % is that of a step times the number of steps (a step
costs the same however many patches are chosen already). The accuracy of a bank of 10 %, and the time of one
image with it, are measured with patches drawn at random.
"""

import chipdemo  # noqa: F401, I001 - before numpy: it sets the threads of OpenBLAS

import argparse
import datetime
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from PIL import Image

from benchmarks.teaching import TIMED, VERSIONS, Part, enlarged, measure, read_part
from chipdemo.images import read_image
from chipdemo.vision.anomaly.features import Backbone
from chipdemo.vision.anomaly.teacher import NetworkTeacher
from chipdemo.vision.checkpoint import write_json
from chipdemo.vision.transforms import normalize, pixels_of
from training.localization import aupro, pixel_auroc
from training.measure import auroc

REPORT = Path(__file__).with_suffix(".json")
BATCH = 32  # images, anomalib's default
RATIO, LESS = 0.1, 0.01  # of the patches: PatchCore's default, and what is chosen greedily here
PADIM_FEATURES = 100  # anomalib's default with ResNet-18; it has none for other small backbones
Model = PatchcoreModel | PadimModel


def prepared(image: Image.Image, backbone: Backbone) -> torch.Tensor:
    """(1, 3, size, size), what our own network gets too."""
    spec = backbone.spec
    pixels = pixels_of(image, spec.image_size, spec.interpolation)
    return normalize(torch.from_numpy(pixels[None].copy()), spec.mean, spec.std)


def with_weights(model: Model, backbone: Backbone) -> Model:
    """Our backbone's, in anomalib's extractor."""
    extractor, tensors = model.feature_extractor.feature_extractor, backbone.net.backbone.state_dict()
    extractor.load_state_dict({name: tensors[name] for name in extractor.state_dict()})
    return model


def layers_of(backbone: Backbone, strides: Sequence[int]) -> list[str]:
    return [info["module"] for info in backbone.net.backbone.feature_info if info["reduction"] in strides]


def show(model: Model, paths: list[Path], backbone: Backbone) -> float:
    """Pass the good images through a model; seconds."""
    started = perf_counter()
    model.train()
    for first in range(0, len(paths), BATCH):
        images = [read_image(path).image for path in paths[first : first + BATCH]]
        model(torch.cat([prepared(image, backbone) for image in images]))
    return perf_counter() - started


@torch.inference_mode()
def judged(model: Model, images: list[Image.Image], masks: np.ndarray, backbone: Backbone) -> dict:
    """The figures that teaching.measure gives of ours."""
    model.eval()
    maps, scores, times = [], [], []
    for image in images:
        started = perf_counter()
        output = model(prepared(image, backbone))
        times.append(1000 * (perf_counter() - started))
        maps.append(output.anomaly_map[0, 0].numpy())
        scores.append(output.pred_score.item())
    heat = enlarged(maps)
    return {
        "image_auroc": round(auroc(np.array(scores), masks.any((1, 2))), 4),
        "pixel_auroc": round(pixel_auroc(heat, masks), 4),
        "aupro": round(aupro(heat, masks), 4),
        "one_image_ms": round(float(np.median(times[1 : TIMED + 1])), 1),
    }


def megabytes(*tensors: torch.Tensor) -> float:
    return round(sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6, 2)


def compare(part: Part) -> dict[str, dict]:
    """The rows of one version of a part."""
    teacher = NetworkTeacher()
    backbone, masks = teacher.backbone, part.masks
    good, images = list(part.taught), [read_image(path).image for path in part.judged]
    ours = measure(part, teacher)
    kept = ("image_auroc", "pixel_auroc", "aupro", "one_image_ms")
    rows = {"ours": {k: ours[k] for k in kept} | {"seconds_to_fit": ours["seconds_to_teach"]}}
    print(rows, flush=True)

    torch.manual_seed(0)
    timm_name = backbone.spec.backbone
    padim = PadimModel(timm_name, layers_of(backbone, (4, 8, 16)), False, PADIM_FEATURES)
    seconds = show(with_weights(padim, backbone), good, backbone)
    started = perf_counter()
    padim.fit()
    rows["PaDiM"] = judged(padim, images, masks, backbone) | {
        "memory_mb": megabytes(padim.gaussian.mean, padim.gaussian.inv_covariance),
        "seconds_to_fit": round(seconds + perf_counter() - started, 1),
    }
    print(rows["PaDiM"], flush=True)

    patchcore = with_weights(PatchcoreModel(layers_of(backbone, (8, 16)), timm_name, False), backbone)
    seconds = show(patchcore, good, backbone)
    patches = torch.vstack(patchcore.embedding_store)
    patchcore.memory_bank = patches[torch.randperm(len(patches))[: int(RATIO * len(patches))]]
    at_random = judged(patchcore, images, masks, backbone) | {"memory_mb": megabytes(patchcore.memory_bank)}
    print(at_random, flush=True)
    patchcore.embedding_store = [patches]
    started = perf_counter()
    patchcore.subsample_embedding(LESS)
    greedy = perf_counter() - started
    step = greedy / len(patchcore.memory_bank)
    rows["PatchCore, 1 % chosen greedily"] = judged(patchcore, images, masks, backbone) | {
        "memory_mb": megabytes(patchcore.memory_bank),
        "seconds_to_fit": round(seconds + greedy, 1),
    }
    rows["PatchCore, 10 %"] = at_random | {
        "seconds_to_fit": round(seconds + step * int(RATIO * len(patches)), 1),
        "note": "patches drawn at random; seconds_to_fit is extrapolated to a greedy choice from the row of "
        f"1 %, {step:.3f} s a patch",
    }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--versions", nargs="+", choices=VERSIONS, default=["as it is"])
    options = parser.parse_args()
    report = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    for root in options.data:
        for version in options.versions:
            with tempfile.TemporaryDirectory() as folder:
                rows = compare(VERSIONS[version](read_part(root), Path(folder)))
            report[f"{root.name}, {version}"] = {
                "date": datetime.date.today().isoformat(),
                "threads": torch.get_num_threads(),
                "rows": rows,
            }
            write_json(REPORT, report)


if __name__ == "__main__":
    main()
