"""Train a chip inspector.

    python training/train.py --data elpv --backbone tf_efficientnet_lite0 --attention cbam

is also what no flag gives. It writes a checkpoint folder that `python app.py --model FOLDER`
opens. A run that was killed goes on with the same command and --resume.
"""

import argparse
import json
import math
import shlex
import sys
import time
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from scipy.special import expit
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from chipdemo.errors import ChipDemoError, DataError
from chipdemo.vision.checkpoint import CONFIG, FILES, METRICS, SPLIT, WEIGHTS, ModelSpec, write_json
from chipdemo.vision.model import ATTENTIONS
from chipdemo.vision.output import replacing
from chipdemo.vision.transforms import normalize, pixels_of
from chipdemo.vision.weights import load_weights, save_checkpoint
from training.augment import augment
from training.calibration import choose_threshold, fit_distance_limit, fit_heat_scale, fit_temperature
from training.card import model_card
from training.data import PARTS, check_parts, load_images, read_split, split_by_hash
from training.measure import PICTURES, auroc, draw, measure
from training.predict import predict
from training.push import OWN, destination, push
from training.resume import PARTIAL_STATE, STATE, load_state, save_state
from training.sources import DATA_HELP, GROUP_HELP, read_data
from training.starting_weights import load_starting_weights
from training.teacher import Distillation, listen
from training.trunk import FrozenTrunk, cached_views, gather


def flag(default, help, **more):
    return field(default=default, metadata={"help": help, **more})


@dataclass(frozen=True)
class Options:
    """Every default of a training run; the command line is built from it."""

    data: str = flag("elpv", DATA_HELP)
    group_pattern: str = flag("", GROUP_HELP)
    backbone: str = flag("tf_efficientnet_lite0", "any convolutional timm model")
    attention: str = flag("cbam", "attention on the last features", choices=ATTENTIONS)
    stages: int = flag(2, "how many of the backbone's last resolutions are joined")
    init: str = flag("imagenet", "imagenet, none, a checkpoint folder or backbone weights (.safetensors)")
    out: str = flag("", "checkpoint folder; default runs/DATA-BACKBONE-ATTENTION")
    split: str = flag("", "split.json to keep to; images it does not name are divided anew")
    image_size: int = flag(224, "side of the network's input, pixels")
    epochs: int = flag(6, "passes over the training part")
    batch_size: int = flag(32, "images a step")
    learning_rate: float = flag(5e-4, "peak of the cosine schedule, for the backbone")
    head_rate: float = flag(5.0, "times that for the attention and the head")
    weight_decay: float = flag(0.05, "of AdamW")
    averaging: float = flag(0.99, "decay a step of the averaged weights that are kept")
    dropout: float = flag(0.2, "of the pooled features, fraction")
    warp: float = flag(0.0, "most that images are zoomed (fraction) and tilted (radians); needs --freeze 0")
    mixup: float = flag(0.0, "Beta(a, a) of mixing pairs of images and labels; 0 mixes none")
    freeze: int = flag(4, "how many of the backbone's first blocks, the stem included, stay as they start")
    views: int = flag(6, "augmented views of each image that the frozen blocks see; they are kept on disk")
    cache: str = flag("runs/cache", "folder for them; may be deleted after training")
    teacher: str = flag("", "distil from these checkpoints: folders or Hub ids, commas between them")
    teacher_share: float = flag(0.5, "of the teachers in the target, 0-1; the labels have the rest")
    seed: int = flag(0, "of weights, order and augmentation; the split does not depend on it")
    resume: bool = flag(False, "go on with a run that was killed")
    push_to_hub: str = flag(
        "",
        "push the checkpoint to the Hugging Face Hub, under your own name unless OWNER/NAME is given",
        nargs="?",
        const=OWN,
        metavar="OWNER/NAME",
    )
    public: bool = flag(False, "where --push-to-hub makes a new repository, open it to everyone")


LONG = ("split", "probabilities", "abnormal")
LOCAL = ("resume", "out", "cache", "push_to_hub", "public")  # options that do not change the model


def parse(arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option in fields(Options):
        name, metadata = "--" + option.name.replace("_", "-"), dict(option.metadata)
        help = f"{metadata.pop('help')} (default: {option.default!r})"
        if option.type is bool:
            parser.add_argument(name, action="store_true", help=help)
        else:
            parser.add_argument(name, type=option.type, default=option.default, help=help, **metadata)
    options = Options(**vars(parser.parse_args(arguments)))
    if options.public and not options.push_to_hub:
        parser.error("--public is about what --push-to-hub pushes; add that")
    return options


def rate(progress: float) -> float:
    """The learning rate as a fraction of its peak; progress is 0-1. 10 % warm-up, then cosine."""
    return min(progress / 0.1, 0.5 * (1 + math.cos(math.pi * max(progress - 0.1, 0) / 0.9)))


def moving_average(decay: float):
    """Exponential averaging of weights that starts short, so that small datasets have a good one too."""

    def update(averaged, current, count):
        get_ema_multi_avg_fn(min(decay, (1 + count.item()) / (10 + count.item())))(averaged, current, count)

    return update


def train(options: Options) -> Path:
    """Train, calibrate on validation, measure on test, push where told; returns the checkpoint folder."""
    slug = f"{Path(options.data.partition('@')[0]).name}-{options.backbone}-{options.attention}"
    out = Path(options.out or Path("runs") / slug)
    repository = destination(options.push_to_hub, out) if options.push_to_hub else ""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if not accelerator.is_main_process:
        _train(options, out, out, accelerator)
        return out
    advice = "; epochs of training that were finished are kept, and --resume goes on"
    with replacing(out, (*FILES, *PICTURES, STATE, PARTIAL_STATE), advice) as folder:
        _train(options, out, folder, accelerator)
    print(f"wrote {out}", flush=True)
    if repository:
        push(out, repository, options.public)
    return out


def _train(options: Options, out: Path, folder: Path, accelerator: Accelerator) -> None:
    """The run, in each process. out: holds its state until it has ended. folder: gets the checkpoint."""
    device = accelerator.device
    capabilities = torch.cpu.get_capabilities()
    half = device.type == "cuda" or capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=bool(half))
    first = accelerator.is_main_process
    progress_bar = partial(tqdm, disable=None if first else True, leave=False)  # none in a file either

    # The network
    torch.manual_seed(options.seed)
    spec = ModelSpec(options.backbone, options.attention, options.stages, options.image_size)
    net = spec.build(dropout=options.dropout)
    spec = replace(
        spec,
        mean=tuple(net.backbone.pretrained_cfg["mean"]),
        std=tuple(net.backbone.pretrained_cfg["std"]),
        interpolation=net.backbone.pretrained_cfg["interpolation"],
    )
    starting_weights = load_starting_weights(net, options.backbone, options.init)
    net.to(device, memory_format=torch.channels_last)
    trunk = FrozenTrunk(net, options.freeze) if options.freeze else None

    # The images
    data = read_data(options.data, options.group_pattern)
    images = load_images(
        data, partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation), progress_bar
    )
    for line in images.left_out:
        accelerator.print("left out", line)
    strata = {h: sample.stratum for h, sample in zip(images.sha256, images.samples)}
    known = read_split(Path(options.split)) if options.split else None
    split = split_by_hash(strata, known=known, groups=images.groups)
    check_parts(data.name, split, {h: s.label for h, s in zip(images.sha256, images.samples)})
    row = {sha256: index for index, sha256 in enumerate(images.sha256)}
    rows = {part: [row[sha256] for sha256 in split[part]] for part in PARTS}
    pixels = {part: images.pixels[rows[part]] for part in PARTS}
    abnormal = {part: images.abnormal[rows[part]] for part in PARTS}
    part_name = {
        part: f"{data.name}, {name}, {len(rows[part]):,} images"
        for part, name in zip(PARTS, ("training", "validation", "test"))
    }
    # What the people who labeled were unsure of is learned as unsure: a soft label.
    target, val_target = (torch.from_numpy(images.probability[rows[part]]) for part in ("train", "val"))
    lesson, distillation = None, None
    if options.teacher:
        lesson = listen(options.teacher.split(","), data, split["train"], device, progress_bar)
        target = torch.lerp(target, lesson.probability, options.teacher_share)
        distillation = Distillation(net.head.in_features, lesson.features.shape[1]).to(device)
    train_pixels = torch.from_numpy(pixels["train"])
    if trunk:
        with accelerator.main_process_first():  # it writes them, the others read them
            views = cached_views(
                trunk, pixels["train"], spec.mean, spec.std, options.views, Path(options.cache), progress_bar
            )
        first_view = torch.randint(
            options.views, (len(target),), generator=torch.Generator().manual_seed(options.seed)
        )
    accelerator.print(
        ", ".join(part_name.values()),
        "| from",
        starting_weights,
        "| bfloat16" if half else "| float32",
        flush=True,
    )

    # The loop
    new = [p for n, p in net.named_parameters() if not n.startswith("backbone.")]
    new += distillation.parameters() if distillation else []
    old = [p for p in net.backbone.parameters() if p.requires_grad]
    peaks = (options.learning_rate, options.learning_rate * options.head_rate)
    optimizer = torch.optim.AdamW([{"params": old}, {"params": new}], weight_decay=options.weight_decay)
    averaged = AveragedModel(net, multi_avg_fn=moving_average(options.averaging), use_buffers=True)
    best = deepcopy(averaged.module)
    modules = {"net": net, "averaged": averaged, "best": best}
    modules |= {"distillation": distillation} if distillation else {}
    trained = accelerator.prepare(net)  # the gradients of all processes are averaged
    compared = accelerator.prepare(distillation) if distillation else None
    mine = slice(accelerator.process_index, None, accelerator.num_processes)  # of each batch
    wanted = {k: v for k, v in asdict(options).items() if k not in LOCAL}
    done = {
        "options": wanted,
        "epoch": 0,
        "best_loss": math.inf,
        "best_auroc": 0.0,
        "best_epoch": 0,
        "seconds": 0.0,
    }
    if options.resume:
        done = load_state(out, modules, optimizer)
        if done["options"] != wanted:
            raise DataError(
                f"Expected the options of the run in {out} to resume it: {done['options']}; found {wanted}."
            )
    steps = max(len(target) // options.batch_size, 1)
    for epoch in range(done["epoch"], options.epochs):
        started, losses = time.perf_counter(), []
        torch.manual_seed(options.seed * 10_000 + epoch)  # so that a resumed run is the same run
        generator = torch.Generator().manual_seed(options.seed * 10_000 + epoch)
        mixing = np.random.default_rng([options.seed, epoch])
        order = torch.randperm(len(target), generator=generator)
        bar = progress_bar(range(steps), desc=f"epoch {epoch + 1}/{options.epochs}")
        for step in bar:
            chosen = order[step * options.batch_size : (step + 1) * options.batch_size]
            if trunk:
                batch = gather(views, (first_view[chosen] + epoch) % options.views, chosen, device)
            else:
                batch = normalize(
                    augment(train_pixels[chosen].to(device), generator, options.warp), spec.mean, spec.std
                )
            truth = target[chosen].to(device)
            lesson_features = lesson.features[chosen].to(device) if lesson else None
            if options.mixup:  # Zhang et al., ICLR 2018: the batch with itself in reverse
                share = mixing.beta(options.mixup, options.mixup)
                batch = share * batch + (1 - share) * batch.flip(0)
                truth = share * truth + (1 - share) * truth.flip(0)
                if lesson:
                    lesson_features = share * lesson_features + (1 - share) * lesson_features.flip(0)
            for group, peak in zip(optimizer.param_groups, peaks):
                group["lr"] = peak * rate((epoch * steps + step + 1) / (options.epochs * steps))
            with trunk.skipped(net) if trunk else nullcontext(), autocast():
                output = trained.train()(batch[mine])
            log_odds = (output.logits[:, 1] - output.logits[:, 0]).float()  # (N, 2) -> (N,)
            loss = F.binary_cross_entropy_with_logits(log_odds, truth[mine])
            if compared:
                loss = loss + compared(output.embedding.float(), lesson_features[mine])
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            averaged.update_parameters(net)
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}", val_auroc=f"{done['best_auroc']:.4f}")
        if not first:
            continue
        on_val = predict(averaged.module, pixels["val"], spec).log_odds
        val_auroc = auroc(on_val, abnormal["val"])
        val_loss = F.binary_cross_entropy_with_logits(torch.from_numpy(on_val), val_target).item()
        done |= {"epoch": epoch + 1, "seconds": done["seconds"] + time.perf_counter() - started}
        if val_loss < done["best_loss"]:  # of a few hundred images, the AUROC is too coarse to choose by
            done |= {"best_loss": val_loss, "best_auroc": val_auroc, "best_epoch": epoch + 1}
            best.load_state_dict(averaged.module.state_dict())
        save_state(out, modules, optimizer, done)
        print(
            f"epoch {epoch + 1}/{options.epochs} loss {sum(losses) / steps:.4f} val_loss {val_loss:.4f} "
            f"val_auroc {val_auroc:.4f} best epoch {done['best_epoch']} seconds {done['seconds']:.0f}",
            flush=True,
        )

    accelerator.end_training()
    if not first:
        return

    # What is stored is what is calibrated and measured: the best epoch's weights, rounded.
    best.ood.fit(torch.from_numpy(predict(best, pixels["train"], spec).embedding).to(device))
    save_checkpoint(folder, best, spec)
    load_weights(best, folder / WEIGHTS)
    on_val = predict(best, pixels["val"], spec)
    temperature = fit_temperature(on_val.log_odds, abnormal["val"])
    threshold = choose_threshold(on_val.log_odds, abnormal["val"], temperature)
    val_probability = expit(on_val.log_odds / temperature)
    passed = ~abnormal["val"] & (val_probability < threshold)
    passed = passed if passed.any() else ~abnormal["val"]
    spec = replace(
        spec,
        temperature=temperature,
        threshold=threshold,
        heat_scale=fit_heat_scale(on_val.highest_evidence[passed]),
        distance_limit=fit_distance_limit(on_val.distance),
    )
    write_json(folder / CONFIG, asdict(spec))

    # The test part, once
    on_test = predict(best, pixels["test"], spec)
    test_probability = expit(on_test.log_odds / temperature)
    draw(test_probability, abnormal["test"], threshold, part_name["test"], folder)
    metrics = {
        "data": data.name,
        "data_license": data.license,
        "starting_weights": starting_weights,
        "image_side": images.side,
        "test": {
            "split": part_name["test"],
            **measure(test_probability, abnormal["test"], threshold),
            "probabilities": [round(float(p), 5) for p in test_probability],
            "abnormal": abnormal["test"].tolist(),
        },
        "validation": {
            "split": part_name["val"],
            **measure(val_probability, abnormal["val"], threshold),
            "probabilities": [round(float(p), 5) for p in val_probability],
            "abnormal": abnormal["val"].tolist(),
        },
        "training": {
            "command": shlex.join(["python", "training/train.py", *_changed(options)]),
            "options": wanted,
            "train_count": len(rows["train"]),
            "val_count": len(rows["val"]),
            "left_out": len(images.left_out),
            "best_epoch": done["best_epoch"],
            "seconds": round(done["seconds"], 1),
            "precision": "bfloat16" if half else "float32",
        },
    }
    write_json(folder / METRICS, metrics)
    write_json(folder / SPLIT, split)
    (folder / "README.md").write_text(model_card(spec, metrics), encoding="utf-8")
    shown = {name: value for name, value in metrics["test"].items() if name not in LONG}
    print(f"{metrics['test']['part']}: {json.dumps(shown)}", flush=True)


def _changed(options: Options) -> list[str]:
    """The flags that differ from the defaults."""
    changed = []
    for option in fields(options):
        value = getattr(options, option.name)
        if value != option.default and option.name not in LOCAL:
            changed += [f"--{option.name.replace('_', '-')}", str(value)]
    return changed


if __name__ == "__main__":
    try:
        train(parse())
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
