#!/usr/bin/env python3
"""Measures vouchd on this host: settings beside each other, where the time goes, how cost grows, what a burst does.

Four commands, each with daemons of its own on private sockets: `variants` runs `vouch bench` against several settings in turns and prints ratios;
`budget` tells how much of a request's processor time the models themselves take; `cost` tells how latency grows with faces, lines and pages;
`burst` sends ten thousand requests at once and watches another caller. docs/performance.md holds what they said. Exit codes: 0, 1 if something
that is needed is missing or fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PHOTOS = ROOT / ".cache" / "photos"
sys.path[:0] = [str(HERE.parent / "peers"), str(ROOT / ".cache" / "python")]

try:
    from vouch.v1 import vouch_pb2

    from daemon import Daemon, verify_request
    from processes import TICKS_PER_SECOND, Failure
except ModuleNotFoundError as missing:
    sys.exit(f"error: the Python package {missing.name} is missing; run `make python-packages` first")


def main() -> int:
    arguments = parse_arguments()
    # A SIGTERM, too, ends what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="vouch-host-") as directory:
            arguments.run(arguments, Path(directory))
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vouch", type=Path, default=ROOT / "target/release/vouch")
    parser.add_argument("--vouchd", type=Path, default=ROOT / "target/release/vouchd")
    parser.add_argument("--selfie", type=Path, default=PHOTOS / "selfie.jpg")
    parser.add_argument("--reference", type=Path, default=PHOTOS / "portrait.jpg")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    variants = commands.add_parser("variants", help="several settings in turns")
    variants.add_argument(
        "--variant", nargs="+", action="append", required=True, metavar=("NAME", "SETTING=VALUE"),
        help="settings are cores=0,1 (the daemon runs on these), binary=FILE and variables of the configuration, such as VOUCH_INFERENCE__DEVICE=required",
    )
    variants.add_argument("--scenario", default="selfie", choices=("selfie", "document", "full", "mixed"))
    variants.add_argument("--rounds", type=int, default=3, help="turns of each variant [%(default)s]")
    variants.add_argument("--seconds", type=float, default=10.0, help="length of one measurement [%(default)s]")
    variants.add_argument("--callers", default="1,2,4", help="at once; the most answers a second of these count as throughput [%(default)s]")
    variants.set_defaults(run=run_variants)

    budget = commands.add_parser("budget", help="processor time of models and of everything else")
    budget.add_argument("--requests", type=int, default=20, help="of each kind [%(default)s]")
    budget.set_defaults(run=run_budget)

    cost = commands.add_parser("cost", help="latency by number of faces, lines and pages")
    cost.add_argument("--repeats", type=int, default=5, help="of each point, medians are told [%(default)s]")
    cost.add_argument("--svg", type=Path, metavar="FILE", help="draw it")
    cost.set_defaults(run=run_cost)

    burst = commands.add_parser("burst", help="many requests at once beside a caller who asks one at a time")
    burst.add_argument("--requests", type=int, default=10_000)
    burst.add_argument("--seconds", type=float, default=20.0, help="of watching, without and with the burst [%(default)s]")
    burst.set_defaults(run=run_burst)

    arguments = parser.parse_args()
    for name in ("vouch", "vouchd", "selfie", "reference"):
        if not getattr(arguments, name).exists():
            parser.error(f"{getattr(arguments, name)} is missing; `make build pack sample-photos` makes it")
    return arguments


def bench(arguments: argparse.Namespace, daemon: Daemon, scenario: str, *options: str) -> subprocess.Popen[str]:
    """Starts `vouch bench`, whose JSON comes on standard output."""
    command = [arguments.vouch, "bench", scenario, "--socket", daemon.socket, "--selfie", arguments.selfie, "--reference", arguments.reference]
    # A socket that a wrapper such as taskset opened is still the daemon's own process.
    return subprocess.Popen([*map(str, command), "--json", "-", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def report(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate()
    if process.returncode not in (0, 75):
        raise Failure(f"vouch bench ended with exit code {process.returncode}: {errors.strip()[-500:]}")
    return json.loads(output)


# ---------------------------------------------------------------- variants


def run_variants(arguments: argparse.Namespace, directory: Path) -> None:
    figures: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for number in range(arguments.rounds):
        for name, *settings in arguments.variant:
            environment, prefix, binary = {}, [], arguments.vouchd
            for setting in settings:
                key, found, value = setting.partition("=")
                if not found:
                    raise Failure(f"{setting!r} is no SETTING=VALUE")
                if key == "cores":
                    prefix = ["taskset", "-c", value]
                elif key == "binary":
                    binary = Path(value)
                else:
                    environment[key] = value
            place = directory / f"{number}-{len(figures[name])}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"
            place.mkdir()
            with Daemon(binary, ROOT, place, prefix=prefix, environment=environment) as daemon:
                wait_for_sessions(daemon)
                said = report(bench(arguments, daemon, arguments.scenario, "--callers", arguments.callers, "--duration", f"{arguments.seconds}s", "--warm-up", "2s"))
                steps = [step for step in said["steps"] if step["latency_ms"]]
                if not steps:
                    raise Failure(f"{name}: nothing was answered")
                alone = steps[0]["latency_ms"]["p50"]
                most = max(step["answered_per_second"] for step in steps)
                figures[name].append((alone, most, daemon.status().device_in_use))
                print(f"  round {number + 1}, {name}: {alone:.0f} ms with {steps[0]['callers']} at once, at most {most:.2f} answers a second", flush=True)
    first, *_ = figures
    base = [statistics.median(values) for values in zip(*((alone, most) for alone, most, _ in figures[first]))]
    print(f"\n{arguments.scenario}, medians of {arguments.rounds} rounds; times those of {first!r}")
    print(f"{'':<28}{'median ms':>10}{'times':>7}{'a second':>10}{'times':>7}  provider")
    for name, rounds in figures.items():
        alone, most = (statistics.median(values) for values in zip(*((alone, most) for alone, most, _ in rounds)))
        print(f"{name:<28}{alone:>10.1f}{alone / base[0]:>7.2f}{most:>10.2f}{most / base[1]:>7.2f}  {rounds[0][2]}")


def wait_for_sessions(daemon: Daemon) -> None:
    """The daemon answers before all sessions of its models are made."""
    daemon.child.wait_until(lambda: all(model.sessions >= model.sessions_planned for model in daemon.status().models))


# ---------------------------------------------------------------- budget


def run_budget(arguments: argparse.Namespace, directory: Path) -> None:
    (document,) = specimens(arguments, directory / "drawn", "--photo", "1", "--size", "4000x3000")
    two_faces = vouch_pb2.MatchFacesRequest(probe=arguments.selfie.read_bytes(), reference=arguments.reference.read_bytes())
    whole = verify_request(document=document, selfie=arguments.selfie)
    # On one core, so that nothing waits for a core that something else of the same request has.
    with Daemon(arguments.vouchd, ROOT, directory, prefix=["taskset", "-c", "0"]) as daemon:
        wait_for_sessions(daemon)
        for title, ask in (
            ("MatchFaces", lambda: daemon.stub.MatchFaces(two_faces, timeout=60)),
            ("Verify of a 12-megapixel passport and a selfie", lambda: list(daemon.stub.Verify(whole, timeout=120))),
        ):
            print_budget(title, ask, daemon, arguments.requests)


def specimens(arguments: argparse.Namespace, folder: Path, *options: str) -> list[Path]:
    """Photographed passports with the face of the reference."""
    command = [arguments.vouch, "specimen", "--kind", "td3", "--seed", "11", "--portrait", arguments.reference, "--out", folder, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    pictures = sorted(folder.glob("*.jpg"))
    if done.returncode or not pictures:
        raise Failure(f"no passport could be drawn: {done.stderr.strip()[-300:]}")
    return pictures


def threads(pid: int) -> dict[str, float]:
    """Processor seconds of each kind of living thread, by its name without its number. Threads that run models live as long as the daemon."""
    spent: dict[str, float] = defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, _, rest = (task / "stat").read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        spent[re.sub(r"-\d*$", "", name.partition("(")[2])] += (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
    return spent


def print_budget(title: str, ask: Callable[[], Any], daemon: Daemon, requests: int) -> None:
    for _ in range(2):
        ask()
    before, runs_before, cpu = threads(daemon.child.process.pid), daemon.status().models, daemon.child.cpu_seconds()
    times = []
    for _ in range(requests):
        started = time.perf_counter()
        ask()
        times.append((time.perf_counter() - started) * 1e3)
    after, runs_after = threads(daemon.child.process.pid), daemon.status().models
    total = (daemon.child.cpu_seconds() - cpu) * 1e3 / requests
    spent = {name: (after[name] - before.get(name, 0)) * 1e3 / requests for name in after}
    # Threads that run a model bear its name, of which the system keeps fifteen characters.
    names = {model.name[:15].rstrip() for model in runs_after}
    models = sum(value for name, value in spent.items() if any(known.startswith(name[:13]) for known in names))
    print(f"\n{title}: median {statistics.median(times):.0f} ms on one core, {total:.0f} ms of processor time, models {models:.0f} ms = {models / total:.3f} of it")
    print("  by model, times from begin to end of its runs, which hold what else ran on the core meanwhile:")
    print(f"  {'model':<34}{'runs':>6}{'ms a run':>10}{'ms':>8}{'share':>8}")
    for old, new in zip(runs_before, runs_after):
        runs = new.runs_total - old.runs_total
        if runs:
            spent_ms = new.mean_run_ms * new.runs_total - old.mean_run_ms * old.runs_total
            print(f"  {new.name:<34}{runs / requests:>6.1f}{spent_ms / runs:>10.2f}{spent_ms / requests:>8.1f}{spent_ms / requests / total:>8.3f}")
    print(f"  {'everything else, by processor time':<40}{'':>10}{total - models:>8.1f}{1 - models / total:>8.3f}")


# ---------------------------------------------------------------- cost


def run_cost(arguments: argparse.Namespace, directory: Path) -> None:
    sys.path.append(str(ROOT / ".cache" / "peers"))
    try:
        global Image, ImageDraw, ImageFont
        from PIL import Image, ImageDraw, ImageFont
    except ModuleNotFoundError as missing:
        raise Failure(f"the Python package {missing.name} is missing; `make peers-packages` fetches it") from missing
    series = []
    with Daemon(arguments.vouchd, ROOT, directory) as daemon:
        wait_for_sessions(daemon)
        for title, unit, points in (
            ("DetectFaces, a picture of 2400 x 1800", "faces", faces(arguments)),
            ("ReadDocument, part visual, a letter of 1240 x 1754", "lines", lines()),
            ("ReadDocument, all parts, passports of 1280 x 720", "pages", pages(arguments, directory)),
        ):
            measured = [(count, *milliseconds(daemon, request, arguments.repeats)) for count, request in points]
            series.append((title, unit, measured))
            print_cost(title, unit, measured)
    if arguments.svg:
        arguments.svg.write_text(drawn(series))
        print(f"\n{arguments.svg} shows it")


def jpeg(picture: Any) -> bytes:
    file = BytesIO()
    picture.save(file, "JPEG", quality=92)
    return file.getvalue()


def faces(arguments: argparse.Namespace) -> Iterator[tuple[int, Any]]:
    face = Image.open(arguments.reference).convert("RGB")
    face = face.resize((400, 400 * face.height // face.width))
    for count in (1, 2, 4, 8, 12, 16):
        picture = Image.new("RGB", (2400, 1800), (96, 104, 112))
        for index in range(count):
            picture.paste(face.crop((0, 0, 400, min(face.height, 440))), (120 + 560 * (index % 4), 10 + 448 * (index // 4)))
        yield count, vouch_pb2.DetectFacesRequest(image=jpeg(picture))


def letter(count: int) -> bytes:
    page = Image.new("RGB", (1240, 1754), (238, 238, 234))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=26)
    for line in range(count):
        draw.text((120, 110 + 36 * line), f"Line {line + 1:03d} of the page says this and no more", fill=(24, 24, 32), font=font)
    return jpeg(page)


def lines() -> Iterator[tuple[int, Any]]:
    for count in (5, 10, 15, 20, 30, 40):
        yield count, vouch_pb2.ReadDocumentRequest(images=[letter(count)], parts=["visual"])


def pages(arguments: argparse.Namespace, directory: Path) -> Iterator[tuple[int, Any]]:
    pictures = specimens(arguments, directory / "pages", "--count", "4", "--photo", "1")
    for count in (1, 2, 3, 4):
        yield count, vouch_pb2.ReadDocumentRequest(images=[picture.read_bytes() for picture in pictures[:count]])


def milliseconds(daemon: Daemon, request: Any, repeats: int) -> tuple[float, float]:
    """Medians of latency and of the daemon's processor time."""
    call = daemon.stub.DetectFaces if isinstance(request, vouch_pb2.DetectFacesRequest) else daemon.stub.ReadDocument
    call(request, timeout=120)
    times, spent = [], []
    for _ in range(repeats):
        cpu, started = daemon.child.cpu_seconds(), time.perf_counter()
        call(request, timeout=120)
        times.append((time.perf_counter() - started) * 1e3)
        spent.append((daemon.child.cpu_seconds() - cpu) * 1e3)
    return statistics.median(times), statistics.median(spent)


def fit(measured: list[tuple[int, float, float]]) -> tuple[float, float, float]:
    """Offset, slope and share of the variance that the line explains, of the latency."""
    xs, ys = [float(count) for count, *_ in measured], [ms for _, ms, _ in measured]
    slope, offset = statistics.linear_regression(xs, ys)
    rest = sum((y - offset - slope * x) ** 2 for x, y in zip(xs, ys))
    mean = statistics.fmean(ys)
    return offset, slope, 1 - rest / sum((y - mean) ** 2 for y in ys)


def print_cost(title: str, unit: str, measured: list[tuple[int, float, float]]) -> None:
    offset, slope, explained = fit(measured)
    print(f"\n{title}: {offset:.0f} ms and {slope:.1f} ms for each of the {unit}; a straight line explains {explained:.4f} of the variance")
    print(f"  {unit:<8}{'ms':>8}{'line':>8}{'processor ms':>14}")
    for count, ms, cpu in measured:
        print(f"  {count:<8}{ms:>8.0f}{offset + slope * count:>8.0f}{cpu:>14.0f}")


def drawn(series: list[tuple[str, str, list[tuple[int, float, float]]]]) -> str:
    """The plots beside each other, each with its line."""
    width, height, margin = 360, 260, 44
    parts = []
    for at, (title, unit, measured) in enumerate(series):
        offset, slope, explained = fit(measured)
        right, top = max(count for count, *_ in measured) * 1.05, max(ms for _, ms, _ in measured) * 1.1
        x = lambda count: at * width + margin + (width - margin - 16) * count / right
        y = lambda ms: height - margin - (height - margin - 48) * ms / top
        parts.append(f'<text x="{at * width + margin}" y="18">{title.partition(",")[0]}:{title.partition(",")[2]}</text>')
        parts.append(f'<text x="{at * width + margin}" y="34" class="small">{offset:.0f} ms + {slope:.1f} ms a {unit[:-1]}, R² {explained:.4f}</text>')
        parts.append(f'<path d="M{x(0):.1f} {y(top):.1f}V{y(0):.1f}H{x(right):.1f}" class="axis"/>')
        parts.append(f'<path d="M{x(0):.1f} {y(offset):.1f}L{x(right):.1f} {y(offset + slope * right):.1f}" class="line"/>')
        for count, ms, _ in measured:
            parts.append(f'<circle cx="{x(count):.1f}" cy="{y(ms):.1f}" r="3.5"/>')
            parts.append(f'<text x="{x(count):.1f}" y="{height - margin + 16}" class="small" text-anchor="middle">{count}</text>')
        parts.append(f'<text x="{at * width + margin - 6}" y="{y(top) + 8:.1f}" class="small" text-anchor="end">{top:.0f}</text>')
        parts.append(f'<text x="{x(right / 2):.1f}" y="{height - 8}" class="small" text-anchor="middle">{unit}; ms</text>')
    style = "text{font:13px sans-serif;fill:#222}.small{font-size:11px;fill:#555}.axis{fill:none;stroke:#999}.line{stroke:#2a6fb0;stroke-width:1.5}circle{fill:#b03a2a}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * len(series)} {height}"><style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'


# ---------------------------------------------------------------- burst


def run_burst(arguments: argparse.Namespace, directory: Path) -> None:
    with Daemon(arguments.vouchd, ROOT, directory) as daemon:
        wait_for_sessions(daemon)
        watch = ("--callers", "1", "--duration", f"{arguments.seconds}s", "--warm-up", "1s")
        alone = report(bench(arguments, daemon, "selfie", *watch))["steps"][0]
        before = daemon.status()
        watching = bench(arguments, daemon, "selfie", *watch)
        time.sleep(3)
        # All of them within a second.
        sending = bench(
            arguments, daemon, "selfie", "--rate", str(arguments.requests), "--duration", "1s", "--warm-up", "0s",
            "--max-in-flight", str(arguments.requests), "--connections", "200", "--timeout", "120s",
        )
        beside, sent = report(watching)["steps"][0], report(sending)["steps"][0]
        peak = sent["cost"]["daemon"]["resident_bytes_peak"] if sent["cost"]["daemon"] else 0
        time.sleep(12)
        after = daemon.status()
    refused, ms = sent["refusal_ms"], lambda spread, key: f"{spread[key]:.0f}" if spread else "-"
    print(f"burst of {arguments.requests}: {sent['sent']} sent, {sent['answered']} answered, {sent['refused']} refused, failed {sent['failed']}, wrong {sent['wrong']}, not sent {sent['not_sent']}")
    print(f"  refused after {ms(refused, 'p50')} ms (median), {ms(refused, 'p99')} ms (99 %); answered after {ms(sent['latency_ms'], 'p50')} ms (median), {ms(sent['latency_ms'], 'max')} ms at most")
    print(f"  the other caller: {ms(alone['latency_ms'], 'p50')} ms (median), {ms(alone['latency_ms'], 'max')} ms at most before; {ms(beside['latency_ms'], 'p50')} and {ms(beside['latency_ms'], 'max')} beside it, {beside['refused']} refused, failed {beside['failed']}")
    print(f"  resident: {before.resident_bytes / 2**20:.0f} MiB before, {peak / 2**20:.0f} at most, {after.resident_bytes / 2**20:.0f} afterwards; {after.running} running, {after.waiting} waiting")


if __name__ == "__main__":
    sys.exit(main())
