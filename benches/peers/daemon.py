"""The daemon under measurement: a vouchd of our own on a private socket, asked through a plain gRPC client.

Needs the packages and stubs of `examples/python` (`make python-packages`) on the module path.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from vouch.v1 import vouch_pb2, vouch_pb2_grpc

from processes import Child

SERVICE = "vouch.v1.Verification"
CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", 32 << 20),
    ("grpc.max_receive_message_length", 32 << 20),
    # The socket's path, which the C core would send, is no valid HTTP/2 authority.
    ("grpc.default_authority", "localhost"),
]
KINDS = {
    "selfie": vouch_pb2.MEDIA_KIND_SELFIE,
    "reference": vouch_pb2.MEDIA_KIND_REFERENCE,
    "document": vouch_pb2.MEDIA_KIND_DOCUMENT_FRONT,
}


def verify_request(**files: Path) -> vouch_pb2.VerifyRequest:
    """A verification by every check that the pictures allow."""
    return vouch_pb2.VerifyRequest(
        media=[vouch_pb2.Media(kind=KINDS[name], data=path.read_bytes()) for name, path in files.items()]
    )


class Daemon:
    """A running vouchd."""

    def __init__(self, binary: Path, root: Path, directory: Path, *, prefix: list[str] | None = None, environment: dict[str, str] | None = None) -> None:
        """`prefix` is a command that becomes the daemon, such as taskset's."""
        self.socket = directory / "vouchd.sock"
        command = [*(prefix or []), binary, "--socket", self.socket]
        self.child = Child("vouchd", command, directory / "vouchd.log", cwd=root, environment=environment)
        self.channel = grpc.insecure_channel(f"unix:{self.socket}", options=CHANNEL_OPTIONS)
        self.stub = vouch_pb2_grpc.VerificationStub(self.channel)

    def __enter__(self) -> Daemon:
        try:
            self.child.wait_until(self._is_serving)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.child.stop()

    def _is_serving(self) -> bool:
        health = health_pb2_grpc.HealthStub(self.channel)
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=5)
        except grpc.RpcError:
            return False
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    def status(self) -> vouch_pb2.GetStatusResponse:
        return self.stub.GetStatus(vouch_pb2.GetStatusRequest(), timeout=10)

    def verify(self, request: vouch_pb2.VerifyRequest) -> dict[str, Any]:
        """One verification, timed from the call to the end of the stream."""
        cpu, started = self.child.cpu_seconds(), time.perf_counter()
        events = list(self.stub.Verify(request, timeout=60))
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return {
            "ms": elapsed_ms,
            "cpu_ms": (self.child.cpu_seconds() - cpu) * 1e3,
            "stages": stages(events),
            "answers": answers(events),
        }

    def read(self, part: str, picture: bytes) -> dict[str, Any]:
        """One reading of one part of a document, timed from the call to the answer."""
        request = vouch_pb2.ReadDocumentRequest(images=[picture], parts=[part])
        cpu, started = self.child.cpu_seconds(), time.perf_counter()
        response = self.stub.ReadDocument(request, timeout=60)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        (page,) = response.pages
        return {
            "ms": elapsed_ms,
            "cpu_ms": (self.child.cpu_seconds() - cpu) * 1e3,
            "stages": dict(page.stage_ms),
            "answers": {"mrz": list(page.mrz.lines), "barcodes": [code.payload.hex() for code in page.barcodes]},
        }


def stages(events: list[vouch_pb2.VerifyEvent]) -> dict[str, float]:
    """Milliseconds of each stage, by its name and the picture's. Stages run beside each other, and their times hold waiting for models."""
    names = {kind: name for name, kind in KINDS.items()}
    progress = [event.progress for event in events if event.WhichOneof("event") == "progress"]
    return {f"{one.stage} {names.get(one.media, one.media)}": one.duration_ms for one in progress}


def answers(events: list[vouch_pb2.VerifyEvent]) -> dict[str, Any]:
    """What the checks measured, and the machine-readable zone."""
    found: dict[str, Any] = {"outcomes": {}}
    for event in events:
        kind = event.WhichOneof("event")
        if kind == "result":
            result = event.result
            found |= dict(result.measurements)
            found["outcomes"][result.check] = vouch_pb2.Outcome.Name(result.outcome).removeprefix("OUTCOME_")
            if result.check == "passive_liveness" and result.HasField("score"):
                found["live_probability"] = result.score
        elif kind == "document_part" and event.document_part.WhichOneof("part") == "mrz":
            found["mrz"] = list(event.document_part.mrz.lines)
        elif kind == "document_part" and event.document_part.WhichOneof("part") == "barcode":
            found.setdefault("barcodes", []).append(event.document_part.barcode.payload.hex())
    return found
