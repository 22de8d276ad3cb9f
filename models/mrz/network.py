"""The recogniser of one line of a machine-readable zone: alphabet, network and checkpoints.

A strip is one line, 32 px high, characters nominally 12 px apart, in the columns 0..width; what is right of them is zero. The
network is convolutional throughout, because characters of an MRZ stand at a fixed pitch and no language model is wanted: a
trunk of plain convolutions reads shapes, a head of long convolutions along the line sees some nine characters to either side, which
keeps count in a run of `<` when single ones can hardly be told apart. Trained with CTC (Graves et al. 2006).
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Class 0 is the blank of CTC; class i is ALPHABET[i - 1].
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789<"
CLASSES = 1 + len(ALPHABET)
HEIGHT = 32
# Columns of a strip per frame of the output.
STRIDE = 4
# A batch is as wide as its widest strip, rounded up to this.
WIDTH_STEP = 64


@dataclass(frozen=True)
class Shape:
    """What a checkpoint must know to build its network again. The defaults are the shipped network."""

    stem: int = 16
    tall: int = 48  # channels at 8 rows
    middle: int = 64  # at 4 rows
    low: int = 128  # at 2 rows
    line: int = 256  # at 1 row
    line_blocks: int = 4
    line_kernel: int = 15


def convolution(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), groups: int = 1
) -> nn.Sequential:
    """Convolution with zero padding along the line and, for odd heights, across it; then batch normalisation."""
    padding = (kernel[0] // 2 if kernel[0] % 2 else 0, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels, (3, 3))
        self.second = convolution(channels, channels, (3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class LineBlock(nn.Module):
    """One long convolution along the line per channel, then a mix of the channels, beside a shortcut."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.along = nn.Conv2d(channels, channels, (1, kernel), padding=(0, kernel // 2), groups=channels, bias=False)
        self.mix = convolution(channels, channels, (1, 1))

    def forward(self, x: Tensor, content: Tensor) -> Tensor:
        return torch.relu(x + self.mix(self.along(x * content)))


class Network(nn.Module):
    """Strips f32 `[N, 1, 32, W]`, normalised, W a multiple of 4, to logits `[N, W/4, 38]`.

    Frames without content are blank, and the frames with content do not depend on how much padding is right of them:
    - The trunk sees `reach` columns on each side of a frame. As many zeros are appended to every strip and cut off again, so that
      its own zero padding, which is not what it makes of a padded strip, stays out of sight. The left edge is always content.
    - The head sees farther. Its long convolutions get frames without content as zeros, the same as beyond the end.
    A frame has content if one of its pixels is not exactly 0. No statistics are taken over a strip or a batch.
    """

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        self.shape = shape
        relu = nn.ReLU
        self.trunk = nn.Sequential(
            convolution(1, shape.stem, (3, 3), (2, 2)),
            relu(),
            convolution(shape.stem, shape.tall, (3, 3), (2, 2)),
            relu(),
            Residual(shape.tall),
            convolution(shape.tall, shape.middle, (3, 3), (2, 1)),
            relu(),
            Residual(shape.middle),
            convolution(shape.middle, shape.low, (3, 3), (2, 1)),
            relu(),
            convolution(shape.low, shape.line, (2, 1)),
            relu(),
        )
        # 1 px for the stem, 2 for the next, 4 for each of the six others.
        self.reach = 32
        self.head = nn.ModuleList(LineBlock(shape.line, shape.line_kernel) for _ in range(shape.line_blocks))
        self.classes = nn.Conv2d(shape.line, CLASSES, 1)

    def forward(self, strip: Tensor) -> Tensor:
        content = (nn.functional.max_pool2d(strip.abs(), (HEIGHT, STRIDE)) > 0).to(strip.dtype)
        x = self.trunk(nn.functional.pad(strip, (0, self.reach)))[..., : -(self.reach // STRIDE)]
        for block in self.head:
            x = block(x, content)
        # Where there is no content the classes are level but for the blank, which is far above.
        logits = self.classes(x) * content
        blank = nn.functional.pad(30.0 * (1.0 - content), (0, 0, 0, 0, 0, CLASSES - 1))
        return (logits + blank).squeeze(2).transpose(1, 2)


def save(path: Path, average: Network, **state: Any) -> None:
    """Writes a checkpoint, whole or not at all: the averaged weights and whatever else training needs to go on."""
    unfinished = path.with_suffix(".part")
    torch.save({"shape": asdict(average.shape), "average": average.state_dict(), **state}, unfinished)
    unfinished.replace(path)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint as `save` wrote it, on the CPU."""
    return torch.load(path, map_location="cpu", weights_only=True)


def trained(path: Path) -> Network:
    """The averaged network of a checkpoint, ready to read."""
    held = load(path)
    network = Network(Shape(**held["shape"]))
    network.load_state_dict(held["average"])
    return network.eval().requires_grad_(False)
