"""Writes probes.toml: what each model gives for the probe picture in its own runtime, before any conversion.

    python3 -m pip install --target DEPS -r requirements.txt && npm install
    PYTHONPATH=DEPS python3 reference.py CACHE > probes.toml

CACHE is the directory of fetched files that `vouch models pull --cache CACHE` leaves; files in it are named by their SHA-256.
The source runtimes are ONNX Runtime for ONNX files, OpenCV's dnn module for the 8-bit form of SFace (which was made
for it), LiteRT for TensorFlow Lite, TensorFlow.js (through faceres.mjs) and dlib for their own formats.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import tomllib

import numpy as np

from probe_picture import pixels, tensor

HERE = pathlib.Path(__file__).resolve().parent
SAMPLES = 16
# For the sides that the manifest leaves free. YuNet's source file has this fixed size.
ANY_SIZE = [640, 640]
# Largest difference allowed, as a share of the largest absolute value of the output. Conversions keep every weight, so that
# what remains is the order of summation; the differences found are some 100 times smaller than this.
SHARE = 1e-3


def with_onnxruntime(paths, names, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(paths[0]), providers=["CPUExecutionProvider"])
    outputs = session.run(names, {session.get_inputs()[0].name: x})
    return f"onnxruntime {onnxruntime.__version__} on the source file", outputs


def with_opencv(paths, names, x):
    import cv2

    net = cv2.dnn.readNetFromONNX(str(paths[0]))
    net.setInput(x, "data")  # SFace's weights are declared as inputs too.
    return f"OpenCV {cv2.__version__} dnn on the source file", [net.forward(name) for name in names]


def with_litert(paths, names, x):
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # The reference kernels, not the optimised ones: plain arithmetic in the order of the definition.
    interpreter = Interpreter(
        str(paths[0]), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, experimental_preserve_all_tensors=False
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
    return f"LiteRT {version('ai-edge-litert')}, reference kernels, on the source file", [found[name] for name in names]


def with_tfjs(paths, names, x):
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "input.f32"
        source.write_bytes(x.astype("<f4").tobytes())
        command = ["node", str(HERE / "faceres.mjs"), *map(str, paths), str(source), json.dumps(x.shape), *names]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return f"TensorFlow.js {answer['version']}, CPU backend, on the source files", [
        np.float32(values) for values in answer["outputs"]
    ]


def with_dlib(paths, names, x):
    """dlib takes the picture as it is and subtracts and divides by itself, by numbers from the file."""
    import dlib

    network = dlib.face_recognition_model_v1(str(paths[0]))
    picture = pixels((x.shape[3], x.shape[2]))
    return f"dlib {dlib.__version__} on the source file", [list(network.compute_face_descriptor(picture))]


def with_onnxruntime_and_ctc(paths, names, x):
    """The end of src/models/convert/ctc.rs in NumPy, on what the source file gives."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(paths[0]), providers=["CPUExecutionProvider"])
    (classes,) = session.run(None, {session.get_inputs()[0].name: x})
    symbols = session.get_modelmeta().custom_metadata_map["character"].split("\n")
    by = f"onnxruntime {onnxruntime.__version__} on the source file, its output reduced with NumPy {np.__version__}"
    code_points = np.array([0, *map(ord, symbols), ord(" ")], np.float32)
    return by, [code_points[classes.argmax(axis=2)], classes.max(axis=2)]


RUNTIMES = {
    "none": with_onnxruntime,
    "fold_free_size": with_onnxruntime,
    "ctc_text": with_onnxruntime_and_ctc,
    "tflite": with_litert,
    "tfjs": with_tfjs,
    "dlib": with_dlib,
}


def main(cache):
    manifest = tomllib.loads((HERE.parent / "manifest.toml").read_text())
    print("# Written by reference.py; see there. Used by `vouch models pull` and `vouch models verify`.")
    for model in manifest["model"]:
        size = [side or any_side for side, any_side in zip(model["input"]["size"], ANY_SIZE)]
        x = tensor(model["input"], size)
        if model.get("built_in"):
            # Where it lies in the repository.
            paths = [HERE.parent.parent / model["upstream"] / model["file"]]
        else:
            paths = [pathlib.Path(cache) / file["sha256"] for file in model["source"]["files"]]
        if model.get("convert", "none") == "fold":
            # SFace's 8-bit form is for OpenCV, fr_liveness is plain ONNX.
            run = with_opencv if model["role"] == "face_embedder" else with_onnxruntime
        else:
            run = RUNTIMES[model.get("convert", "none")]
        computed_by, outputs = run(paths, model["outputs"], x)
        print(f'\n[[probe]]\n# {model["name"]}\nsha256 = "{model["sha256"]}"')
        print(f'computed_by = "{computed_by}"\nsize = {size}')
        for name, values in zip(model["outputs"], outputs):
            flat = np.asarray(values, np.float32).ravel()
            count = min(SAMPLES, flat.size)
            samples = [flat[k * (flat.size - 1) // max(count - 1, 1)] for k in range(count)]
            tolerance = max(float(np.abs(flat).max()) * SHARE, 1e-6)
            print(f'[[probe.outputs]]\nname = "{name}"\ncount = {flat.size}')
            print(f"mean = {flat.astype(np.float64).mean():.9e}")
            print(f"minimum = {flat.min():.9e}\nmaximum = {flat.max():.9e}")
            print(f"samples = [{', '.join(f'{v:.9e}' for v in samples)}]\ntolerance = {tolerance:.1e}")


if __name__ == "__main__":
    main(sys.argv[1])
