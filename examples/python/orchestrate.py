#!/usr/bin/env python3
"""A small orchestrator: runs one verification against vouchd and prints each event the moment it arrives.

It shows what a service in another language needs: a channel over the Unix socket, the readiness check, one streaming call
with a deadline, and errors with their details. README.md beside this file tells how to install and run it.

Exit codes: 0 PASS, 1 FAIL, 2 REVIEW, 3 INCONCLUSIVE or SKIPPED; 65 bad input, 69 no daemon, 70 the daemon failed, 75 try again
later, 77 not allowed. They are those of `vouch verify`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from vouch.v1 import vouch_pb2, vouch_pb2_grpc

# The contract's largest message; gRPC's own default of 4 MiB is less than a camera's original file.
MAX_MESSAGE_BYTES = 32 << 20

SERVICE = "vouch.v1.Verification"

EXIT_BY_OUTCOME = {
    vouch_pb2.OUTCOME_PASS: 0,
    vouch_pb2.OUTCOME_FAIL: 1,
    vouch_pb2.OUTCOME_REVIEW: 2,
    vouch_pb2.OUTCOME_INCONCLUSIVE: 3,
    vouch_pb2.OUTCOME_SKIPPED: 3,
}

EXIT_BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: 65,
    grpc.StatusCode.OUT_OF_RANGE: 65,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 75,
    grpc.StatusCode.UNAVAILABLE: 75,
    grpc.StatusCode.DEADLINE_EXCEEDED: 75,
    grpc.StatusCode.CANCELLED: 75,
    grpc.StatusCode.PERMISSION_DENIED: 77,
}
EXIT_UNREACHABLE = 69
EXIT_SOFTWARE = 70


def main() -> int:
    arguments = parse_arguments()
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Without it gRPC's C core, on which this package rests, sends the socket's path as the HTTP/2 authority, which is no
        # valid authority: the daemon's HTTP/2 library resets such streams ("RST_STREAM with error code 1").
        ("grpc.default_authority", "localhost"),
    ]
    with grpc.insecure_channel(f"unix:{arguments.socket}", options=options) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=arguments.timeout)
        except grpc.FutureTimeoutError:
            print(f"error: no daemon at {arguments.socket}", file=sys.stderr)
            return EXIT_UNREACHABLE
        try:
            check_readiness(channel, arguments.timeout)
            return verify(channel, arguments)
        except grpc.RpcError as error:
            print_error(error)
            return EXIT_BY_CODE.get(error.code(), EXIT_SOFTWARE)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run one verification against vouchd.")
    parser.add_argument("--socket", default=os.environ.get("VOUCH_SOCKET") or default_socket())
    parser.add_argument("--selfie", type=Path, help="the live capture")
    parser.add_argument("--portrait", type=Path, help="the face on the document")
    parser.add_argument("--reference", type=Path, help="an earlier photograph, in place of a portrait")
    parser.add_argument("--check", action="append", default=[], metavar="NAME[:OPERATING_POINT]")
    parser.add_argument("--client-reference", default="", help="echoed in the first event")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    return parser.parse_args()


def default_socket() -> str:
    """The daemon's own rule: a user's runtime directory, or /run for root and where there is none."""
    runtime_dir = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() == 0 or not runtime_dir.startswith("/"):
        runtime_dir = "/run"
    return f"{runtime_dir}/vouch/vouch.sock"


def check_readiness(channel: grpc.Channel, timeout: float) -> None:
    """Asks the standard health service; raises grpc.RpcError if the daemon cannot even answer that."""
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=timeout)
    print(f"health: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}", flush=True)


def verify(channel: grpc.Channel, arguments: argparse.Namespace) -> int:
    """Sends the pictures, prints the stream, returns the exit code of the summary's outcome."""
    pictures = [
        (vouch_pb2.MEDIA_KIND_SELFIE, arguments.selfie),
        (vouch_pb2.MEDIA_KIND_PORTRAIT, arguments.portrait),
        (vouch_pb2.MEDIA_KIND_REFERENCE, arguments.reference),
    ]
    request = vouch_pb2.VerifyRequest(
        media=[vouch_pb2.Media(kind=kind, data=path.read_bytes()) for kind, path in pictures if path],
        checks=[check_request(text) for text in arguments.check],
        client_reference=arguments.client_reference,
    )
    stub = vouch_pb2_grpc.VerificationStub(channel)
    for event in stub.Verify(request, timeout=arguments.timeout):
        print(f"{event.elapsed_ms:9.1f} ms  {describe(event)}", flush=True)
        if event.WhichOneof("event") == "summary":
            return EXIT_BY_OUTCOME.get(event.summary.outcome, 3)
    print("error: the stream ended before its summary", file=sys.stderr)
    return EXIT_UNREACHABLE


def check_request(text: str) -> vouch_pb2.CheckRequest:
    name, _, operating_point = text.partition(":")
    return vouch_pb2.CheckRequest(name=name, operating_point=operating_point)


def describe(event: vouch_pb2.VerifyEvent) -> str:
    kind = event.WhichOneof("event")
    if kind == "accepted":
        return f"accepted {event.accepted.verification_id}: {', '.join(event.accepted.checks)}"
    if kind == "progress":
        return f"{event.progress.stage} took {event.progress.duration_ms:.1f} ms"
    if kind == "warning":
        return f"warning {event.warning.code}: {event.warning.message}"
    if kind == "result":
        return describe_result(event.result)
    if kind == "summary":
        return f"summary {outcome_word(event.summary.outcome)}"
    return "an event that this client does not know"


def describe_result(result: vouch_pb2.CheckResult) -> str:
    parts = [f"{result.check} {outcome_word(result.outcome)}"]
    # Presence matters: an absent score is not a score of 0.
    if result.HasField("score"):
        parts.append(f"{result.score_kind} {result.score:.4f}")
    if result.HasField("calibrated"):
        calibrated = result.calibrated
        parts.append(f"{calibrated.kind} {calibrated.value:.3g} ({calibrated.low_95:.3g} to {calibrated.high_95:.3g})")
    if result.HasField("operating_point"):
        parts.append(f"at {result.operating_point.name}")
    parts += [warning.code for warning in result.warnings]
    return ", ".join(parts)


def outcome_word(outcome: int) -> str:
    # A newer daemon may know more outcomes than these stubs.
    if outcome not in vouch_pb2.Outcome.values():
        return f"UNKNOWN_{outcome}"
    return vouch_pb2.Outcome.Name(outcome).removeprefix("OUTCOME_")


def print_error(error: grpc.RpcError) -> None:
    """Prints the status and what google.rpc says beside it."""
    print(f"error: {error.code().name}: {error.details()}", file=sys.stderr)
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info, bad_request, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            print(f"  reason: {info.reason}", file=sys.stderr)
        elif detail.Unpack(bad_request):
            for violation in bad_request.field_violations:
                print(f"  {violation.field}: {violation.description}", file=sys.stderr)
        elif detail.Unpack(retry):
            print(f"  try again in {retry.retry_delay.ToMilliseconds()} ms", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
