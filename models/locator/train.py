"""Trains the locator on an endless stream of small photographs.

    python train.py --generator 'GENERATOR thumbnails --seed 1' --validation validation.thumbnails --out runs/1 --minutes 90

The stream is the standard output of `--generator`. Written to `--out`: `curve.csv`, a row every few minutes, and `checkpoint.pt`. The
averaged weights are what is validated and exported. `--init` starts from a checkpoint's weights. The schedule follows the clock, so
that a busy machine takes fewer steps but ends as it should.
"""

import argparse
import contextlib
import copy
import csv
import math
import os
import pathlib
import queue
import random
import shlex
import subprocess
import threading
import time
from collections import defaultdict
from typing import BinaryIO

import numpy as np

# Before torch starts its threads: one that waits in a loop for another takes the core that the generator, or the other, needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor, nn

from evaluate import measure
from network import Network, Shape, load, save
from thumbnails import Targets, Thumbnail, pictures, read, targets, vary

WARM_UP_STEPS = 200
LAST_RATE = 0.005  # share of the highest rate that is left at the end
AVERAGED_STEPS = 500  # length of the moving average of the weights
REPORT_SECONDS = 240
MOST_HELD = 64  # batches of pictures in memory


class Batches:
    """Reads the stream in a thread and gives batches of pictures of one canvas.

    A picture may be in `reuse` batches: where the generator is slower than the training, older ones are shown again.
    """

    def __init__(self, source: BinaryIO, batch: int, reuse: int) -> None:
        self.batch, self.reuse = batch, reuse
        self.arrived: queue.Queue[Thumbnail] = queue.Queue(MOST_HELD * batch)
        self.held: dict[tuple[int, int], list[tuple[Thumbnail, int]]] = defaultdict(list)
        self.fresh = 0
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def _read(self, source: BinaryIO) -> None:
        for thumbnail in read(source):
            self.arrived.put(thumbnail)

    def next(self) -> list[Thumbnail]:
        while True:
            with contextlib.suppress(queue.Empty):
                while sum(map(len, self.held.values())) < MOST_HELD * self.batch:
                    self._hold(self.arrived.get_nowait())
            full = [canvas for canvas, held in self.held.items() if len(held) >= 2 * self.batch]
            if full:
                return self._draw(max(full, key=lambda canvas: len(self.held[canvas])))
            self._hold(self.arrived.get(timeout=120))

    def _hold(self, thumbnail: Thumbnail) -> None:
        self.held[thumbnail.canvas].append((thumbnail, 0))
        self.fresh += 1

    def _draw(self, canvas: tuple[int, int]) -> list[Thumbnail]:
        held = self.held[canvas]
        random.shuffle(held)
        drawn, self.held[canvas] = held[: self.batch], held[self.batch :]
        self.held[canvas] += [(thumbnail, uses + 1) for thumbnail, uses in drawn if uses + 1 < self.reuse]
        return [thumbnail for thumbnail, _ in drawn]


def losses(page: Tensor, fine: Tensor, wanted: Targets) -> dict[str, Tensor]:
    """Weighed so that each part matters about as much at the end of the training."""
    cross = nn.functional.binary_cross_entropy_with_logits
    count = wanted.inside.sum()
    document = (cross(page[:, 0], wanted.page, reduction="none") * wanted.inside).sum() / count
    # Each page weighs the same, however much of the picture it covers.
    cells = (wanted.page > 0.5) * wanted.inside
    off = (page[:, 1:] - wanted.places).abs().clamp(max=2.0).sum(1)
    places = ((off * cells).sum((1, 2)) / cells.sum((1, 2)).clamp(min=20)).mean()
    weight = torch.tensor([4.0, 2.0])[:, None, None]
    each = cross(fine, wanted.fine, reduction="none", pos_weight=weight) * wanted.fine_inside[:, None]
    border, lines = each.sum((0, 2, 3)) / wanted.fine_inside.sum()
    # Few pixels are of lines: their share counts too (dice).
    seen = fine[:, 1].sigmoid() * wanted.fine_inside
    truth = wanted.fine[:, 1] * wanted.fine_inside
    dice = 1 - (2 * (seen * truth).sum() + 1) / (seen.sum() + truth.sum() + 1)
    return {"document": document, "places": 8 * places, "border": border, "lines": 2 * lines + 0.5 * dice}


class Trainer:
    """Network, optimiser and moving average."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        held = load(options.init) if options.init else None
        self.network = Network(Shape(**held["shape"]) if held else Shape())
        if held:
            self.network.load_state_dict(held["average"])
        self.network.to(memory_format=torch.channels_last)
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": kernels, "weight_decay": options.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98), fused=True)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.steps = self.seen = 0

    def step(self, batch: list[Thumbnail], share_of_rate: float) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.rate * min(1.0, (self.steps + 1) / WARM_UP_STEPS) * share_of_rate
        x = vary(pictures(batch)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            page, fine = self.network(x)
        parts = losses(page, fine.float(), targets(batch))
        self.optimiser.zero_grad(set_to_none=True)
        sum(parts.values()).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip)
        self.optimiser.step()
        self.steps += 1
        self.seen += len(batch)
        share = max(1 / AVERAGED_STEPS, 9 / (10 + self.steps))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values()):
                if mean.is_floating_point():
                    mean.lerp_(value, share)
        return {name: part.detach() for name, part in parts.items()}


def train(options: argparse.Namespace, source: BinaryIO) -> None:
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    trainer, batches = Trainer(options), Batches(source, options.batch, options.reuse)
    with options.validation.open("rb") as file:
        validation = list(read(file))
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{sum(p.numel() for p in trainer.network.parameters())} parameters", flush=True)
    started = reported = time.monotonic()
    sums: dict[str, float] = defaultdict(float)
    counted = 0
    while (progress := (time.monotonic() - started) / (60 * options.minutes)) < 1:
        rate = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
        for name, part in trainer.step(batches.next(), rate).items():
            sums[name] += part.item()
        counted += 1
        if time.monotonic() - reported >= REPORT_SECONDS:
            report(options, trainer, batches, validation, {name: part / counted for name, part in sums.items()}, started)
            sums.clear()
            counted, reported = 0, time.monotonic()
    report(options, trainer, batches, validation, {name: part / max(1, counted) for name, part in sums.items()}, started)


def report(
    options: argparse.Namespace,
    trainer: Trainer,
    batches: Batches,
    validation: list[Thumbnail],
    parts: dict[str, float],
    started: float,
) -> None:
    """Saves a checkpoint and adds a row to the curve."""
    save(options.out / "checkpoint.pt", trainer.average)
    row = {"minutes": (time.monotonic() - started) / 60, "steps": trainer.steps, "pictures": trainer.seen}
    row |= {"reuse": trainer.seen / max(1, batches.fresh)} | {f"loss_{name}": part for name, part in parts.items()}
    row |= measure(trainer.average, validation)
    path = options.out / "curve.csv"
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if is_new:
            writer.writeheader()
        writer.writerow({name: round(value, 5) for name, value in row.items()})
    print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    path = pathlib.Path
    parser.add_argument("--generator", required=True, help="command that writes thumbnails without end")
    parser.add_argument("--validation", type=path, required=True, help="file of thumbnails of another seed")
    parser.add_argument("--out", type=path, required=True, help="folder of the curve and the checkpoint")
    parser.add_argument("--minutes", type=float, required=True, help="length of the schedule")
    parser.add_argument("--init", type=path, metavar="CHECKPOINT", help="start from its weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--reuse", type=int, default=2, help="batches that a picture may be in")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--clip", type=float, default=2.0, help="highest norm of the gradient")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with subprocess.Popen(shlex.split(options.generator), stdout=subprocess.PIPE) as generator:
        try:
            train(options, generator.stdout)
        finally:
            generator.terminate()


if __name__ == "__main__":
    main()
