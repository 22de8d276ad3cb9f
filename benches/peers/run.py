#!/usr/bin/env python3
"""Compares vouchd with what the usual open Python parts do with the same media on the same machine, in the same run.

Four parts: `full`, a whole verification of a document and a selfie; `mrz` and `barcode`, one reader against another; `selfie`, two faces under
load, against a FastAPI service. Everything is started here and ended here, measured in turns, and printed as medians and ratios. README.md tells what
is compared and what is fair about it. Exit codes: 0, 1 if something that is needed is missing or fails, 3 if answers disagree.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processes import Child, Failure

if TYPE_CHECKING:
    from daemon import Daemon

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEER_PACKAGES = ROOT / ".cache" / "peers"
CLIENT_PACKAGES = ROOT / ".cache" / "python"
# For `daemon` and `load`, which are imported once it is known that their packages are there.
sys.path.append(str(CLIENT_PACKAGES))

PARTS = {
    "full": "a whole verification of a document and a selfie, beside three variants of a Python stack",
    "mrz": "the machine-readable zone, beside FastMRZ, PassportEye and RapidOCR",
    "barcode": "barcodes, beside zxing-cpp",
    "selfie": "a selfie and a reference photograph under load, beside a FastAPI service",
}
CORES = len(os.sched_getaffinity(0))
SELFIE_PIXELS = 2_000_000
CALLERS = (1, 2, 4, 8)
LOAD_OF_OPEN_LOOP = 0.7

# What each peer must answer where vouchd does, beside `live_probability` and the ages.
ONE_VECTOR_EACH = ("cosine_a", "cosine_b")
RUNS_ON_FACES = ("cosine_a_mirrored", "cosine_b_mirrored", "yaw_deg", "pitch_deg")

# How far answers may lie apart. Crops are cut by different code, which moves scores a little.
MAX_COSINE_DIFFERENCE = 0.03
MAX_AGE_DIFFERENCE = 2.0


def main() -> int:
    arguments = parse_arguments()
    # A SIGTERM, too, ends what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="vouch-peers-") as directory, ExitStack() as stack:
            return Comparison(arguments, Path(directory), stack).run()
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parse_arguments() -> argparse.Namespace:
    parts = "\n".join(f"  {name:8} {meaning}" for name, meaning in PARTS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__.splitlines()[0]}\n\nparts:\n{parts}",
        epilog="environment:\n  PEERS_TESSDATA  folder with mrz.traineddata; without it FastMRZ is left out\n\n"
        "exit codes:\n  0  measured, and the answers agree\n  1  something that is needed is missing or fails\n  3  measured, but answers disagree\n\n"
        "`make bench-peers` builds and fetches what is needed. README.md beside this file says what is fair.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(PARTS), metavar="PARTS", help="comma-separated [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each contestant [%(default)s]")
    parser.add_argument("--seconds", type=float, default=8.0, metavar="S", help="length of one measurement under load [%(default)s]")
    parser.add_argument("--vouch", type=Path, default=ROOT / "target/release/vouch", metavar="FILE", help="[target/release/vouch]")
    parser.add_argument("--vouchd", type=Path, default=ROOT / "target/release/vouchd", metavar="FILE", help="[target/release/vouchd]")
    parser.add_argument("--pack", type=Path, default=ROOT / "models/pack", metavar="FOLDER", help="model pack of the peers; the daemon finds its own [models/pack]")
    parser.add_argument("--document", type=Path, metavar="FILE", help="picture of a passport page [drawn: 12 megapixels]")
    parser.add_argument("--selfie", type=Path, metavar="FILE", help="[the sample photograph, enlarged to 2 megapixels]")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="earlier photograph of the person [the sample portrait]")
    parser.add_argument("--seed", type=int, default=11, metavar="N", help="of the drawn passport [%(default)s]")
    parser.add_argument("--spinning", action="store_true", help="let idle threads of the Python stack's onnxruntime spin, as by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    arguments = parser.parse_args()
    arguments.only = [part for part in arguments.only.split(",") if part]
    if unknown := set(arguments.only) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not arguments.only:
        parser.error("--only names no part")
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--rounds and --seconds must be above 0")
    return arguments


# ---------------------------------------------------------------- what is measured with


class Stack:
    """The worker process with the Python parts."""

    def __init__(self, pack: Path, spins: bool, tessdata: Path | None, directory: Path) -> None:
        command = [sys.executable, HERE / "python_stack.py", "--pack", pack, "--threads", str(CORES)]
        if spins:
            command.append("--spinning")
        if tessdata:
            command += ["--tessdata", tessdata]
        self.child = Child("the Python stack", command, directory / "stack.log", environment=peer_environment(), pipes=True)

    def __enter__(self) -> Stack:
        try:
            self._answer()
        except BaseException:
            self.child.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()

    def ask(self, task: str, **named: Any) -> dict[str, Any]:
        request = {"task": task} | {name: str(value) if isinstance(value, Path) else value for name, value in named.items()}
        try:
            print(json.dumps(request), file=self.child.process.stdin, flush=True)
        except BrokenPipeError:
            raise self.child.failure("ended:") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self.child.process.stdout.readline()
        if not line:
            raise self.child.failure("ended:")
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(f"the Python stack: {answer['error']}")
        return answer


class Service:
    """The FastAPI service in one configuration. `threads` 0: onnxruntime's own choice, all cores. `spins`: its idle threads spin."""

    def __init__(self, workers: int, threads: int, spins: bool, pack: Path, directory: Path) -> None:
        self.name = f"service, {plural(workers, 'worker')}, {'all cores' if threads == 0 else plural(threads, 'thread')} each"
        if spins:
            self.name += ", spinning"
        self.workers = workers
        self.socket = directory / f"service-{workers}-{threads}-{spins:d}.sock"
        self.ready = self.socket.with_suffix(".ready")
        self.ready.mkdir()
        command = [
            sys.executable, "-m", "uvicorn", "service:create_app", "--factory", "--app-dir", HERE, "--uds", self.socket,
            "--workers", str(workers), "--loop", "uvloop", "--http", "httptools", "--log-level", "warning", "--no-access-log",
        ]  # fmt: skip
        environment = peer_environment() | {
            "PEERS_PACK": str(pack), "PEERS_THREADS": str(threads), "PEERS_SPINNING": f"{spins:d}", "PEERS_READY": str(self.ready),
        }  # fmt: skip
        self.child = Child(self.name, command, self.socket.with_suffix(".log"), environment=environment)

    def __enter__(self) -> Service:
        try:
            self.child.wait_until(self._is_serving)
        except BaseException:
            self.child.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()

    def _is_serving(self) -> bool:
        """Whether every worker has its models: a connection may come to any of them."""
        return len(list(self.ready.iterdir())) >= self.workers and self._curl("/health") is not None

    def _curl(self, path: str, body: bytes | None = None) -> dict[str, Any] | None:
        """One request by hand: no client library is worth its place for two of them. `None` if there is no good answer."""
        import socket

        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
                connection.connect(str(self.socket))
                connection.sendall(body or f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        except OSError:
            return None
        head, _, content = answer.partition(b"\r\n\r\n")
        return json.loads(content) if head.split(b" ")[1:2] == [b"200"] else None

    def verify(self, selfie: Path, reference: Path) -> dict[str, Any]:
        from load import http_request

        answer = self._curl("/verify", http_request(selfie.read_bytes(), reference.read_bytes(), keep_alive=False))
        if answer is None:
            raise self.child.failure("did not answer a verification:")
        return answer


class Comparison:
    """One run of everything that was asked for."""

    def __init__(self, arguments: argparse.Namespace, directory: Path, stack: ExitStack) -> None:
        self.arguments, self.directory, self.stack = arguments, directory, stack
        self.disagreements: list[str] = []
        self.report: dict[str, Any] = {}
        self.tessdata = tessdata()
        self.zone_reader = "fastmrz" if self.tessdata else "passporteye"

    def run(self) -> int:
        arguments = self.arguments
        check_requirements(arguments, self.tessdata)
        from daemon import Daemon

        self.python = self.stack.enter_context(Stack(arguments.pack, arguments.spinning, self.tessdata, self.directory))
        self.daemon = self.stack.enter_context(Daemon(arguments.vouchd, ROOT, self.directory))
        self.prepare_media()
        self.tell_machine()
        for part in PARTS:
            if part in arguments.only:
                self.report[part] = getattr(self, f"measure_{part}")()
        print(f"\nload average at the end: {load_average()}")
        self.report["machine"]["load_average_at_end"] = os.getloadavg()
        self.report["disagreements"] = self.disagreements
        self.report["left_out"] = [] if self.tessdata else ["FastMRZ"]
        if arguments.json:
            arguments.json.write_text(json.dumps(self.report, indent=1) + "\n")
        self.tell_what_is_left_out()
        for disagreement in self.disagreements:
            print(f"DISAGREES: {disagreement}")
        return 3 if self.disagreements else 0

    def prepare_media(self) -> None:
        arguments, photos = self.arguments, ROOT / ".cache/photos"
        self.truth: dict[str, list[str]] = {}
        self.reference = arguments.reference or photos / "portrait.jpg"
        self.selfie = arguments.selfie or self.directory / "selfie.jpg"
        if arguments.selfie is None:
            self.python.ask("enlarge", picture=photos / "selfie.jpg", pixels=SELFIE_PIXELS, out=self.selfie)
        self.document = arguments.document
        if self.document is None:
            self.document, drawn = self.draw("td3", 2, arguments.seed, "--portrait", photos / "portrait.jpg")
            self.truth["mrz"] = drawn["mrz"]["lines"]
        # zxing-cpp alone reads a PDF417 only where its rows are nearly level, as on a scan.
        self.licences = {
            name: self.draw("licence", level, 1) for name, level in (("licence, scanned", 0), ("licence, photographed", 2))
        }

    def draw(self, kind: str, level: int, seed: int, *more: Any) -> tuple[Path, dict[str, Any]]:
        """The last page of a generated document, 12 megapixels, and what stands on it."""
        out = self.directory / f"{kind}-{level}"
        command = [self.arguments.vouch, "specimen", "--kind", kind, "--photo", str(level), "--seed", str(seed)]
        command += ["--size", "4000x3000", "--out", out, *more]
        drawn = subprocess.run(command, capture_output=True, text=True, check=False)
        if drawn.returncode:
            raise Failure(f"vouch specimen: {drawn.stderr.strip()}")
        (description,) = out.glob("*.json")
        page = json.loads(description.read_text())["pages"][-1]
        return out / page["file"], page

    def tell_machine(self) -> None:
        status = self.daemon.status()
        versions = self.python.ask("versions")["answers"]
        tesseract = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
        versions |= {"tesseract": tesseract, "vouchd": status.version, "onnxruntime of vouchd": status.runtime_version}
        self.report["machine"] = {
            "cpu": cpu_model(), "cores": CORES, "python": platform.python_version(), "load_average_at_start": os.getloadavg(),
        }  # fmt: skip
        self.report["versions"] = versions
        self.report["media"] = {
            name: {"file": path.name, "bytes": path.stat().st_size}
            for name, path in (("document", self.document), ("selfie", self.selfie), ("reference", self.reference))
        }
        print(f"machine: {cpu_model()}, {plural(CORES, 'core')}, load average {load_average()}")
        print(f"versions: Python {platform.python_version()}, " + ", ".join(f"{name} {one}" for name, one in versions.items()))
        print(f"command: {' '.join(sys.argv)}")
        self.tell_what_is_left_out()

    def tell_what_is_left_out(self) -> None:
        if not self.tessdata and {"full", "mrz"} & set(self.arguments.only):
            print("LEFT OUT: FastMRZ, since PEERS_TESSDATA names no folder with mrz.traineddata (see README.md). In `full` PassportEye takes its place.")

    # ---------------------------------------------------------------- one thing at a time

    def turns(self, contestants: dict[str, Callable[[], dict[str, Any]]]) -> dict[str, dict[str, Any]]:
        """Warms each up, then measures them in turns. Medians over the rounds; the answers are the last ones."""
        samples: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
        for measured in (False, *[True] * self.arguments.rounds):
            for name, work in contestants.items():
                sample = work()
                if measured:
                    samples[name].append(sample)
        return {
            name: {
                "ms": statistics.median(sample["ms"] for sample in taken),
                "cpu_ms": statistics.median(sample["cpu_ms"] for sample in taken),
                "stages_ms": {
                    stage: statistics.median(sample["stages"][stage] for sample in taken if stage in sample["stages"])
                    for stage in {stage: None for sample in taken for stage in sample["stages"]}
                },
                "answers": taken[-1]["answers"],
                "samples_ms": [round(sample["ms"], 3) for sample in taken],
                "samples_cpu_ms": [round(sample["cpu_ms"], 1) for sample in taken],
            }
            for name, taken in samples.items()
        }

    def measure_full(self) -> dict[str, Any]:
        from daemon import verify_request

        request = verify_request(document=self.document, selfie=self.selfie)
        media = {"document": self.document, "selfie": self.selfie, "zone_reader": self.zone_reader}
        contestants: dict[str, Callable[[], dict[str, Any]]] = {"vouchd": lambda: self.daemon.verify(request)}
        for variant in ("usual", "same-work", "leanest"):
            contestants[f"Python, {variant}"] = lambda variant=variant: self.python.ask("verify", variant=variant, **media)
        results = self.turns(contestants)
        title("full: a whole verification, document and selfie")
        print_ratios(results)
        print_stages(results)
        print("stages of vouchd and of leanest run beside each other and hold waiting, so they do not add up")
        ours = results["vouchd"]["answers"]
        print(f"\noutcomes of vouchd: {', '.join(f'{check} {outcome}' for check, outcome in sorted(ours['outcomes'].items()))}")
        for name, result in results.items():
            answers = result["answers"]
            if name != "vouchd":
                required = RUNS_ON_FACES if name == "Python, same-work" else ONE_VECTOR_EACH
                self.compare_scores(f"full, {name}", required, ours, answers)
            self.tell_zone(name, answers.get("mrz", []), ours.get("mrz", []))
        return results

    def measure_mrz(self) -> dict[str, Any]:
        picture = self.document.read_bytes()
        contestants: dict[str, Callable[[], dict[str, Any]]] = {"vouchd": lambda: self.daemon.read("mrz", picture)}
        readers = {"FastMRZ": "fastmrz", "PassportEye": "passporteye", "RapidOCR on the picture": "rapidocr"}
        for name, reader in readers.items():
            if reader != "fastmrz" or self.tessdata:
                contestants[name] = lambda reader=reader: self.python.ask("mrz", reader=reader, picture=self.document)
        results = self.turns(contestants)
        title("mrz: the machine-readable zone of the document's picture")
        print_ratios(results)
        print_stages({"vouchd": results["vouchd"]})
        for name, result in results.items():
            self.tell_zone(name, result["answers"]["mrz"], results["vouchd"]["answers"]["mrz"])
        return results

    def measure_barcode(self) -> dict[str, Any]:
        pictures = {name: path for name, (path, _) in self.licences.items()} | {"passport, no barcode": self.document}
        report = {}
        for name, path in pictures.items():
            picture = path.read_bytes()
            results = self.turns({
                "vouchd": lambda picture=picture: self.daemon.read("barcode", picture),
                "zxing-cpp": lambda path=path: self.python.ask("barcode", picture=path),
            })  # fmt: skip
            title(f"barcode: {name}")
            print_ratios(results)
            print_stages({"vouchd": results["vouchd"]})
            found = {who: set(result["answers"]["barcodes"]) for who, result in results.items()}
            for who, codes in found.items():
                print(f"{who}: {plural(len(codes), 'symbol')}, {sum(map(len, codes)) // 2} bytes")
            if not found["zxing-cpp"] <= found["vouchd"]:
                self.disagreements.append(f"barcode, {name}: zxing-cpp reads what vouchd does not")
            elif found["vouchd"] - found["zxing-cpp"]:
                print("the ratio flatters zxing-cpp: it does not read what vouchd reads")
            report[name] = results
        return report

    # ---------------------------------------------------------------- under load

    def measure_selfie(self) -> dict[str, Any]:
        from daemon import verify_request

        # A session of one thread has no idle ones that could spin.
        configurations = dict.fromkeys([(1, 0, False), (1, 0, True), (1, 1, False), (CORES, 1, False)])
        services = [
            self.stack.enter_context(Service(*configuration, self.arguments.pack, self.directory))
            for configuration in configurations
        ]
        title("selfie: a selfie and a reference photograph, under load")
        ours = self.daemon.verify(verify_request(selfie=self.selfie, reference=self.reference))["answers"]
        for service in services:
            self.compare_scores(service.name, RUNS_ON_FACES, ours, service.verify(self.selfie, self.reference))
        targets: dict[str, Daemon | Service] = {"vouchd": self.daemon} | {service.name: service for service in services}

        closed: dict[str, dict[int, list[dict[str, Any]]]] = {name: {callers: [] for callers in CALLERS} for name in targets}
        for _ in range(self.arguments.rounds):
            for callers in CALLERS:
                for name, target in targets.items():
                    closed[name][callers].append(self.load(target, callers=callers))
        summary = {name: {callers: summed_up(runs) for callers, runs in by.items()} for name, by in closed.items()}
        print("\nclosed loop: every caller sends its next request when the last one is answered")
        print_table(
            ["", "callers", "req/s", "p50 ms", "p99 ms", "CPU ms/req", "generator % of a core"],
            [[name, callers, *load_cells(one)] for name, by in summary.items() for callers, one in by.items()],
        )

        best = {name: max(one["per_second"] for one in by.values()) for name, by in summary.items()}
        rival = max((service.name for service in services), key=lambda name: best[name])
        print(f"\nat saturation: vouchd {best['vouchd']:.2f}/s, the best service {best[rival]:.2f}/s ({rival}): "
              f"{best['vouchd'] / best[rival]:.2f} times")  # fmt: skip
        rows = []
        for callers in CALLERS:
            daemon = summary["vouchd"][callers]
            others = [summary[service.name][callers] for service in services]
            # Each figure beside the best that any configuration has for it.
            throughput = daemon["per_second"] / max(one["per_second"] for one in others)
            latency = [min(one[quantile] for one in others) / daemon[quantile] for quantile in ("p50_ms", "p99_ms")]
            cpu = min(one["cpu_ms_per_request"] for one in others) / daemon["cpu_ms_per_request"]
            rows.append([callers, *(f"{ratio:.2f}" for ratio in (throughput, *latency, cpu))])
        print("\nhow many times better vouchd is than the best configuration in each figure")
        print_table(["callers", "throughput", "p50", "p99", "CPU per request"], rows)

        rates = {
            f"vouchd at {LOAD_OF_OPEN_LOOP:.0%} of its own": ("vouchd", best["vouchd"] * LOAD_OF_OPEN_LOOP),
            f"the best service at {LOAD_OF_OPEN_LOOP:.0%} of its own": (rival, best[rival] * LOAD_OF_OPEN_LOOP),
            "vouchd at the service's rate": ("vouchd", best[rival] * LOAD_OF_OPEN_LOOP),
        }
        opened: dict[str, list[dict[str, Any]]] = {name: [] for name in rates}
        for turn in range(self.arguments.rounds):
            for name, (target, rate) in rates.items():
                opened[name].append(self.load(targets[target], rate=rate, seed=turn + 1))
        open_summary = {name: summed_up(runs) | {"rate": rates[name][1]} for name, runs in opened.items()}
        print("\nopen loop: requests come by chance at a mean rate, and latency counts from when each was to start")
        print_table(
            ["", "rate/s", "requests", "p50 ms", "p99 ms", "p99/p50", "CPU ms/req"],
            [
                [name, f"{one['rate']:.2f}", one["requests"], f"{one['p50_ms']:.0f}", f"{one['p99_ms']:.0f}",
                 f"{one['p99_ms'] / one['p50_ms']:.2f}", f"{one['cpu_ms_per_request']:.0f}"]
                for name, one in open_summary.items()
            ],
        )  # fmt: skip
        return {"closed": summary, "best_service": rival, "at_saturation": best, "open": open_summary}

    def load(self, target: Daemon | Service, **options: Any) -> dict[str, Any]:
        """One run of the load generator."""
        command: list[Any] = [sys.executable, HERE / "load.py", "--socket", target.socket]
        command += ["--selfie", self.selfie, "--reference", self.reference, "--seconds", str(self.arguments.seconds)]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command += ["--target", "http" if isinstance(target, Service) else "grpc"]
        if isinstance(target, Service) and target.workers > 1:
            # Connections that stay open stay with the worker that took them, which may be the same one for all.
            command.append("--no-keep-alive")
        environment = os.environ | {"PYTHONPATH": str(CLIENT_PACKAGES)}
        cpu = target.child.cpu_seconds()
        ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=environment, check=False)
        if ended.returncode:
            raise Failure(f"the load generator failed:\n{ended.stderr.strip()}")
        result = json.loads(ended.stdout)
        if result["errors"]:
            raise Failure(f"under load: {result['errors']}")
        return result | {"server_cpu_seconds": target.child.cpu_seconds() - cpu}

    # ---------------------------------------------------------------- the same answers?

    def compare_scores(self, name: str, required: tuple[str, ...], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        """Prints each score beside the daemon's. A peer that gives another answer, or none, does other work."""
        cells = []
        for measure in ("age_a_years", "age_b_years", "live_probability", *required):
            # The daemon may compare vectors with the mirror image alone; those of the face alone lie near them.
            own = ours.get(measure, ours.get(f"{measure}_mirrored"))
            if measure not in theirs or own is None:
                lacking = [who for who, answer in ((name, theirs.get(measure)), ("vouchd", own)) if answer is None]
                self.disagreements.append(f"{name}: no {measure} from {' and '.join(lacking)}; was a face found?")
                continue
            cells.append(f"{measure} {theirs[measure]:.3f} ({own:.3f})")
            difference = abs(theirs[measure] - own)
            is_age = measure.startswith("age")
            limit = MAX_AGE_DIFFERENCE if is_age else MAX_COSINE_DIFFERENCE
            is_strict = measure.endswith("_mirrored") or (is_age and required == RUNS_ON_FACES)
            if is_strict and difference > limit:
                self.disagreements.append(f"{name}: {measure} {theirs[measure]:.3f}, vouchd {own:.3f}")
        print(f"{name}, in parentheses vouchd: {', '.join(cells)}")

    def tell_zone(self, name: str, lines: list[str], of_daemon: list[str]) -> None:
        truth = self.truth.get("mrz", of_daemon)
        right = sum(line in lines for line in truth)
        print(f"{name}: {right} of {plural(len(truth), 'line')} of the zone exact")
        if name == "vouchd" and right < len(truth):
            self.disagreements.append(f"vouchd reads {right} of {len(truth)} lines of the zone")


# ---------------------------------------------------------------- tables


def title(text: str) -> None:
    print(f"\n== {text}")


def print_table(head: list[str], rows: list[list[Any]]) -> None:
    table = [head, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        cells = [cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())


def print_ratios(results: dict[str, dict[str, Any]]) -> None:
    """Medians, and how many times the daemon's each is."""
    daemon = results["vouchd"]
    rows = [
        [name, f"{one['ms']:.0f}", f"{min(one['samples_ms']):.0f}", f"{one['ms'] / daemon['ms']:.2f}", f"{one['cpu_ms']:.0f}",
         f"{one['cpu_ms'] / daemon['cpu_ms']:.2f}"]
        for name, one in results.items()
    ]  # fmt: skip
    print_table(["", "ms", "least ms", "times vouchd's", "CPU ms", "times vouchd's"], rows)


def print_stages(results: dict[str, dict[str, Any]]) -> None:
    """One column for each contestant. Stages that run beside each other hold waiting, so their times do not add up."""
    stages = {stage: None for one in results.values() for stage in one["stages_ms"]}
    if not stages:
        return
    rows = [
        [stage, *(f"{one['stages_ms'][stage]:.1f}" if stage in one["stages_ms"] else "-" for one in results.values())]
        for stage in stages
    ]
    print("\nmedians of the stages, ms")
    print_table(["", *results], rows)


def load_cells(one: dict[str, Any]) -> list[str]:
    return [
        f"{one['per_second']:.2f}", f"{one['p50_ms']:.0f}", f"{one['p99_ms']:.0f}", f"{one['cpu_ms_per_request']:.0f}",
        f"{one['generator_share']:.0%}",
    ]  # fmt: skip


def summed_up(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Throughput is the median of the runs; quantiles are those of all their latencies together."""
    latencies = sorted(latency for run in runs for latency in run["latencies_ms"])
    if not latencies:
        raise Failure("no request was answered within a measurement under load; give more --seconds")
    requests = sum(run["requests"] for run in runs)
    return {
        "per_second": statistics.median(len(run["latencies_ms"]) / run["seconds"] for run in runs),
        "requests": len(latencies),
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
        "cpu_ms_per_request": sum(run["server_cpu_seconds"] for run in runs) / requests * 1e3,
        "generator_share": sum(run["generator_cpu_seconds"] for run in runs) / sum(run["seconds"] for run in runs),
        "runs_per_second": [len(run["latencies_ms"]) / run["seconds"] for run in runs],
    }


def quantile(ordered: list[float], share: float) -> float:
    """Nearest rank."""
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


# ---------------------------------------------------------------- surroundings


def tessdata() -> Path | None:
    """The folder that PEERS_TESSDATA names, if FastMRZ's language is in it."""
    folder = os.environ.get("PEERS_TESSDATA")
    return Path(folder).resolve() if folder and (Path(folder) / "mrz.traineddata").is_file() else None


def check_requirements(arguments: argparse.Namespace, tessdata: Path | None) -> None:
    if arguments.json and not (arguments.json.parent.is_dir() and os.access(arguments.json.parent, os.W_OK)):
        raise Failure(f"{arguments.json} cannot be written")
    try:
        import daemon  # noqa: F401
    except ModuleNotFoundError as missing:
        raise Failure(f"the Python package {missing.name} is missing; run `make python-packages` first") from None
    if not (PEER_PACKAGES / "rapidocr").is_dir():
        raise Failure("the peers' packages are missing; run `make peers-packages` first")
    for binary in (arguments.vouch, arguments.vouchd):
        if not binary.is_file():
            raise Failure(f"there is no {binary}; run `make build` first, or give --vouch and --vouchd")
    if not (arguments.pack / "sface.onnx").is_file():
        raise Failure(f"there is no model pack in {arguments.pack}; run `make pack` first, or give --pack")
    photos = [ROOT / ".cache/photos" / name for name in ("selfie.jpg", "portrait.jpg")]
    given = [path for path in (arguments.document, arguments.selfie, arguments.reference) if path]
    for path in given + ([] if len(given) == 3 else photos):
        if not path.is_file():
            raise Failure(f"there is no {path}" + ("; run `make sample-photos` first" if path in photos else ""))
    try:
        languages = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:
        raise Failure("tesseract is missing; run `make peers-packages` first, or install tesseract-ocr and tesseract-ocr-eng") from None
    if "eng" not in languages:
        raise Failure("tesseract lacks the language eng, which PassportEye reads with; install tesseract-ocr-eng")
    if os.environ.get("PEERS_TESSDATA") and not tessdata:
        raise Failure(f"PEERS_TESSDATA names {os.environ['PEERS_TESSDATA']}, where there is no mrz.traineddata")


def peer_environment() -> dict[str, str]:
    return {"PYTHONPATH": f"{HERE}:{PEER_PACKAGES}"}


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def load_average() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


if __name__ == "__main__":
    sys.exit(main())
