"""The options of training/train.py and their defaults; the command line is made from them."""

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path

from chipdemo.errors import DataError
from chipdemo.vision.model import ATTENTIONS
from training.divided import AUTO, FIND_GROUPS_HELP, GROUPS
from training.push import OWN
from training.sources import DATA_HELP, GROUP_HELP
from training.splits import SPLIT_HELP

ABOUT = """Train a model.

    python training/train.py --data elpv --backbone tf_efficientnet_lite0 --attention cbam

are also the defaults. It writes a checkpoint folder that `python app.py --model FOLDER` opens.
A run that was killed continues with the same command and --resume.
"""


def flag(default, help, **more):
    return field(default=default, metadata={"help": help, **more})


BY_IMAGES = "(default: by the number of new images, see docs/training.md)"


@dataclass(frozen=True)
class Options:
    """The options of a training run and their defaults; the command line is made from it."""

    data: str = flag("elpv", DATA_HELP)
    group_pattern: str = flag("", GROUP_HELP)
    groups: str = flag(AUTO, FIND_GROUPS_HELP, choices=GROUPS)
    backbone: str = flag("tf_efficientnet_lite0", "any convolutional timm model")
    attention: str = flag("cbam", "attention on the last features", choices=ATTENTIONS)
    stages: int = flag(2, "how many of the backbone's last resolutions are concatenated")
    init: str = flag(
        "imagenet",
        "imagenet, none, backbone weights (.safetensors), or the model in use (checkpoint folder or Hub id), "
        "whose architecture, division and data are kept, and which the new model is compared with",
    )
    memory: str = flag(
        "auto",
        "with --init of a model that was taught from good images: auto lets its memory bank go on learning; "
        "off trains a classifier, which is compared with it",
        choices=("auto", "off"),
    )
    out: str = flag("", "checkpoint folder (default: runs/DATA-BACKBONE-ATTENTION)")
    split: str = flag("", SPLIT_HELP)
    image_size: int = flag(224, "side of the network's input, pixels")
    epochs: int | None = flag(
        None, f"passes over the training split; 0 for the linear head alone {BY_IMAGES}", type=int
    )
    batch_size: int = flag(32, "images in a step")
    learning_rate: float | None = flag(
        None, f"peak of the cosine schedule, for the backbone {BY_IMAGES}", type=float
    )
    head_rate: float = flag(5.0, "factor on the learning rate, for the attention and the head")
    layer_decay: float = flag(1.0, "factor on the learning rate from each block to the one before it")
    weight_decay: float = flag(0.05, "of AdamW")
    averaging: float = flag(
        0.1, "share of the steps so far whose weights are averaged, 0-1; the average is saved"
    )
    dropout: float = flag(0.2, "of the pooled features, fraction")
    augmentation: float = flag(1.0, "strength of the augmentation besides flips and turns, 0-1")
    consistency: float = flag(0.0, "weight of the squared difference of the log-odds of two views")
    freeze: int | None = flag(
        None,
        "how many of the backbone's first blocks, the stem included, are not trained; -1: all but the last "
        f"{BY_IMAGES}",
        type=int,
    )
    views: int = flag(6, "augmented views of each image for the frozen blocks; their output is kept on disk")
    cache: str = flag("runs/cache", "folder for that output; may be deleted after training")
    linear: str = flag(
        "auto",
        "also fit a linear head to the untuned backbone, and keep it unless the network's validation loss is "
        "lower by more than one standard error",
        choices=("auto", "off"),
    )
    teacher: str = flag("", "distill from these checkpoints: folders or Hub ids, separated by commas")
    teacher_share: float = flag(0.5, "weight of the teachers' predictions in the target, 0-1")
    seed: int = flag(0, "of weights, order and augmentation; the split does not depend on it")
    resume: bool = flag(False, "continue a run that was killed")
    push_to_hub: str = flag(
        "",
        "push the checkpoint to the Hugging Face Hub, under your own name unless OWNER/NAME is given",
        nargs="?",
        const=OWN,
        metavar="OWNER/NAME",
    )
    public: bool = flag(False, "if --push-to-hub creates a repository, make it public")


LOCAL = ("resume", "out", "cache", "push_to_hub", "public")  # options that do not change the model


def parse(arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in fields(Options):
        name, metadata = "--" + option.name.replace("_", "-"), dict(option.metadata)
        shown = "" if option.default in ("", None) or option.type is bool else f" (default: {option.default})"
        help = (metadata.pop("help") + shown).replace("%", "%%")
        if option.type is bool:
            parser.add_argument(name, action="store_true", help=help)
        else:
            metadata = {"type": option.type, **metadata}
            parser.add_argument(name, default=option.default, help=help, **metadata)
    options = Options(**vars(parser.parse_args(arguments)))
    if options.public and not options.push_to_hub:
        parser.error("--public needs --push-to-hub")
    return options


def check_options(earlier: dict, wanted: dict, out: Path) -> None:
    """Raises DataError if a run is to continue with other options than it began with."""
    names = [name for name in earlier.keys() | wanted if earlier.get(name) != wanted.get(name)]
    if names:
        found = ", ".join(f"{name} {earlier.get(name)}, not {wanted.get(name)}" for name in sorted(names))
        raise DataError(f"The run in {out} began with other options: {found}. Resume it with these.")


def changed(options: Options) -> list[str]:
    """The flags that differ from the defaults."""
    flags = []
    for option in fields(options):
        value = getattr(options, option.name)
        if value != option.default and option.name not in LOCAL:
            flags += [f"--{option.name.replace('_', '-')}", str(value)]
    return flags
