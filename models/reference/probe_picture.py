"""The probe picture of src/models/probe.rs in numpy. Run by itself it prints the values that a unit test there expects."""

import numpy as np


def mix(x, y, c):
    """A 0..255 hash of three arrays of uint32 (spatial hashing after Teschner et al. 2003, MurmurHash2's finish)."""
    x, y, c = (np.asarray(v, np.uint32) for v in (x, y, c))
    with np.errstate(over="ignore"):
        h = x * np.uint32(73856093) ^ y * np.uint32(19349663) ^ c * np.uint32(83492791)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0x5BD1E995)
    return (h ^ (h >> np.uint32(15))) & np.uint32(255)


def value(x, y, c):
    x, y, c = (np.asarray(v, np.uint32) for v in (x, y, c))
    blocks = mix(x >> np.uint32(4), y >> np.uint32(4), c)
    return ((np.uint32(3) * blocks + mix(x, y, c + np.uint32(3))) // np.uint32(4)).astype(np.uint8)


def pixels(size, channels=3):
    """The picture as it is, 0..255: `[height, width, channels]`."""
    width, height = size
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    return value(x, y, c)


def tensor(spec, size):
    """The picture as the input of a model: `spec` is the manifest's `input`, `size` is [width, height]. Batch of one."""
    channels = 1 if spec["colour"] == "grey" else 3
    picture = pixels(size, channels).astype(np.float32)
    picture = (picture - np.float32(spec["mean"][:channels])) * np.float32(spec["scale"][:channels])
    if spec["layout"] == "nchw":
        picture = picture.transpose(2, 0, 1)
    return np.ascontiguousarray(picture[None])


if __name__ == "__main__":
    points = [(0, 0, 0), (1, 0, 0), (0, 1, 2), (17, 40, 1), (639, 639, 2)]
    print([int(value(np.uint32(x), np.uint32(y), np.uint32(c))) for x, y, c in points])
