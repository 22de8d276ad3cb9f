"""Child processes of the comparison: started with their output in a log, always ended, their processor time counted."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    """Something that a comparison needs does not work; the message is for a person."""


class Child:
    """A process and what it starts itself. A context manager: leaving it ends them all."""

    def __init__(self, name: str, command: list[str | Path], log: Path, *, cwd: Path | None = None, environment: dict[str, str] | None = None, pipes: bool = False) -> None:
        self.name, self.log = name, log
        libc = ctypes.CDLL(None)
        pipe = subprocess.PIPE if pipes else None
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                cwd=cwd,
                env=os.environ | (environment or {}),
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or output,
                stderr=output,
                text=True,
                # A group of its own, so that all of it can be ended; and ended also where this process is killed.
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass
        # Members of the group that outlived their parent, too.
        self._signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def failure(self, what: str) -> Failure:
        lines = self.log.read_text(errors="replace").strip().splitlines()[-12:]
        return Failure(f"{self.name} {what}" + "".join(f"\n    {line}" for line in lines))

    def wait_until(self, is_ready: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not is_ready():
            if self.process.poll() is not None:
                raise self.failure(f"ended with exit code {self.process.returncode} while starting:")
            if time.monotonic() > end:
                raise self.failure(f"was not ready after {seconds:.0f} s:")
            time.sleep(0.1)

    def cpu_seconds(self) -> float:
        """Processor time of the process and of its living and ended descendants so far, to a hundredth of a second."""
        return cpu_seconds_of_tree(self.process.pid)


def cpu_seconds_of_tree(root: int) -> float:
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name, in parentheses, may hold anything.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        # Its own user and system time, and those of children that it has waited for.
        ticks[pid] = sum(int(field) for field in fields[11:15])
    tree, found = {root}, True
    while found:
        found = {pid for pid, parent in parents.items() if parent in tree} - tree
        tree |= found
    return sum(ticks.get(pid, 0) for pid in tree) / TICKS_PER_SECOND
