"""A whole verification with the usual open Python parts, in one process that loads its models once.

RapidOCR reads the text, FastMRZ or PassportEye the machine-readable zone, zxing-cpp the barcodes; YuNet, SFace, dlib's ResNet, liveness, ages and the mesh
run on onnxruntime with the daemon's own model files. Stages run one after the other, each on all cores, as such scripts do; `leanest`
runs them beside each other.

As a program it is a worker: a JSON object on each line of standard input is a task, and one line of standard output its answer with the time
that the work itself took. `run.py` starts it.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zxingcpp

from faces import ESCALATING, FaceModels, decode, let_spin

# Inputs of the detector in the `usual` variant: large enough for a printed portrait, and for a selfie.
DOCUMENT_SIDE = (960,)
SELFIE_SIDE = (640,)
# In `same-work`: one run of the daemon's size, which it runs on the page alone.
SAME_WORK_DOCUMENT_SIDE = (640,)

# What the daemon looks for: `Symbology::DOCUMENT`.
FORMATS = zxingcpp.barcode_formats_from_str("PDF417,MicroPDF417,QRCode,MicroQRCode,Aztec,DataMatrix,Code128,Code39")

# Lengths of the lines of machine-readable zones after ICAO Doc 9303.
LINE_LENGTHS = (30, 36, 44)

PACKAGES = (
    "rapidocr", "onnxruntime", "fastmrz", "PassportEye", "opencv-python-headless", "zxing-cpp", "numpy", "fastapi", "uvicorn", "uvloop", "httptools",
)  # fmt: skip


class Stages:
    """Times the stages of one verification, in milliseconds, under the daemon's names."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    def run(self, name: str, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return work(*arguments, **named)
        finally:
            self.ms[name] = (time.perf_counter() - started) * 1e3


class Stack:
    """Every part, loaded once. `threads` is what one stage may use."""

    def __init__(self, pack: Path, threads: int, spins: bool, tessdata: Path | None) -> None:
        from passporteye import read_mrz
        from rapidocr import RapidOCR
        from rapidocr.inference_engine.onnxruntime import OrtInferSession

        # RapidOCR's configuration has no such setting.
        session_options = OrtInferSession._init_sess_opts

        def with_spinning(configuration: Any) -> Any:
            options = session_options(configuration)
            let_spin(options, spins)
            return options

        OrtInferSession._init_sess_opts = staticmethod(with_spinning)
        self.faces = FaceModels(pack, threads, spins)
        self.rapidocr = RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": threads, "Global.log_level": "critical"})
        self.read_mrz = read_mrz
        self.fastmrz = None
        if tessdata:
            from fastmrz import FastMRZ

            self.fastmrz = FastMRZ(tessdata_path=str(tessdata))

    def text(self, image: np.ndarray) -> list[str]:
        return list(self.rapidocr(image).txts or [])

    def zone(self, reader: str, image: np.ndarray, data: bytes) -> list[str]:
        """The lines of the machine-readable zone by one of the readers; PassportEye decodes the file by itself."""
        if reader == "fastmrz":
            return zone_lines(self.fastmrz.get_details(image, "numpy", ignore_parse=True).split("\n"))
        found = self.read_mrz(io.BytesIO(data))
        return zone_lines((found.aux.get("text") or "").split("\n")) if found else []

    def verify(self, variant: str, zone_reader: str, document_file: bytes, selfie_file: bytes) -> tuple[dict[str, Any], Stages]:
        """Variants. `usual`: one embedding by each model, one age by each. `same-work`: the daemon's runs on faces, mirror images and pose
        included. `leanest`: `usual`, the zone taken from RapidOCR's text instead of read a second time, stages beside each other."""
        stages = Stages()
        same_work = variant == "same-work"
        pool = ThreadPoolExecutor(max_workers=4 if variant == "leanest" else 1)

        def text(document: np.ndarray) -> dict[str, Any]:
            lines = stages.run("text document", self.text, document)
            if variant != "leanest":
                return {"text": lines}
            return {"text": lines, "mrz": zone_lines(lines)}

        def zone(document: np.ndarray) -> dict[str, Any]:
            if variant == "leanest":
                return {}
            return {"mrz": stages.run("mrz document", self.zone, zone_reader, document, document_file)}

        def codes(document: np.ndarray) -> dict[str, Any]:
            return {"barcodes": stages.run("barcode document", barcodes, document)}

        def face(image: np.ndarray, name: str, sides: tuple[int, ...]) -> dict[str, Any]:
            models, answers = self.faces, {}
            found = stages.run(f"detect {name}", models.main_face, image, sides)
            if found is None:
                return answers
            answers[f"sface {name}"] = stages.run(f"embed {name}", models.embed_sface, image, found, mirror=same_work)
            answers[f"dlib {name}"] = stages.run(f"embed_b {name}", models.embed_dlib, image, found, mirror=same_work)
            if name == "selfie":
                answers["live_probability"] = stages.run("liveness selfie", models.liveness, image, found)
                answers |= stages.run("age selfie", models.ages, image, found, mirror=same_work)
                if same_work:
                    answers |= stages.run("quality selfie", models.pose, image, found)
            return answers

        with pool:
            document = pool.submit(stages.run, "decode document", decode, document_file)
            selfie = pool.submit(stages.run, "decode selfie", decode, selfie_file)
            document, selfie = document.result(), selfie.result()
            sides = (SAME_WORK_DOCUMENT_SIDE, ESCALATING) if same_work else (DOCUMENT_SIDE, SELFIE_SIDE)
            tasks = [pool.submit(work, document) for work in (text, zone, codes)]
            tasks.append(pool.submit(face, document, "document", sides[0]))
            tasks.append(pool.submit(face, selfie, "selfie", sides[1]))
            answers: dict[str, Any] = {}
            for task in tasks:
                answers |= task.result()
        for name, model in (("cosine_a", "sface"), ("cosine_b", "dlib")):
            vectors = [answers.pop(f"{model} {picture}", None) for picture in ("document", "selfie")]
            if all(vector is not None for vector in vectors):
                answers[name + ("_mirrored" if same_work else "")] = float(vectors[0] @ vectors[1])
        return answers, stages


def barcodes(image: np.ndarray) -> list[str]:
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return [bytes(symbol.bytes).hex() for symbol in zxingcpp.read_barcodes(grey, formats=FORMATS)]


def zone_lines(lines: list[str]) -> list[str]:
    """Those of the lines that can belong to a machine-readable zone, in its alphabet."""
    cleaned = [re.sub(r"[^A-Z0-9<]", "", line.upper().replace("«", "<<").replace("‹", "<")) for line in lines]
    return [line for line in cleaned if len(line) in LINE_LENGTHS or (len(line) >= min(LINE_LENGTHS) - 2 and "<" in line)]


class Worker:
    """Answers tasks; files are read before the clock starts."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def answer(self, task: dict[str, Any]) -> dict[str, Any]:
        kind = task["task"]
        files = {name: Path(task[name]).read_bytes() for name in ("document", "selfie", "picture") if name in task}
        started, cpu = time.perf_counter(), cpu_seconds()
        stages = Stages()
        if kind == "verify":
            answers, stages = self.stack.verify(task["variant"], task["zone_reader"], files["document"], files["selfie"])
        elif kind == "mrz":
            answers = {"mrz": self.mrz(task["reader"], files["picture"])}
        elif kind == "barcode":
            answers = {"barcodes": barcodes(decode(files["picture"], cv2.IMREAD_GRAYSCALE))}
        elif kind == "versions":
            answers = {package: version(package) for package in PACKAGES}
        elif kind == "enlarge":
            answers = {"size_px": enlarge(files["picture"], task["pixels"], Path(task["out"]))}
        else:
            raise ValueError(f"there is no task {kind}")
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return {"ms": elapsed_ms, "cpu_ms": (cpu_seconds() - cpu) * 1e3, "stages": stages.ms, "answers": answers}

    def mrz(self, reader: str, data: bytes) -> list[str]:
        if reader == "passporteye":
            return self.stack.zone(reader, np.empty(0), data)
        image = decode(data)
        return zone_lines(self.stack.text(image)) if reader == "rapidocr" else self.stack.zone(reader, image, data)


def enlarge(data: bytes, pixels: int, out: Path) -> list[int]:
    """Writes the picture with about so many pixels as a JPEG."""
    image = decode(data)
    factor = (pixels / (image.shape[0] * image.shape[1])) ** 0.5
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(out), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return [image.shape[1], image.shape[0]]


def cpu_seconds() -> float:
    """Of this process and of the Tesseract processes that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, required=True, help="the daemon's model pack")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of one stage")
    parser.add_argument("--spinning", action="store_true", help="let idle threads of onnxruntime spin, as by default")
    parser.add_argument("--tessdata", type=Path, help="folder with mrz.traineddata, for FastMRZ")
    arguments = parser.parse_args()
    # Answers go to the real standard output alone; what libraries print goes to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    cv2.setNumThreads(arguments.threads)
    # Tesseract is faster so, wherever it was measured: its threads wait for each other by spinning.
    os.environ["OMP_THREAD_LIMIT"] = "1"
    worker = Worker(Stack(arguments.pack, arguments.threads, arguments.spinning, arguments.tessdata))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001: one bad task must not end the others
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
