"""Turns a checkpoint into the ONNX file of the service, checks it against the network and measures it.

    python export.py runs/1/checkpoint.pt mrz_line.onnx
    python export.py runs/1/checkpoint.pt mrz_line_int8.onnx --int8 validation.strips

Input `strip` f32 `[n, 1, 32, w]`, w a multiple of 64; output `probabilities` f32 `[n, w/4, 38]`. Batch normalisation is folded into
the convolutions. `--int8` makes an 8-bit file as well as the checks, its ranges measured on the strips given.
"""

import argparse
import pathlib
import tempfile
import time
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from network import CLASSES, HEIGHT, Network, trained
from strips import RECORD, by_width, normalise

OPSET = 17
# What differs is the order of summation, and the folded scales.
TOLERANCE = 1e-4
BENCHMARK_WIDTH = 576
CALIBRATION_STRIPS = 512


class Probabilities(nn.Module):
    """The network as the service sees it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, strip: Tensor) -> Tensor:
        return self.network(strip).softmax(2)


def fold(module: nn.Module) -> nn.Module:
    """Puts each batch normalisation into the convolution before it."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and [type(m) for m in child] == [nn.Conv2d, nn.BatchNorm2d]:
            setattr(module, name, fuse_conv_bn_eval(child[0], child[1]))
        else:
            fold(child)
    return module


def write(network: Network, path: pathlib.Path) -> None:
    example = torch.randn(1, 1, HEIGHT, 128)
    with warnings.catch_warnings():
        # The older exporter: deprecated, but it needs no further package and its graph is plain.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Probabilities(fold(network)).eval(),
            (example,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["strip"],
            output_names=["probabilities"],
            dynamic_axes={"strip": {0: "n", 3: "w"}, "probabilities": {0: "n", 1: "t"}},
        )
    model = onnx.load(path)
    # The exporter loses it behind the reshaping.
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = CLASSES
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def quantise(source: pathlib.Path, path: pathlib.Path, calibration: np.ndarray) -> None:
    """8-bit convolutions, weights per channel; what is not a convolution stays as it is."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            batches = by_width(calibration[:CALIBRATION_STRIPS], 16)
            self.inputs = ({"strip": normalise(calibration[group])} for group in batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.inputs, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = pathlib.Path(folder) / "prepared.onnx"
        quantization.shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            Reader(),
            per_channel=True,
            op_types_to_quantize=["Conv"],
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


def session(path: pathlib.Path) -> onnxruntime.InferenceSession:
    """One thread on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def milliseconds(run: onnxruntime.InferenceSession, batch: int, width: int) -> tuple[float, float]:
    """Shortest and median time per strip."""
    x = np.random.default_rng(0).standard_normal((batch, 1, HEIGHT, width), np.float32)
    times = []
    for _ in range(max(8, 64 // batch)):
        started = time.perf_counter()
        run.run(None, {"strip": x})
        times.append((time.perf_counter() - started) / batch * 1e3)
    return min(times), float(np.median(times))


def check(network: Network, path: pathlib.Path, is_exact: bool) -> None:
    """Prints what the model card says of the file; fails if an fp32 file is not the network."""
    run = session(path)
    random = np.random.default_rng(1)
    # Strips of 192 to 576 columns of content in a batch of 576; the last has no padding at all.
    strips = random.standard_normal((8, 1, HEIGHT, BENCHMARK_WIDTH), np.float32)
    widths = np.linspace(192, BENCHMARK_WIDTH, len(strips)).astype(int)
    for strip, width in zip(strips, widths):
        strip[..., width:] = 0
    (found,) = run.run(None, {"strip": strips})
    with torch.inference_mode():
        expected = Probabilities(network)(torch.from_numpy(strips)).numpy()
    difference = np.abs(found - expected).max()
    alone = padding = 0.0
    for strip, width, together in zip(strips, widths, found):
        (single,) = run.run(None, {"strip": strip[None]})
        alone = max(alone, np.abs(single[0] - together).max())
        for least in (-(-width // 64) * 64, 640):
            padded = np.zeros((1, 1, HEIGHT, least), np.float32)
            padded[..., :width] = strip[..., :width]
            (other,) = run.run(None, {"strip": padded})
            count = min(other.shape[1], together.shape[0])
            padding = max(padding, np.abs(other[0, :count] - together[:count]).max())
    print(f"parameters           {sum(p.numel() for p in network.parameters())}")
    print(f"file                 {path.stat().st_size} bytes")
    print(f"from the network     {difference:.1e}")
    print(f"alone, not in batch  {alone:.1e}")
    print(f"other padding        {padding:.1e}")
    for batch in (1, 8, 32):
        shortest, median = milliseconds(run, batch, BENCHMARK_WIDTH)
        print(f"batch of {batch:2}          {shortest:.2f} ms a strip of {BENCHMARK_WIDTH}, median {median:.2f}")
    if is_exact and max(difference, alone, padding) > TOLERANCE:
        raise SystemExit("the file does not compute what the network computes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("onnx", type=pathlib.Path)
    parser.add_argument("--int8", type=pathlib.Path, metavar="STRIPS", help="8-bit, calibrated on these strips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.int8 is None:
        write(trained(options.checkpoint), options.onnx)
    else:
        with tempfile.TemporaryDirectory() as folder:
            full = pathlib.Path(folder) / "full.onnx"
            write(trained(options.checkpoint), full)
            quantise(full, options.onnx, np.fromfile(options.int8, RECORD))
    check(trained(options.checkpoint), options.onnx, is_exact=options.int8 is None)


if __name__ == "__main__":
    main()
