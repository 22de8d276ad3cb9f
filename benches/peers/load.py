"""Load generator, a process of its own: one verification of two faces after another over a Unix socket, from several callers at once.

Drives the daemon (`grpc`) and the Python service (`http`) alike: one event loop, the bytes of the request made once, no answer parsed but its
end. `closed`: each caller sends its next request when the last one is answered. `open`: requests start at times drawn beforehand (Poisson), whatever
is still under way, and latency counts from the time at which a request was to start. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from pathlib import Path

# Of a closed loop, not counted.
WARM_UP_SECONDS = 2.0

BOUNDARY = b"----peers-7d1f0c2b"


class GrpcCaller:
    """A connection to the daemon. A call is done when its stream has ended."""

    def __init__(self, socket: Path, request: bytes) -> None:
        import grpc
        from daemon import CHANNEL_OPTIONS

        # A pool of its own: callers are different clients, not streams of one connection.
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.aio.insecure_channel(f"unix:{socket}", options=options)
        self.method = self.channel.unary_stream("/vouch.v1.Verification/Verify")
        self.request = request

    async def call(self) -> None:
        async for _ in self.method(self.request, timeout=60):
            pass

    async def close(self) -> None:
        await self.channel.close()


class HttpCaller:
    """A connection to the service, kept open or made anew for each request."""

    def __init__(self, socket: Path, request: bytes, keep_alive: bool) -> None:
        self.socket, self.request, self.keep_alive = socket, request, keep_alive
        self.connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self) -> None:
        if self.connection is None:
            self.connection = await asyncio.open_unix_connection(str(self.socket), limit=1 << 20)
        reader, writer = self.connection
        writer.write(self.request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        body = await reader.readexactly(int(headers["content-length"]))
        if status.split()[1] != "200":
            raise RuntimeError(f"{status}: {body[:200]!r}")
        if not self.keep_alive:
            await self.close()

    async def close(self) -> None:
        if self.connection:
            self.connection[1].close()
            self.connection = None


def http_request(selfie: bytes, reference: bytes, keep_alive: bool) -> bytes:
    """A multipart upload of two files."""
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s.jpg"\r\nContent-Type: image/jpeg\r\n\r\n%s\r\n'
        % (BOUNDARY, name, name, data)
        for name, data in ((b"selfie", selfie), (b"reference", reference))
    ]
    body = b"".join(parts) + b"--%s--\r\n" % BOUNDARY
    head = (
        f"POST /verify HTTP/1.1\r\nHost: localhost\r\nConnection: {'keep-alive' if keep_alive else 'close'}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Recorder:
    """What is known of the requests: latencies of those that count, and how many were answered in all, which the server's processor time is divided by."""

    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.requests = 0
        self.errors: dict[str, int] = {}

    async def record(self, caller: GrpcCaller | HttpCaller, start: float, window: tuple[float, float]) -> None:
        """One call that begins, or was to begin, at `start`. It counts if it ends within the window."""
        try:
            await caller.call()
        except Exception as error:  # noqa: BLE001: a refusal is a result; anything else shows in the count
            name = f"{type(error).__name__}: {getattr(error, 'code', lambda: error)()}"
            self.errors[name] = self.errors.get(name, 0) + 1
            await caller.close()
            return
        now = time.perf_counter()
        self.requests += 1
        if window[0] <= now <= window[1]:
            self.latencies_ms.append((now - start) * 1e3)


async def closed_loop(new_caller: type, callers: int, seconds: float) -> Recorder:
    recorder = Recorder()
    pool = [new_caller() for _ in range(callers)]
    # The window opens on callers that are at it already, and closes on them, so that neither end is half full.
    begin = time.perf_counter() + WARM_UP_SECONDS
    window = (begin, begin + seconds)

    async def work(caller: GrpcCaller | HttpCaller) -> None:
        while (now := time.perf_counter()) < window[1] and not recorder.errors:
            await recorder.record(caller, now, window)

    await asyncio.gather(*(work(caller) for caller in pool))
    await asyncio.gather(*(caller.close() for caller in pool))
    return recorder


async def open_loop(new_caller: type, rate: float, seconds: float, seed: int) -> Recorder:
    recorder = Recorder()
    draw = random.Random(seed)
    idle = [new_caller()]
    await idle[0].call()
    # No latency counts, but the server has worked for it.
    recorder.requests += 1
    begin = time.perf_counter() + 0.1
    end = begin + seconds
    tasks = []

    async def one(start: float) -> None:
        caller = idle.pop() if idle else new_caller()
        # Every request counts, however late its answer.
        await recorder.record(caller, start, (begin, math.inf))
        idle.append(caller)

    start = begin + draw.expovariate(rate)
    while start < end:
        await asyncio.sleep(max(0.0, start - time.perf_counter()))
        tasks.append(asyncio.create_task(one(start)))
        start += draw.expovariate(rate)
    await asyncio.gather(*tasks)
    await asyncio.gather(*(caller.close() for caller in idle))
    return recorder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=("grpc", "http"), required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--selfie", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--callers", type=int, help="closed loop with so many callers")
    parser.add_argument("--rate", type=float, help="open loop with so many requests a second")
    parser.add_argument("--seed", type=int, default=1, help="of the times of an open loop")
    parser.add_argument("--no-keep-alive", action="store_true", help="a new connection for each HTTP request")
    arguments = parser.parse_args()
    if arguments.target == "grpc":
        from daemon import verify_request

        request = verify_request(selfie=arguments.selfie, reference=arguments.reference).SerializeToString()

        def new_caller() -> GrpcCaller:
            return GrpcCaller(arguments.socket, request)
    else:
        keep_alive = not arguments.no_keep_alive
        request = http_request(arguments.selfie.read_bytes(), arguments.reference.read_bytes(), keep_alive)

        def new_caller() -> HttpCaller:
            return HttpCaller(arguments.socket, request, keep_alive)

    async def run() -> tuple[Recorder, float]:
        cpu = time.process_time()
        if arguments.rate:
            recorder = await open_loop(new_caller, arguments.rate, arguments.seconds, arguments.seed)
        else:
            recorder = await closed_loop(new_caller, arguments.callers, arguments.seconds)
        return recorder, time.process_time() - cpu

    recorder, cpu = asyncio.run(run())
    answer = {
        "latencies_ms": [round(latency, 3) for latency in recorder.latencies_ms],
        "requests": recorder.requests,
        "errors": recorder.errors,
        "seconds": arguments.seconds,
        "generator_cpu_seconds": cpu,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
