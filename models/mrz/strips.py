"""Strips as the generator writes them, what the network gets of them, and how well they were read."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from network import ALPHABET, CLASSES, HEIGHT, STRIDE, WIDTH_STEP

MAX_WIDTH = 640
LEVELS = 5
# One record of the stream of `cargo run --release --example training_data -- strips`, packed. `text` is empty where the strip
# shows no MRZ; `level` is the degradation, 0 clean to 4 very bad; columns from `width` on are 0.
RECORD = np.dtype([("text", "S48"), ("level", "u1"), ("width", "<u2"), ("pixels", "u1", (HEIGHT, MAX_WIDTH))])


def normalise(records: np.ndarray) -> np.ndarray:
    """Pixels to the input of the network, f32 `[N, 1, 32, W]`, (value - mean) / (deviation + 5) over the content columns.

    W is that of the widest strip, rounded up to a multiple of 64. The service does the same.
    """
    width = records["width"].astype(np.int64)
    batch_width = -(-int(width.max()) // WIDTH_STEP) * WIDTH_STEP
    x = records["pixels"][:, :, :batch_width].astype(np.float32)
    content = (np.arange(batch_width) < width[:, None])[:, None]
    count = (HEIGHT * width)[:, None, None]
    mean = x.sum((1, 2), keepdims=True, dtype=np.float64) / count
    deviation = np.sqrt((np.square(x - mean) * content).sum((1, 2), keepdims=True) / count)
    return ((x - mean) / (deviation + 5.0) * content).astype(np.float32)[:, None]


def encode(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes of all texts, one after another, and the length of each text."""
    table = np.zeros(256, np.int64)
    table[np.frombuffer(ALPHABET.encode(), np.uint8)] = np.arange(1, CLASSES)
    joined = b"".join(texts.tolist())
    return table[np.frombuffer(joined, np.uint8)], np.array([len(t) for t in texts.tolist()], np.int64)


def frames(records: np.ndarray) -> np.ndarray:
    """Frames with content of each strip."""
    return -(-records["width"].astype(np.int64) // STRIDE)


def decode(scores: np.ndarray) -> list[bytes]:
    """The likeliest class of every frame of `[N, T, 38]`, repetitions and blanks taken out."""
    best = scores.argmax(2)
    kept = best != 0
    kept[:, 1:] &= best[:, 1:] != best[:, :-1]
    symbols = np.frombuffer(b"-" + ALPHABET.encode(), np.uint8)[best]
    return [line[keep].tobytes() for line, keep in zip(symbols, kept)]


def by_width(records: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Indices of batches of strips of about the same width, narrow ones first."""
    order = np.argsort(records["width"], kind="stable")
    for start in range(0, len(order), batch):
        yield order[start : start + batch]


def edits(a: bytes, b: bytes) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        left, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            left, row[j + 1] = row[j + 1], min(left + (x != y), row[j] + 1, row[j + 1] + 1)
    return row[-1]


@dataclass
class Score:
    """How a set of strips was read."""

    strips: int
    exact: float  # share of strips read without an error
    cer: float  # edits per character of the true texts; NaN where all of them are empty


def score(truth: np.ndarray, read: list[bytes]) -> Score:
    texts = truth.tolist()
    if not texts:
        return Score(0, float("nan"), float("nan"))
    exact = sum(a == b for a, b in zip(texts, read)) / len(texts)
    length = sum(map(len, texts))
    wrong = sum(edits(a, b) for a, b in zip(texts, read) if a != b)
    return Score(len(texts), exact, wrong / length if length else float("nan"))


def by_level(records: np.ndarray, read: list[bytes]) -> tuple[list[Score], Score, Score]:
    """Scores of the lines of each level, of all lines, and of the strips that are no MRZ (exact: nothing was read)."""
    read_array = np.array(read, dtype=object)
    is_line = records["text"] != b""

    def of(chosen: np.ndarray) -> Score:
        return score(records["text"][chosen], read_array[chosen].tolist())

    levels = [of(is_line & (records["level"] == level)) for level in range(LEVELS)]
    return levels, of(is_line), of(~is_line)
