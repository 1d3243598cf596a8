"""python -m chipdemo export: a checkpoint -> one graph that runs without PyTorch, or its graph.onnx."""

import argparse
from dataclasses import replace
from itertools import islice
from pathlib import Path

from chipdemo.cli import add_command
from chipdemo.settings import TARGETS, Settings

GRAPHS = ("onnx", "openvino")
CALIBRATION_IMAGES = 300  # for the steps of an 8-bit network


def add_to(commands: argparse._SubParsersAction) -> None:
    about = "write a model as one graph that runs without PyTorch: RGB pixels in, probability and heatmap out"
    take = add_command(commands, "export", export, about, "model", *TARGETS)
    take.add_argument("--format", choices=GRAPHS, default=GRAPHS[0], help="default: %(default)s")
    to = take.add_mutually_exclusive_group(required=True)
    to.add_argument("--out", type=Path, metavar="DIR", help="folder to create")
    to.add_argument(
        "--in-checkpoint",
        action="store_true",
        help="write graph.onnx into the checkpoint folder, with which the app starts without PyTorch; "
        "training and teaching write it too",
    )
    take.add_argument(
        "--int8",
        nargs="+",
        default=[],
        metavar="PATH",
        help="write 8-bit weights and activations, calibrated on these images: a few hundred of the kind "
        "that the model will see; faster on most processors, and less exact",
    )


def export(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.batch.run import content_of_image
    from chipdemo.batch.sources import find_images
    from chipdemo.images import read_image
    from chipdemo.vision.checkpoint import find_checkpoint
    from chipdemo.vision.revisions import newest_accepted
    from chipdemo.vision.runtimes.export import save_graph, write_graph
    from chipdemo.vision.transforms import pixels_of
    from chipdemo.vision.weights import load_checkpoint

    if flags.in_checkpoint:
        print(f"wrote {write_graph(find_checkpoint(settings.model_source))}")
        return
    net, spec, info = load_checkpoint(newest_accepted(settings.model_source).source)
    if settings.target:
        spec = replace(spec, threshold=info.validation.threshold_for(settings.target))
        print(info.validation.meaning(spec.threshold, settings.target))
    found = find_images(flags.int8) if flags.int8 else ()
    every = max(len(found) // CALIBRATION_IMAGES, 1)  # evenly spread over the folder
    images = [
        pixels_of(read_image(content_of_image(one)).image, spec.image_size, spec.interpolation)
        for one in islice(found, 0, every * CALIBRATION_IMAGES, every)
    ]
    for path in save_graph(net, spec, info, flags.out, flags.format, images):
        print(f"wrote {path}")
