"""Servers for the benchmarks: real processes on loopback, ready before they are measured, and ended afterwards."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import httpx

from benchmarks.load import HOST
from service.model.bundle import Bundle, discover, load

ROOT = Path(__file__).resolve().parents[1]
FAVOURITE = "sentiment-bilstm"
_STARTS_WITHIN, _STOPS_WITHIN, _ANSWERS_WITHIN = 240.0, 60.0, 30.0
_LOWEST_PORT = 10_000
_LAST_CHARACTERS = 4000
"""The end of the output of a server that did not start."""

Ready = Callable[[int], bool]
"""True if the server on a port is ready. `ServingError` and errors of httpx's transport mean no."""


class ServingError(RuntimeError):
    """A server did not start, or answered otherwise than it should."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port, its first process, and the seconds from its start until it was ready."""

    port: int
    process: subprocess.Popen[bytes]
    seconds: float

    @property
    def children(self) -> tuple[int, ...]:
        """The processes that the first one has started, in their order."""
        pid = self.process.pid
        return tuple(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()))

    def cpu_seconds(self) -> float:
        """CPU seconds of all its processes so far, with those in the kernel."""
        return sum(map(cpu_seconds, (self.process.pid, *self.children)))


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process so far, with those in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int, kind: Literal["Pss", "Rss"] = "Rss") -> float:
    """The resident set of a process, or its proportional set, in which shared pages count in parts."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def shipped() -> Bundle:
    """`FAVOURITE` in its highest version or, where it is not there, the first model that is.

    Raises `ServingError` where there is none, `BundleError` for a bundle that does not match its manifest.
    """
    folder = ROOT / "models"
    found = dict(discover(folder)) if folder.is_dir() else {}
    if not found:
        raise ServingError("models/ holds no bundle to serve")
    name = FAVOURITE if FAVOURITE in found else min(found)
    return load(folder / name / str(found[name][-1]))


def answers(port: int, path: str, text: str = "") -> bool:
    """True if a server answers a `GET` with status 200, and with `text` in the body."""
    connection = HTTPConnection(HOST, port, timeout=_ANSWERS_WITHIN)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == 200 and text in answer.read().decode()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def is_ready(port: int) -> bool:
    """True if a service says that it is ready."""
    return answers(port, "/health/ready")


def workers_are_ready(workers: int) -> Ready:
    """True if so many workers of a service are ready; the metrics show it once a second."""
    return lambda port: answers(port, "/metrics", f"\ngatelight_ready {workers:.1f}")


@contextmanager
def pinned(place: int) -> Iterator[None]:
    """Within the block, run on one CPU, with the processes that are started there: the first of ours, or the last.
    Anywhere if there is only one."""
    if not hasattr(os, "sched_setaffinity") or len(cpus := sorted(os.sched_getaffinity(0))) < 2:
        yield
        return
    os.sched_setaffinity(0, {cpus[place]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


@contextmanager
def server(
    *program: str,
    ready: Ready = is_ready,
    root: Path = ROOT,
    python: Path = Path(sys.executable),
    environment: Mapping[str, str] = MappingProxyType({}),
    log: Path | None = None,
    pause: float = 0.1,
) -> Iterator[Server]:
    """A Python program of the checkout `root` that serves on the port of its flag ``--port``, once it is `ready`.

    It is ended afterwards, with all its workers. `log` keeps its output, `pause` is in seconds, between two questions
    whether it is ready. Raises `ServingError` if it does not start.
    """
    port = free_port()
    settings = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")}
    settings.pop("PYTHONDONTWRITEBYTECODE", None)  # a start that compiles all modules is not one that comes twice
    command = [str(python), "-m", *program, "--port", str(port)]
    # The working folder is an empty one: no file .env is read, and nothing lands in the repository.
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, (log or Path(folder, "log")).open("w+b") as output:
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 # our own programs, no shell
            command,
            cwd=folder,
            env={**settings, **environment, "PYTHONPATH": str(root)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            while not _is(ready, port):
                if process.poll() is not None or time.perf_counter() - started > _STARTS_WITHIN:
                    output.seek(0)
                    said = output.read().decode(errors="replace")[-_LAST_CHARACTERS:]
                    raise ServingError(f"{program[0]} did not start:\n{said}")
                time.sleep(pause)
            yield Server(port, process, time.perf_counter() - started)
        finally:
            _end(process)


def free_port() -> int:
    """A port of all addresses at which nobody listens, for a server that is told its port. Another run chooses another.

    It lies below the range from which the system gives ports to programs that leave the choice to it: none of them can
    get it before the server has it. On systems without such a range, the system
    chooses.
    """
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except OSError:
        first = 0
    candidates = range(_LOWEST_PORT, first)
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", secrets.choice(candidates) if candidates else 0))
            port: int = probe.getsockname()[1]
            return port


def _is(ready: Ready, port: int) -> bool:
    try:
        return ready(port)
    except (ServingError, httpx.TransportError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server with SIGTERM, even one that is stopped; then kill the processes of its group that are left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOPS_WITHIN)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
