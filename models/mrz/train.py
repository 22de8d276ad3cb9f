"""Trains the MRZ recogniser on an endless stream of strips.

    python train.py --generator 'GENERATOR --seed 1' --validation validation.strips --out runs/1 --minutes 120

The stream is the standard output of `--generator`, or standard input. Written to `--out`: `curve.csv`, a row a minute, and
`checkpoint.pt`, every two minutes and at the end. The averaged weights are what is validated and exported.
`--resume` goes on with a checkpoint's schedule (give the generator another seed, or it repeats itself); `--init` takes only its
weights. With a budget of time the schedule follows the clock, so that a busy machine takes fewer steps but ends as it should.
"""

import argparse
import contextlib
import copy
import csv
import math
import os
import pathlib
import queue
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

# Before torch starts its threads: one that waits in a loop for another takes the core that the generator, or the other, needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch import Tensor, nn

from network import Network, Shape, load, save
from strips import LEVELS, RECORD, by_level, by_width, decode, encode, frames, normalise

WARM_UP_STEPS = 300
LAST_RATE = 0.005  # share of the highest rate that is left at the end
AVERAGED_STEPS = 1000  # length of the moving average of the weights
READ_AT_ONCE = 32  # records
REPORT_SECONDS = 60
CHECKPOINT_SECONDS = 120


class Stream:
    """Reads records in a thread, which sleeps while `ahead` of them wait."""

    def __init__(self, source: BinaryIO, ahead: int) -> None:
        self.blocks: queue.Queue[np.ndarray | None] = queue.Queue(max(1, ahead // READ_AT_ONCE))
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def _read(self, source: BinaryIO) -> None:
        while len(block := source.read(READ_AT_ONCE * RECORD.itemsize)) == READ_AT_ONCE * RECORD.itemsize:
            self.blocks.put(np.frombuffer(block, RECORD))
        self.blocks.put(None)

    def take(self, most: int, least: int) -> np.ndarray:
        """Up to `most` records of those that are there; waits until there are `least`."""
        taken: list[np.ndarray] = []
        count = 0
        while count + READ_AT_ONCE <= most:
            try:
                block = self.blocks.get(block=count < least)
            except queue.Empty:
                break
            if block is None:
                raise SystemExit("the stream of strips has ended")
            taken.append(block)
            count += len(block)
        return np.concatenate(taken) if taken else np.zeros(0, RECORD)


class Pool:
    """The strips of one round of training. Those of the last round fill what the generator could not, `reuse` times at most."""

    def __init__(self, stream: Stream, size: int, reuse: int) -> None:
        self.stream, self.size, self.reuse = stream, size, reuse
        self.records = np.zeros(0, RECORD)
        self.uses = np.zeros(0, np.int64)
        self.fresh = 0

    def batches(self, batch: int, random: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One round: records of about the same width, and how often each was trained on before."""
        old = np.flatnonzero(self.uses < self.reuse)
        new = self.stream.take(self.size, least=self.size - len(old))
        old = old[np.argsort(self.uses[old], kind="stable")][: self.size - len(new)]
        self.records = np.concatenate([new, self.records[old]])
        self.uses = np.concatenate([np.zeros(len(new), np.int64), self.uses[old]])
        self.fresh += len(new)
        # Shuffled first, so that equally wide strips meet others in every round.
        mixed = random.permutation(len(self.records))
        groups = [mixed[group] for group in by_width(self.records[mixed], batch)]
        for group in random.permutation(len(groups)):
            chosen = groups[group]
            yield self.records[chosen], self.uses[chosen]
        self.uses += 1


def vary(x: Tensor, used: Tensor) -> Tensor:
    """Other contrast and other noise for strips that were trained on before; the padding stays 0."""
    gain = 1 + used * torch.empty(len(x), device=x.device).uniform_(-0.25, 0.25)
    noise = used * torch.empty(len(x), device=x.device).uniform_(0, 0.3)
    content = (x != 0).any(2, keepdim=True)
    return (x * gain.view(-1, 1, 1, 1) + torch.randn_like(x) * noise.view(-1, 1, 1, 1)) * content


class Trainer:
    """Network, optimiser, moving average and the place in the schedule: all that a checkpoint holds."""

    def __init__(self, options: argparse.Namespace, shape: Shape) -> None:
        self.options = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = Network(shape).to(self.device, memory_format=torch.channels_last)
        # Weight decay is for the kernels, not for scales and offsets.
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": kernels, "weight_decay": options.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98), fused=True)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.steps = self.strips = 0
        self.seconds = 0.0  # of training, without start-up

    def step(self, records: np.ndarray, uses: np.ndarray) -> Tensor:
        """One step on one batch; the loss in nats per character, not yet fetched from the device."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.rate * self.schedule()
        x = torch.from_numpy(normalise(records)).to(self.device, non_blocking=True)
        if uses.any():
            x = vary(x, torch.from_numpy(uses > 0).to(self.device))
        classes, lengths = map(torch.from_numpy, encode(records["text"]))
        with self.autocast():
            logits = self.network(x.contiguous(memory_format=torch.channels_last))
        likelihoods = logits.float().log_softmax(2).transpose(0, 1)
        losses = nn.functional.ctc_loss(
            likelihoods,
            classes.to(self.device),
            torch.from_numpy(frames(records)),
            lengths,
            reduction="none",
            zero_infinity=True,
        )
        # Summed over the batch, so that a strip without text weighs as much as one with text, not forty times as much.
        loss = losses.sum() / max(1, len(classes))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip)
        self.optimiser.step()
        self.steps += 1
        self.strips += len(records)
        self.move_average()
        return loss.detach()

    def progress(self) -> float:
        """The share of the budget that is spent."""
        o = self.options
        return self.steps / o.steps if o.steps else self.seconds / (60 * o.minutes)

    def schedule(self) -> float:
        """Linear warm-up, then half a cosine: the share of the highest rate."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress())))
        return min(1.0, (self.steps + 1) / WARM_UP_STEPS) * (LAST_RATE + (1 - LAST_RATE) * cosine)

    def autocast(self) -> contextlib.AbstractContextManager:
        if self.options.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @torch.no_grad()
    def move_average(self) -> None:
        share = max(1 / AVERAGED_STEPS, 9 / (10 + self.steps))
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values()):
            if mean.is_floating_point():
                mean.lerp_(value, share)

    @torch.inference_mode()
    def read(self, records: np.ndarray) -> list[bytes]:
        """What the averaged network reads, in full precision."""
        texts: list[bytes] = [b""] * len(records)
        for group in by_width(records, self.options.batch):
            x = torch.from_numpy(normalise(records[group])).to(self.device)
            logits = self.average(x.contiguous(memory_format=torch.channels_last))
            for index, text in zip(group, decode(logits.cpu().numpy())):
                texts[index] = text
        return texts

    def save(self, path: pathlib.Path) -> None:
        place = {"steps": self.steps, "strips": self.strips, "seconds": self.seconds}
        save(path, self.average, network=self.network.state_dict(), optimiser=self.optimiser.state_dict(), place=place)

    def restore(self, path: pathlib.Path, weights_only: bool) -> None:
        """Goes on from a checkpoint, or only starts from its averaged weights."""
        held = load(path)
        self.average.load_state_dict(held["average"])
        if weights_only:
            self.network.load_state_dict(held["average"])
            return
        self.network.load_state_dict(held["network"])
        self.optimiser.load_state_dict(held["optimiser"])
        vars(self).update(held["place"])


class Curve:
    """The training curve: `curve.csv` and the same on standard output."""

    def __init__(self, path: pathlib.Path, trainer: Trainer, pool: Pool, validation: np.ndarray) -> None:
        self.path, self.trainer, self.pool, self.validation = path, trainer, pool, validation
        self.first_strip = trainer.strips
        self.steps, self.seconds = trainer.steps, trainer.seconds

    def add(self, losses: list[Tensor]) -> None:
        """One row. `reuse`: how often a strip was trained on in this run; `read_in_no_mrz`: share of negatives with a character."""
        t = self.trainer
        elapsed = t.seconds - self.seconds
        started = time.monotonic()
        levels, lines, others = by_level(self.validation, t.read(self.validation))
        row = {
            "minutes": t.seconds / 60,
            "steps": t.steps,
            "strips": t.strips,
            "steps_per_second": (t.steps - self.steps) / elapsed if elapsed else 0.0,
            "reuse": (t.strips - self.first_strip) / max(1, self.pool.fresh),
            "validation_seconds": time.monotonic() - started,
            "loss": torch.stack(losses).mean().item() if losses else math.nan,
            "exact": lines.exact,
            "cer": lines.cer,
            "read_in_no_mrz": 1 - others.exact,
        }
        row |= {f"exact_{level}": of.exact for level, of in enumerate(levels)}
        row |= {f"cer_{level}": of.cer for level, of in enumerate(levels)}
        # The next row's steps per second are those of training alone.
        self.steps, self.seconds = t.steps, t.seconds + time.monotonic() - started
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if is_new:
                writer.writeheader()
            writer.writerow({name: round(value, 5) for name, value in row.items()})
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def train(options: argparse.Namespace, source: BinaryIO) -> None:
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    held = options.resume or options.init
    trainer = Trainer(options, Shape(**load(held)["shape"]) if held else Shape())
    if held:
        trainer.restore(held, weights_only=options.resume is None)
    pool = Pool(Stream(source, options.pool), options.pool, options.reuse)
    options.out.mkdir(parents=True, exist_ok=True)
    curve = Curve(options.out / "curve.csv", trainer, pool, np.fromfile(options.validation, RECORD))
    checkpoint = options.out / "checkpoint.pt"
    print(f"{sum(p.numel() for p in trainer.network.parameters())} parameters, {trainer.device}", flush=True)

    try:
        run_schedule(trainer, pool, curve, checkpoint, random)
    finally:
        trainer.save(checkpoint)


def run_schedule(
    trainer: Trainer, pool: Pool, curve: Curve, checkpoint: pathlib.Path, random: np.random.Generator
) -> None:
    """Trains until the budget is spent; reports and saves on the way."""
    losses: list[Tensor] = []
    before = reported = saved = trainer.seconds
    started = time.monotonic()
    while trainer.progress() < 1:
        for records, uses in pool.batches(trainer.options.batch, random):
            losses.append(trainer.step(records, uses))
            trainer.seconds = before + time.monotonic() - started
            if trainer.seconds - reported >= REPORT_SECONDS:
                curve.add(losses)
                losses.clear()
                reported = curve.seconds
            if trainer.seconds - saved >= CHECKPOINT_SECONDS:
                trainer.save(checkpoint)
                saved = trainer.seconds
            if trainer.progress() >= 1:
                break
    curve.add(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    path = pathlib.Path
    parser.add_argument("--generator", help="command that writes strips without end; else standard input")
    parser.add_argument("--validation", type=path, required=True, help="file of strips of another seed")
    parser.add_argument("--out", type=path, required=True, help="folder of the curve and the checkpoint")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="length of the schedule, with what was spent before --resume")
    budget.add_argument("--steps", type=int)
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", type=path, metavar="CHECKPOINT", help="go on where it stopped")
    start.add_argument("--init", type=path, metavar="CHECKPOINT", help="a new schedule from its weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--clip", type=float, default=1.0, help="highest norm of the gradient")
    parser.add_argument("--pool", type=int, default=1024, help="strips per round")
    parser.add_argument("--reuse", type=int, default=4, help="rounds that a strip may be in")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.generator is None:
        train(options, sys.stdin.buffer)
        return
    with subprocess.Popen(shlex.split(options.generator), stdout=subprocess.PIPE) as generator:
        try:
            train(options, generator.stdout)
        finally:
            generator.terminate()


if __name__ == "__main__":
    main()
