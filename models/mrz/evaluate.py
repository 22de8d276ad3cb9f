"""How well an ONNX file reads a file of strips.

    python evaluate.py mrz_line.onnx validation.strips [--errors 20]

Lines by level of degradation and by length: share read without an error, edits per character. Strips that are no MRZ: share in
which a character was read. Decoding is greedy: no grammar, no check digits.
"""

import argparse
import pathlib

import numpy as np

from export import session
from strips import LEVELS, RECORD, Score, by_level, by_width, decode, normalise, score


def read(path: pathlib.Path, records: np.ndarray) -> list[bytes]:
    run = session(path)
    texts: list[bytes] = [b""] * len(records)
    for group in by_width(records, 8):
        (probabilities,) = run.run(None, {"strip": normalise(records[group])})
        for index, text in zip(group, decode(probabilities)):
            texts[index] = text
    return texts


def show(name: str, of: Score) -> None:
    if of.strips:
        print(f"{name:14} {of.strips:6} strips  exact {of.exact:7.2%}  edits per character {of.cer:.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", type=pathlib.Path)
    parser.add_argument("strips", type=pathlib.Path)
    parser.add_argument("--errors", type=int, default=0, metavar="N", help="show the first N lines misread")
    options = parser.parse_args()
    records = np.fromfile(options.strips, RECORD)
    texts = read(options.onnx, records)
    levels, lines, others = by_level(records, texts)
    for level in range(LEVELS):
        show(f"level {level}", levels[level])
    lengths = np.array([len(text) for text in records["text"].tolist()])
    array = np.array(texts, dtype=object)
    for length in np.unique(lengths[lengths > 0]):
        chosen = lengths == length
        show(f"{length} characters", score(records["text"][chosen], array[chosen].tolist()))
    pitch = records["width"] / np.maximum(1, lengths)
    for low, high in ((0, 10), (10, 11), (11, 13), (13, 99)):
        chosen = (lengths > 0) & (pitch >= low) & (pitch < high)
        show(f"pitch {low}-{high}", score(records["text"][chosen], array[chosen].tolist()))
    show("all lines", lines)
    if others.strips:
        print(f"{'no MRZ':14} {others.strips:6} strips  read something in {1 - others.exact:.2%}")
    wrong = [(a, b) for a, b in zip(records["text"].tolist(), texts) if a != b]
    for truth, text in wrong[: options.errors]:
        print(f"\n{truth.decode()}\n{text.decode()}")


if __name__ == "__main__":
    main()
