"""Train a model: the command, and the run from the options to the checkpoint."""

import math
import shlex
import shutil
import sys
import time
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from timm.optim import param_groups_layer_decay
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from chipdemo.comparison import comparison_of, kept_folder
from chipdemo.errors import ChipDemoError, DataError
from chipdemo.splits import SPLITS
from chipdemo.vision.checkpoint import FILES, ModelSpec, read_metrics
from chipdemo.vision.model import ChipNet
from chipdemo.vision.output import replacing
from chipdemo.vision.runtimes.export import write_graph
from chipdemo.vision.transforms import pixels_of
from training.checkpoint import write_checkpoint
from training.comparison import rows_to_compare
from training.distillation import Distillation, teacher_predictions
from training.divided import load_divided
from training.in_use import InUse, earlier_data, is_at_hand, model_in_use, rows_of_epoch, tuning
from training.linear import LINEAR, NETWORK, can_be_fitted, kept_of, linear_model, validation_losses
from training.measure import PICTURES, auroc
from training.memory_bank import continue_memory_bank
from training.options import LOCAL, Options, changed, check_options, parse
from training.predict import device_name, predict
from training.push import destination, push
from training.resume import PARTIAL_STATE, STATE, load_state, save_state
from training.sources import read_data
from training.splits import NONE_SEEN
from training.starting_weights import load_starting_weights
from training.taught import continue_taught
from training.trunk import FrozenTrunk, Inputs


def rate(progress: float) -> float:
    """The learning rate as a fraction of its peak. progress: 0-1. 10 % linear warm-up, then cosine."""
    return min(progress / 0.1, 0.5 * (1 + math.cos(math.pi * max(progress - 0.1, 0) / 0.9)))


def moving_average(share: float):
    """The average of the weights over about this share of the steps so far, 0-1, the newest counting most.

    Polynomial-decay averaging: Shamir and Zhang, ICML 2013. 0: the current weights.
    """

    def update(averaged, current, count):
        steps = share * count.item()  # that count most
        get_ema_multi_avg_fn(steps / (steps + 1))(averaged, current, count)

    return update


def with_architecture(options: Options, in_use: InUse | None) -> Options:
    """The options with the architecture of the model in use. Raises DataError if another one is asked for."""
    if in_use is None or not in_use.has_head:
        return options
    for name in ("backbone", "attention", "stages"):
        asked, has = getattr(options, name), getattr(in_use.spec, name)
        if asked not in (has, getattr(Options, name)):
            raise DataError(f"--{name} is {asked}, but the model of --init has {has}. Leave --{name} out.")
        options = replace(options, **{name: has})
    same_size = options.image_size == Options.image_size
    return replace(options, image_size=in_use.spec.image_size if same_size else options.image_size)


def build(options: Options, in_use: InUse | None) -> tuple[ChipNet, ModelSpec]:
    """The network with random weights, and its spec with the normalization that its backbone expects.

    Raises DataError if there is no such network.
    """
    spec = ModelSpec(options.backbone, options.attention, options.stages, options.image_size)
    try:
        net = spec.build(dropout=options.dropout)
    except (RuntimeError, ValueError) as error:  # of timm, or ours
        raise DataError(str(error)) from error
    if in_use and in_use.has_head:
        return net, replace(in_use.spec, image_size=options.image_size)
    cfg = net.backbone.pretrained_cfg
    spec = replace(spec, mean=tuple(cfg["mean"]), std=tuple(cfg["std"]), interpolation=cfg["interpolation"])
    return net, spec


def mixed_precision(device: torch.device) -> tuple[partial, str]:
    """The autocast for this device, and the name of the precision: bfloat16 where it is fast."""
    capabilities = torch.cpu.get_capabilities()
    half = device.type == "cuda" or capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=bool(half))
    return autocast, "bfloat16" if half else "float32"


def train(options: Options) -> Path:
    """Train, calibrate on validation, measure on test, push if asked; returns the checkpoint folder."""
    in_use = model_in_use(options.init)
    options = with_architecture(options, in_use)
    goes_on = in_use is not None and not in_use.has_head and options.memory == "auto"
    kind = "memory" if goes_on else f"{options.backbone}-{options.attention}"
    slug = f"{Path(options.data.partition('@')[0]).name}-{kind}"
    out = Path(options.out or Path("runs") / slug)
    repository = destination(options.push_to_hub, out) if options.push_to_hub else ""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    if not accelerator.is_main_process:
        if not goes_on:
            run(options, in_use, out, out, accelerator)
        return out
    advice = "; the epochs that were finished are kept: continue with --resume"
    with replacing(out, (*FILES, *PICTURES, STATE, PARTIAL_STATE), advice) as folder:
        if goes_on:
            continue_taught(options, in_use, folder)
        else:
            run(options, in_use, out, folder, accelerator)
        if in_use and in_use.folder.resolve() == out.resolve():
            keep_if_worse(in_use, folder)
        write_graph(folder)
    print(f"wrote {out}", flush=True)
    if repository:
        push(out, repository, options.public)
    return out


def run(options: Options, in_use: InUse | None, out: Path, folder: Path, accelerator: Accelerator) -> None:
    """A training run, in each process.

    in_use: the model of --init. out: keeps the state for --resume. folder: gets the checkpoint.
    """
    device, main = accelerator.device, accelerator.is_main_process
    autocast, precision = mixed_precision(device)
    progress = partial(tqdm, disable=None if main else True, leave=False)  # None: not into a file

    # The network
    torch.manual_seed(options.seed)
    net, spec = build(options, in_use)
    start = in_use.source if in_use and in_use.has_head else "imagenet" if in_use else options.init
    starting_weights = load_starting_weights(net, options.backbone, start)
    net.to(device, memory_format=torch.channels_last)

    # The images
    data = read_data(options.data, options.group_pattern)
    earlier, missing = earlier_data(in_use, options.data) if in_use else ([], [])
    split_file = Path(options.split) if options.split else None
    to_pixels = partial(pixels_of, size=spec.image_size, interpolation=spec.interpolation)
    seen = in_use.split if in_use else NONE_SEEN
    images = load_divided(data, split_file, to_pixels, progress, earlier, seen, options.groups)
    for line in (*missing, *(f"left out {line}" for line in images.left_out)):
        accelerator.print(line)
    if in_use:
        rows_to_compare(in_use, images)  # an error now rather than after training

    # What is tuned
    is_new = images.is_new("train")
    picked = tuning(in_use, int(is_new.sum()))._asdict()
    options = replace(options, **{name: picked[name] for name in picked if getattr(options, name) is None})
    trunk = FrozenTrunk(net, options.freeze)
    accelerator.print(*map(images.title, SPLITS), sep="; ")
    accelerator.print(f"split: {images.division} | from {starting_weights} | {precision}", flush=True)
    val_pixels, val_target = images.pixels["val"], torch.from_numpy(images.probability["val"])
    target = torch.from_numpy(images.probability["train"])  # (N,), 0-1: soft where annotators disagree
    inputs = Inputs(trunk, images.pixels["train"], spec, options.augmentation, device)
    with accelerator.main_process_first(), autocast():  # it writes the views, the others read them
        inputs.cache(options.views, Path(options.cache), options.seed, progress)

    # A linear head on the starting weights, to compare with
    linear = None
    from_backbone = options.linear == "auto" and not (in_use and in_use.has_head)
    if main and from_backbone and can_be_fitted(images):
        with autocast():
            linear = linear_model(net, spec, trunk, inputs, images, options.views, options.seed)

    # The teachers
    distillation = None
    teachers = options.teacher.split(",") if options.teacher else []
    if in_use and in_use.has_head and not teachers and not is_at_hand(in_use, images):
        teachers = [in_use.source]  # its answers, in place of its data
        accelerator.print(f"distilled from {in_use.source}, whose data is not at hand")
    if teachers:
        with accelerator.main_process_first(), autocast():  # it writes the predictions, the others read them
            taught, features = teacher_predictions(
                teachers, images.data, images.sha256["train"], device, Path(options.cache), progress
            )
        target = torch.lerp(target, taught, options.teacher_share)
        distillation = Distillation(net.head.in_features, features).to(device)

    # The optimizer and the state
    new = [p for n, p in net.named_parameters() if not n.startswith("backbone.")]
    new += distillation.parameters() if distillation else []
    groups = param_groups_layer_decay(
        net.backbone, options.weight_decay, layer_decay=options.layer_decay
    )  # by residual block
    groups += [{"params": new, "lr_scale": options.head_rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
    averaged = AveragedModel(net, multi_avg_fn=moving_average(options.averaging), use_buffers=True)
    best = deepcopy(averaged.module)
    modules = {"net": net, "averaged": averaged, "best": best}
    modules |= {"distillation": distillation} if distillation else {}
    trained = accelerator.prepare(net)  # averages the gradients of all processes
    distilled = accelerator.prepare(distillation) if distillation else None
    mine = slice(accelerator.process_index, None, accelerator.num_processes)  # of each batch
    wanted = {k: v for k, v in asdict(options).items() if k not in LOCAL}
    done = {"epoch": 0, "best_epoch": 0, "best_loss": math.inf, "best_auroc": 0.0, "seconds": 0.0}
    done |= {"options": wanted}
    if options.resume:
        done = load_state(out, modules, optimizer)
        check_options(done["options"], wanted, out)

    # The loop
    every = torch.from_numpy(rows_of_epoch(is_new))
    steps, views = max(len(every) // options.batch_size, 1), 2 if options.consistency else 1
    for epoch in range(done["epoch"], options.epochs):
        started, losses = time.perf_counter(), []
        torch.manual_seed(options.seed * 10_000 + epoch)  # so that a resumed run is the same run
        generator = torch.Generator().manual_seed(options.seed * 10_000 + epoch)
        order = every[torch.randperm(len(every), generator=generator)]
        bar = progress(range(steps), desc=f"epoch {epoch + 1}/{options.epochs}")
        for step in bar:
            rows = order[step * options.batch_size : (step + 1) * options.batch_size]  # (n,)
            own = rows[mine].repeat(views)  # (views * n,)
            batch = torch.cat([inputs.batch(rows, epoch * views + v, generator)[mine] for v in range(views)])
            for group in optimizer.param_groups:
                progress_made = (epoch * steps + step + 1) / (options.epochs * steps)
                group["lr"] = options.learning_rate * group["lr_scale"] * rate(progress_made)
            trained.train()
            with trunk.skipped(net), autocast():
                output = trained(batch)  # of (views * n, 3, S, S), or (views * n, C, h, w) of the trunk
            log_odds = (output.logits[:, 1] - output.logits[:, 0]).float()  # (views * n, 2) -> (views * n,)
            loss = F.binary_cross_entropy_with_logits(log_odds, target[own].to(device))
            if options.consistency:
                first, second = log_odds.chunk(2)
                loss = loss + options.consistency * F.mse_loss(first, second)
            if distilled:
                loss = loss + distilled(output.embedding.float(), own)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            averaged.update_parameters(net)
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}", val_auroc=f"{done['best_auroc']:.4f}")
        if not main:
            continue
        on_val = predict(averaged.module, val_pixels, spec).log_odds  # (M,)
        val_auroc = auroc(on_val, images.abnormal["val"])
        val_loss = F.binary_cross_entropy_with_logits(torch.from_numpy(on_val), val_target).item()
        done |= {"epoch": epoch + 1, "seconds": done["seconds"] + time.perf_counter() - started}
        if val_loss < done["best_loss"]:  # on a few hundred images, the AUROC is too coarse to choose by
            done |= {"best_loss": val_loss, "best_auroc": val_auroc, "best_epoch": epoch + 1}
            best.load_state_dict(averaged.module.state_dict())
        save_state(out, modules, optimizer, done)
        print(
            f"epoch {epoch + 1}/{options.epochs} loss {sum(losses) / steps:.4f} val_loss {val_loss:.4f} "
            f"val_auroc {val_auroc:.4f} best epoch {done['best_epoch']} seconds {done['seconds']:.0f}",
            flush=True,
        )

    # The checkpoint: the best epoch, or the linear head where that is not beaten on validation
    accelerator.end_training()
    if main:
        candidates = {NETWORK: (best, spec)} if options.epochs else {}
        candidates |= {LINEAR: linear} if linear else {}
        if not candidates:
            raise DataError(
                "There is nothing to train with --epochs 0 and no linear head. Use --epochs 1 or more."
            )
        by_image = validation_losses(candidates, images)
        losses, kept = {name: float(each.mean()) for name, each in by_image.items()}, kept_of(by_image)
        print(
            "validation loss",
            *(f"{name} {loss:.4f};" for name, loss in losses.items()),
            f"kept the {kept}",
            flush=True,
        )
        best, spec = candidates[kept]
        about = {
            "command": shlex.join(["python", "training/train.py", *changed(options)]),
            "options": wanted,
            "best_epoch": done["best_epoch"],
            "validation_losses": losses,
            "kept": kept,
            "seconds": round(done["seconds"], 1),
            "precision": precision,
            "device": device_name(device),
            "earlier_data": list(in_use.data) if in_use else [],
        }
        write_checkpoint(folder, best, spec, images, starting_weights, about, in_use)
        if in_use:
            continue_memory_bank(in_use, folder, images, partial(print, flush=True))


def keep_if_worse(in_use: InUse, newer: Path) -> None:
    """Keep a copy of the model in use, whose folder gets another one, if that one is worse."""
    comparison = comparison_of(read_metrics(newer))
    if not comparison.takes_over:
        kept = kept_folder(in_use.folder.resolve(), in_use.info.revision)
        shutil.copytree(in_use.folder, kept, ignore=shutil.ignore_patterns(f"{STATE}*"), dirs_exist_ok=True)
        print(f"kept the model in use as {kept}", flush=True)


if __name__ == "__main__":
    try:
        train(parse())
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
