"""The locator: where the document and the lines of its machine-readable zone lie in a small picture.

A picture of 320 px has a canvas whose sides are multiples of 32. Every cell of 4 × 4 px says whether it shows the document and, if so,
which point of the page it shows: `u` from its left to its right, `v` from its top to its bottom, 0..1. A page turned by a half turn has
its `u` and `v` turned with it, so that one map tells the place, the perspective and the upright direction, also of a page whose corners
are hidden or outside of the picture. Twice as fine are the border of the page and the lines of the zone.

Convolutional throughout, encoder and decoder with shortcuts (Ronneberger et al., "U-Net", 2015); long convolutions at the coarsest level
see the whole picture.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Sides of the canvas are multiples of this.
CANVAS_STEP = 32
# Pixels of a cell of the page's map, and of one of the maps of border and lines.
CELL = 4
FINE_CELL = 2
# Input: (value - MEAN) / DEVIATION of red, green and blue.
MEAN = 127.5
DEVIATION = 64.0


@dataclass(frozen=True)
class Shape:
    """What a checkpoint must know to build its network again. The defaults are the shipped network."""

    stem: int = 16
    fine: int = 32  # channels at a quarter of the size
    middle: int = 64  # an eighth
    coarse: int = 96
    coarsest: int = 128
    wide_blocks: int = 4
    wide_kernel: int = 7


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution with zero padding, then batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels, 3)
        self.second = convolution(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class WideBlock(nn.Module):
    """One large convolution per channel, then a mix of the channels, beside a shortcut."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.mix = convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.mix(self.around(x)))


class Down(nn.Sequential):
    """Half the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(convolution(inputs, outputs, 3, 2), nn.ReLU())


class Up(nn.Module):
    """Twice the size, with what the encoder saw there."""

    def __init__(self, inputs: int, beside: int, outputs: int) -> None:
        super().__init__()
        self.reduce = convolution(inputs, outputs, 1)
        self.beside = convolution(beside, outputs, 1)
        self.join = convolution(outputs, outputs, 3)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        x = nn.functional.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest")
        return torch.relu(self.join(torch.relu(x + self.beside(beside))))


class Network(nn.Module):
    """Pictures f32 `[N, 3, H, W]`, normalised, to the page `[N, 3, H/4, W/4]`, a logit, u and v, and the fine maps `[N, 2, H/2, W/2]`,
    logits of the border of the page and of the lines of the zone. No statistics are taken over a picture or a batch."""

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        self.shape = s = shape
        self.stem = Down(3, s.stem)
        self.fine = nn.Sequential(Down(s.stem, s.fine), Residual(s.fine))
        self.middle = nn.Sequential(Down(s.fine, s.middle), Residual(s.middle))
        self.coarse = nn.Sequential(Down(s.middle, s.coarse), Residual(s.coarse))
        wide = [WideBlock(s.coarsest, s.wide_kernel) for _ in range(s.wide_blocks)]
        self.coarsest = nn.Sequential(Down(s.coarse, s.coarsest), *wide)
        self.to_coarse = Up(s.coarsest, s.coarse, s.middle)
        self.to_middle = Up(s.middle, s.middle, s.middle)
        self.last = Up(s.middle, s.fine, s.fine)
        self.deep = Residual(s.fine)
        self.maps = nn.Conv2d(s.fine, 3 + 2 * (CELL // FINE_CELL) ** 2, 1)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(self.stem(picture))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        x = self.to_coarse(self.coarsest(coarse), coarse)
        x = self.deep(self.last(self.to_middle(x, middle), fine))
        # Places need more digits than bfloat16 has.
        with torch.autocast(picture.device.type, enabled=False):
            maps = self.maps(x.float())
        return maps[:, :3], nn.functional.pixel_shuffle(maps[:, 3:], CELL // FINE_CELL)


def save(path: Path, average: Network, **state: Any) -> None:
    """Writes a checkpoint, whole or not at all: the averaged weights and whatever else training needs to go on."""
    unfinished = path.with_suffix(".part")
    torch.save({"shape": asdict(average.shape), "average": average.state_dict(), **state}, unfinished)
    unfinished.replace(path)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint as `save` wrote it, on the CPU."""
    return torch.load(path, map_location="cpu", weights_only=True)


def trained(path: Path) -> Network:
    """The averaged network of a checkpoint, ready to be asked."""
    held = load(path)
    network = Network(Shape(**held["shape"]))
    network.load_state_dict(held["average"])
    return network.eval().requires_grad_(False)
