"""Small photographs as the generator writes them, what the network gets of them and should say, and the place that its answer means."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from network import CANVAS_STEP, CELL, DEVIATION, FINE_CELL, MEAN

LINES = 3
# What comes before the pixels of a record of `cargo run --release --example training_data -- thumbnails`.
HEAD = np.dtype([
    ("size", "<u2", 2), ("level", "u1"), ("framing", "u1"), ("has_document", "u1"), ("lines", "u1"),
    ("quads", "<f4", (1 + LINES, 4, 2)),
])  # fmt: skip
FRAMINGS = ("photograph", "turned", "close", "whole", "absent", "again")
# A cell counts for the page from this probability on.
MIN_PROBABILITY = 0.5
# As the daemon asks.
MIN_CELLS = 50


@dataclass
class Thumbnail:
    """A picture `[H, W, 3]` and the truth about it."""

    pixels: np.ndarray
    head: np.void

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the input that it needs."""
        height, width = self.pixels.shape[:2]
        return -(-height // CANVAS_STEP) * CANVAS_STEP, -(-width // CANVAS_STEP) * CANVAS_STEP


def read(source: BinaryIO) -> Iterator[Thumbnail]:
    """The records of a stream."""
    while len(head := source.read(HEAD.itemsize)) == HEAD.itemsize:
        known = np.frombuffer(head, HEAD)[0]
        width, height = (int(side) for side in known["size"])
        pixels = source.read(width * height * 3)
        if len(pixels) < width * height * 3:
            return
        yield Thumbnail(np.frombuffer(pixels, np.uint8).reshape(height, width, 3), known)


def pictures(batch: list[Thumbnail]) -> Tensor:
    """The input of the network for pictures of one canvas, `[N, 3, H, W]`; the canvas is black outside of the picture."""
    height, width = batch[0].canvas
    canvas = np.zeros((len(batch), height, width, 3), np.uint8)
    for target, thumbnail in zip(canvas, batch):
        h, w = thumbnail.pixels.shape[:2]
        target[:h, :w] = thumbnail.pixels
    return normalise(torch.from_numpy(canvas).permute(0, 3, 1, 2))


def normalise(canvas: Tensor) -> Tensor:
    return (canvas.float() - MEAN) / DEVIATION


def vary(x: Tensor) -> Tensor:
    """Some pictures are grey, all have other colours and another contrast than the camera gave."""
    n, random = len(x), torch.rand
    grey = x.mean(1, keepdim=True).expand_as(x)
    x = torch.where(random(n, 1, 1, 1) < 0.15, grey, x)
    gain = torch.empty(n, 3, 1, 1).uniform_(0.9, 1.1) * torch.empty(n, 1, 1, 1).uniform_(0.7, 1.3)
    return x * gain + torch.empty(n, 3, 1, 1).uniform_(-0.1, 0.1) + torch.empty(n, 1, 1, 1).uniform_(-0.3, 0.3)


def centres(height: int, width: int, cell: int) -> Tensor:
    """Places of the cells of a map, `[2, height / cell, width / cell]`, x and y."""
    y, x = torch.meshgrid(torch.arange(height // cell), torch.arange(width // cell), indexing="ij")
    return (torch.stack([x, y]).float() + 0.5) * cell


def depth(quads: Tensor, places: Tensor) -> Tensor:
    """How far places `[2, h, w]` lie inside of clockwise quadrilaterals `[..., 4, 2]` (negative: outside), `[..., h, w]`."""
    after = quads.roll(-1, -2)
    along = after - quads
    length = along.norm(dim=-1).clamp(min=1e-3)
    normal = torch.stack([-along[..., 1], along[..., 0]], -1) / length[..., None]
    shift = (normal * quads).sum(-1)
    distance = torch.einsum("...kc,chw->...khw", normal, places) - shift[..., None, None]
    return distance.amin(-3)


def to_page(quads: Tensor) -> Tensor:
    """The maps `[N, 3, 3]` from the picture to the page's u and v."""
    n = len(quads)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    x, y = quads.double().unbind(-1)
    u, v = corners.T[:, None].expand(2, n, 4)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    solved = torch.linalg.solve(torch.cat([rows_u, rows_v], 1), torch.cat([u, v], 1))
    return torch.cat([solved, torch.ones(n, 1, dtype=torch.float64)], 1).reshape(n, 3, 3)


@dataclass
class Targets:
    """What the network should say, and where it is asked (1 inside the picture)."""

    page: Tensor  # [N, h, w] share of the cell
    places: Tensor  # [N, 2, h, w] u and v
    inside: Tensor  # [N, h, w]
    fine: Tensor  # [N, 2, 2h, 2w] border and lines
    fine_inside: Tensor  # [N, 2h, 2w]


def targets(batch: list[Thumbnail]) -> Targets:
    height, width = batch[0].canvas
    heads = np.stack([thumbnail.head for thumbnail in batch])
    quads = torch.from_numpy(heads["quads"].copy())
    has = torch.from_numpy(heads["has_document"].astype(bool))
    # A page anywhere stands in for none, so that the maps exist; it is not asked about.
    stand_in = torch.tensor([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    document = torch.where(has[:, None, None], quads[:, 0], stand_in)
    coarse, fine = centres(height, width, CELL), centres(height, width, FINE_CELL)
    page = (depth(document, coarse) / CELL + 0.5).clamp(0, 1) * has[:, None, None]
    seen = torch.einsum("nij,jhw->nihw", to_page(document).float(), torch.cat([coarse, torch.ones_like(coarse[:1])]))
    places = seen[:, :2] / seen[:, 2:].clamp(min=1e-3)
    # A pixel to either side of it.
    border = (1.5 - depth(document, fine).abs() / FINE_CELL).clamp(0, 1) * has[:, None, None]
    is_line = torch.arange(LINES) < torch.from_numpy(heads["lines"].astype(np.int64))[:, None]
    safe = torch.where(is_line[..., None, None], quads[:, 1:], stand_in)
    lines = ((depth(safe, fine) / FINE_CELL + 0.5).clamp(0, 1) * is_line[..., None, None]).amax(1)
    sizes = torch.from_numpy(heads["size"].astype(np.int64))

    def inside(at: Tensor) -> Tensor:
        return ((at[0] < sizes[:, :1, None]) & (at[1] < sizes[:, 1:, None])).float()

    return Targets(page, places, inside(coarse), torch.stack([border, lines], 1), inside(fine))


def corners(page: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """The page's corners from its map `[3, h, w]` (logit, u, v) of a picture of a width and height: the perspective that fits best."""
    h, w = page.shape[1:]
    y, x = np.mgrid[:h, :w]
    x, y = (x + 0.5) * CELL, (y + 0.5) * CELL
    probability = 1 / (1 + np.exp(-np.clip(page[0], -60, 60)))
    chosen = (probability > MIN_PROBABILITY) & (x < size[0]) & (y < size[1])
    if chosen.sum() < MIN_CELLS:
        return None
    x, y, u, v, weight = (part[chosen].astype(np.float64) for part in (x, y, page[1], page[2], probability))
    scale = max(size)
    x, y, u, v = x / scale - 0.5, y / scale - 0.5, u - 0.5, v - 0.5
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows = np.stack([
        np.stack([u, v, one, zero, zero, zero, -x * u, -x * v, -x], 1),
        np.stack([zero, zero, zero, u, v, one, -y * u, -y * v, -y], 1),
    ])  # fmt: skip
    wanted = np.array([[-0.5, -0.5, 1], [0.5, -0.5, 1], [0.5, 0.5, 1], [-0.5, 0.5, 1]])
    for _ in range(4):
        weighted = (rows * weight[None, :, None]).reshape(-1, 9)
        found = np.linalg.eigh(weighted.T @ weighted)[1][:, 0].reshape(3, 3)
        seen = np.stack([u, v, one], 1) @ found.T
        off = np.hypot(seen[:, 0] / seen[:, 2] - x, seen[:, 1] / seen[:, 2] - y)
        # Half as much where it is off by a pixel or two (Cauchy's weights).
        weight = probability[chosen] / (1 + (off * scale / 2.0) ** 2)
    at = wanted @ found.T
    return (at[:, :2] / at[:, 2:] + 0.5) * scale
