"""Measures a checkpoint of the locator on thumbnails of a seed that it was not trained on.

    python evaluate.py runs/1/checkpoint.pt test.thumbnails
"""

import argparse
import pathlib
from collections import defaultdict

import numpy as np
import torch

from network import Network, trained
from thumbnails import FRAMINGS, Thumbnail, corners, pictures, read, targets

# Share of the diagonal of the document by which no corner may be off.
NEAR = 0.01


@torch.inference_mode()
def answers(network: Network, thumbnails: list[Thumbnail], batch: int = 16) -> list[tuple[np.ndarray, np.ndarray]]:
    """The page's map and the fine maps of each, as logits."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, thumbnail in enumerate(thumbnails):
        groups[thumbnail.canvas].append(index)
    found: list = [None] * len(thumbnails)
    for indices in groups.values():
        for start in range(0, len(indices), batch):
            chosen = indices[start : start + batch]
            page, fine = network(pictures([thumbnails[index] for index in chosen]))
            for index, page_map, fine_map in zip(chosen, page.numpy(), fine.numpy()):
                found[index] = (page_map, fine_map)
    return found


def measure(network: Network, thumbnails: list[Thumbnail]) -> dict[str, float]:
    """Over photographs and turned ones: shares with every corner near and with the right side up, where all corners are in the picture
    and where not. `lines`: intersection over union of the lines of zones, over all."""
    counts: dict[str, list[float]] = defaultdict(list)
    overlap = union = 0.0
    for thumbnail, (page, fine) in zip(thumbnails, answers(network, thumbnails)):
        size = tuple(int(side) for side in thumbnail.head["size"])
        truth = thumbnail.head["quads"][0]
        framing = FRAMINGS[thumbnail.head["framing"]]
        wanted = targets([thumbnail])
        line = wanted.fine[0, 1].numpy() > 0.5
        seen = (fine[1] > 0) & (wanted.fine_inside[0].numpy() > 0)
        overlap += (line & seen).sum()
        union += (line | seen).sum()
        quad = corners(page, size)
        if framing == "absent":
            counts["false_document"].append(quad is not None)
        elif framing != "close":
            off = np.hypot(*(truth - quad).T) if quad is not None else np.full(4, 1e9)
            diagonal = np.hypot(*(truth[2] - truth[0]))
            is_inside = ((truth >= 0) & (truth <= size)).all()
            kind = framing if is_inside or framing == "whole" else "cut"
            counts[f"near_{kind}"].append(off.max() <= NEAR * diagonal)
            counts[f"near2_{kind}"].append(off.max() <= 2 * NEAR * diagonal)
            counts[f"off_{kind}"].append(min(1.0, off.max() / diagonal))
            counts["upright"].append(off.max() < 0.35 * diagonal)
    names = [f"{what}_{kind}" for kind in ("photograph", "again", "turned", "cut", "whole") for what in ("near", "near2", "off")]
    reduce = {name: (np.median if name.startswith("off") else np.mean) for name in names}
    row = {name: float(reduce[name](counts[name])) if counts[name] else float("nan") for name in names}
    row["upright"] = float(np.mean(counts["upright"]))
    row["false_document"] = float(np.mean(counts["false_document"])) if counts["false_document"] else float("nan")
    return row | {"lines": float(overlap / max(1.0, union))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("thumbnails", type=pathlib.Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with options.thumbnails.open("rb") as file:
        thumbnails = list(read(file))
    for name, value in measure(trained(options.checkpoint), thumbnails).items():
        print(f"{name:18} {value:.4f}")


if __name__ == "__main__":
    main()
