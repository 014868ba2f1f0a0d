"""Load from outside: wrk if it is installed, because it uses a fraction of the CPU of a Python generator; else the
Python one. Both send the same bodies in turn over keep-alive connections. Each connection waits for its answer before
the next request.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "wrk" if shutil.which("wrk") else "benchmarks/load.py"
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
_PATIENCE = 120.0


class LoadError(RuntimeError):
    """A load generator failed, or a server answered otherwise than 200."""


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one run: answers with status 200 a second, median and 99th percentile of the latency. wrk counts
    refusals and errors too; they are subtracted. The Python generator fails at the first of them.
    """

    rate: float
    median_ms: float
    p99_ms: float


def run(
    port: int, path: str, bodies: Sequence[bytes], connections: int, seconds: float, *, accept: str = "*/*"
) -> Load:
    """Ask for `seconds`, with an ``Accept`` header. Raises `LoadError`."""
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        make = _wrk if NAME == "wrk" else _python
        command = make(Path(folder), port, path, bodies, connections, seconds, accept)
        try:
            done = subprocess.run(  # noqa: S603 # our own command, no shell
                command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + _PATIENCE, check=True
            )
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            said = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
            raise LoadError(f"{NAME} failed: {said or error}") from error
    return _of_wrk(done.stdout) if NAME == "wrk" else Load(**json.loads(done.stdout))


def _wrk(
    folder: Path, port: int, path: str, bodies: Sequence[bytes], connections: int, seconds: float, accept: str
) -> list[str]:
    script = folder / "requests.lua"
    quoted = ",\n".join(json.dumps(body.decode("ascii")) for body in bodies)
    script.write_text(
        f'local bodies = {{\n{quoted}\n}}\nlocal turn = 0\nwrk.method = "POST"\n'
        f'wrk.headers["Content-Type"] = "application/json"\nwrk.headers["Accept"] = "{accept}"\n'
        "request = function()\n  turn = turn % #bodies + 1\n  return wrk.format(nil, nil, nil, bodies[turn])\nend\n"
    )
    flags = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "--timeout=20s", f"-s{script}"]
    return ["wrk", *flags, f"http://127.0.0.1:{port}{path}"]


def _of_wrk(output: str) -> Load:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    found = {name: re.search(rf"^\s+{name}%\s+([\d.]+)(us|ms|s|m)\s*$", output, re.M) for name in ("50", "99")}
    if rate is None or found["50"] is None or found["99"] is None:
        raise LoadError(f"wrk said nothing that can be read:\n{output}")
    median, p99 = (float(match[1]) * _UNITS[match[2]] for match in found.values() if match)
    refused, asked = re.search(r"Non-2xx or 3xx responses: (\d+)", output), re.search(r"(\d+) requests in", output)
    good = 1 - int(refused[1]) / int(asked[1]) if refused and asked else 1.0
    return Load(float(rate[1]) * good, median, p99)


def _python(
    folder: Path, port: int, path: str, bodies: Sequence[bytes], connections: int, seconds: float, accept: str
) -> list[str]:
    file = folder / "bodies.json"
    file.write_text(json.dumps([body.decode("ascii") for body in bodies]))
    options = {"port": port, "path": path, "bodies": file, "connections": connections, "seconds": seconds}
    options["accept"] = accept
    return [sys.executable, "-m", "benchmarks.load", *(f"--{key}={value}" for key, value in options.items())]
