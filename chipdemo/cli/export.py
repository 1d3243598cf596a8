"""python -m chipdemo export: a model as one graph that needs no PyTorch."""

import argparse
from itertools import islice
from pathlib import Path

from chipdemo.cli import add_command
from chipdemo.settings import Settings

GRAPHS = ("onnx", "openvino")
CALIBRATING = 300  # images that the steps of an 8-bit network are chosen by


def add_to(commands: argparse._SubParsersAction) -> None:
    about = "write a model as one graph that needs no PyTorch: RGB pixels in, probability and heat out"
    take = add_command(commands, "export", export, about, "model")
    take.add_argument("--format", choices=GRAPHS, default=GRAPHS[0], help="default: %(default)s")
    take.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder")
    take.add_argument(
        "--int8",
        nargs="+",
        default=[],
        metavar="PATH",
        help="in 8 bits, whose steps are chosen by these images: some hundred of the kind it will see; "
        "faster on most processors, and less exact",
    )


def export(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.batch.run import read
    from chipdemo.batch.sources import listed
    from chipdemo.vision.runtimes.export import save_graph
    from chipdemo.vision.transforms import pixels_of
    from chipdemo.vision.weights import load_checkpoint

    net, spec, info = load_checkpoint(settings.model_source)
    seen = listed(flags.int8) if flags.int8 else ()
    every = max(len(seen) // CALIBRATING, 1)  # from all over the folder
    images = [
        pixels_of(read(one).image, spec.image_size, spec.interpolation)
        for one in islice(seen, 0, every * CALIBRATING, every)
    ]
    for path in save_graph(net, spec, info, flags.out, flags.format, images):
        print(f"wrote {path}")
