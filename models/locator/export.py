"""Turns a checkpoint into the ONNX file of the service, checks it against the network and measures it.

    python export.py runs/1/checkpoint.pt page_locator.onnx

Input `picture` f32 `[n, 3, h, w]`, h and w multiples of 32; outputs `page` f32 `[n, 3, h/4, w/4]`, the probability of the page, u and v, and
`fine` f32 `[n, 2, h/2, w/2]`, the probabilities of its border and of the lines of its zone. Batch normalisation is folded into the
convolutions.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from network import Network, trained

OPSET = 17
# What differs is the order of summation, and the folded scales.
TOLERANCE = 1e-3


class Probabilities(nn.Module):
    """The network as the service sees it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        page, fine = self.network(picture)
        return torch.cat([page[:, :1].sigmoid(), page[:, 1:]], 1), fine.sigmoid()


def fold(module: nn.Module) -> nn.Module:
    """Puts each batch normalisation into the convolution before it."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and [type(m) for m in child] == [nn.Conv2d, nn.BatchNorm2d]:
            setattr(module, name, fuse_conv_bn_eval(child[0], child[1]))
        else:
            fold(child)
    return module


def write(network: Network, path: pathlib.Path) -> None:
    with warnings.catch_warnings():
        # The older exporter: deprecated, but it needs no further package and its graph is plain.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Probabilities(fold(network)).eval(),
            (torch.randn(1, 3, 192, 320),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["picture"],
            output_names=["page", "fine"],
            dynamic_axes={name: {0: "n", 2: f"{name}_h", 3: f"{name}_w"} for name in ("picture", "page", "fine")},
        )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def session(path: pathlib.Path) -> onnxruntime.InferenceSession:
    """One thread on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check(network: Network, path: pathlib.Path) -> None:
    """Prints what the model card says of the file; fails if the file is not the network."""
    run = session(path)
    x = np.random.default_rng(1).standard_normal((8, 3, 192, 320), np.float32)
    together = run.run(None, {"picture": x})
    with torch.inference_mode():
        expected = [part.numpy() for part in Probabilities(network)(torch.from_numpy(x))]
    difference = max(np.abs(a - b).max() for a, b in zip(together, expected))
    alone = max(
        np.abs(a[0] - b[index]).max() for index in range(8) for a, b in zip(run.run(None, {"picture": x[index : index + 1]}), together)
    )
    print(f"parameters           {sum(p.numel() for p in network.parameters())}")
    print(f"file                 {path.stat().st_size} bytes")
    print(f"from the network     {difference:.1e}")
    print(f"alone, not in batch  {alone:.1e}")
    for height, width in ((192, 320), (320, 320), (384, 640)):
        picture = np.zeros((1, 3, height, width), np.float32)
        times = []
        for _ in range(30):
            started = time.perf_counter()
            run.run(None, {"picture": picture})
            times.append((time.perf_counter() - started) * 1e3)
        print(f"{width} × {height}            {np.median(times):.2f} ms median, {min(times):.2f} shortest")
    if max(difference, alone) > TOLERANCE:
        raise SystemExit("the file does not compute what the network computes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("onnx", type=pathlib.Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    write(trained(options.checkpoint), options.onnx)
    check(trained(options.checkpoint), options.onnx)


if __name__ == "__main__":
    main()
