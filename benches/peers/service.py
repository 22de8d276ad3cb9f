"""A verification service as one would write it in Python: FastAPI on uvicorn, onnxruntime sessions shared by the threads of a worker.

`POST /verify` takes two JPEG files, `selfie` and `reference`, and does what the daemon does for them: decode both, find the faces, two embedders with mirror
images of both faces, and of the selfie liveness, both age models with mirror images, and the pose. The endpoint is a plain function, so FastAPI
runs it on its thread pool; OpenCV and onnxruntime release the interpreter's lock while they work.

Started by `run.py` with uvicorn on a Unix socket. Environment: PEERS_PACK, the model pack; PEERS_THREADS, threads of each session (0: all cores);
PEERS_SPINNING, 1 if idle threads may spin; PEERS_READY, a folder in which each worker that has its models leaves a file.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
from fastapi import FastAPI, File, HTTPException, UploadFile

from faces import ESCALATING, FaceModels, decode


def create_app() -> FastAPI:
    threads = int(os.environ["PEERS_THREADS"])
    if threads:
        # With a thread for each session, parallelism comes from requests; OpenCV's own threads would only get in their way.
        cv2.setNumThreads(threads)
    models = FaceModels(Path(os.environ["PEERS_PACK"]), threads, os.environ["PEERS_SPINNING"] == "1")
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "serving"}

    @app.post("/verify")
    def verify(selfie: UploadFile = File(), reference: UploadFile = File()) -> dict[str, float]:
        try:
            return compare(models, selfie.file.read(), reference.file.read())
        except ValueError as error:
            raise HTTPException(status_code=422, detail=str(error)) from error

    (Path(os.environ["PEERS_READY"]) / str(os.getpid())).touch()
    return app


def compare(models: FaceModels, selfie: bytes, reference: bytes) -> dict[str, float]:
    """Every score that the daemon gives for a selfie and a reference photograph, under the daemon's names."""
    probe, other = decode(selfie), decode(reference)
    probe_face, other_face = models.main_face(probe, ESCALATING), models.main_face(other, ESCALATING)
    if probe_face is None or other_face is None:
        raise ValueError("there is no face in a picture")
    scores = models.pose(probe, probe_face)
    scores["live_probability"] = models.liveness(probe, probe_face)
    for name, embed in (("cosine_a_mirrored", models.embed_sface), ("cosine_b_mirrored", models.embed_dlib)):
        scores[name] = float(embed(probe, probe_face, mirror=True) @ embed(other, other_face, mirror=True))
    return scores | models.ages(probe, probe_face, mirror=True)
