"""Talking to the runtimes' workers: one line of JSON each way."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from benchmarks.runtimes.installed import WEB_WORKER, Runtime, chromium, command, environment, install

SECONDS = 600.0
"""A worker that answers nothing for so long is ended. Compilers take minutes on a busy machine."""


@dataclass(frozen=True, slots=True)
class Batch:
    """tokens int32 [batch, time, columns] and lengths int32 [batch]."""

    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]

    def plain(self) -> dict[str, object]:
        return {
            "shape": list(self.tokens.shape),
            "tokens": self.tokens.ravel().tolist(),
            "lengths": self.lengths.tolist(),
        }


@dataclass(frozen=True, slots=True)
class Answered:
    """A runtime's answer: `logits`, or why it has none."""

    logits: NDArray[np.float32] | None
    refused: str = ""
    milliseconds: float = 0.0


class Worker(Protocol):
    version: str

    def ask(self, graph: Path, batch: Batch, seconds: float = 0.0) -> Answered: ...


@contextmanager
def worker(runtime: Runtime) -> Iterator[Worker]:
    """A runtime at work, set up where it was not. Raises `NotInstalled`."""
    install(runtime)
    if runtime.kind == "browser":
        with _browser(runtime) as page:
            yield page
        return
    process = Program(command(runtime))
    try:
        yield process
    finally:
        process.close()


class Program:
    """A worker that is a process. It is started again after it has died."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by `close`
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # our own program, no shell
            self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1
        )
        first = self._line()
        self.version = str(first.get("version", "?"))

    def ask(self, graph: Path, batch: Batch, seconds: float = 0.0) -> Answered:
        """The answer for a batch; a process that dies over it has refused it."""
        if self._process.poll() is not None:
            self._stop()
            self._start()
        assert self._process.stdin is not None
        self._errors.truncate(0)
        self._process.stdin.write(json.dumps(request(graph, batch, seconds)) + "\n")
        return answered(self._line())

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        self._process.kill()
        status = self._process.wait()
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        if not ready:
            return {"refused": f"no answer for {SECONDS:.0f} seconds"}
        self._errors.seek(0)
        said = next((line.strip() for line in self._errors if "called `" in line or "rror:" in line), "")
        return {"refused": f"the process ended with {name}: {said}"}

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # a request that nobody has read
                pipe.close()

    def close(self) -> None:
        self._stop()
        self._errors.close()


class Page:
    """A worker that is a page of a browser. It has no server: what it fetches is read from disk for it."""

    def __init__(self, page: Any, version: str) -> None:
        self._page, self.version = page, version

    def ask(self, graph: Path, batch: Batch, seconds: float = 0.0) -> Answered:
        asked = request(graph, batch, seconds)
        for name in ("graph", "weights"):
            if asked.get(name):
                asked[name] = f"{_PLACE}{asked[name]}"
        return answered(self._page.evaluate("asked => window.answer(asked)", asked))


@contextmanager
def _browser(runtime: Runtime) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    package = environment(runtime) / "node_modules" / "onnxruntime-web"
    script = f"""
        const ort = await import("{_PLACE}{package.as_posix()}/dist/ort.wasm.min.mjs");
        const {{ answer }} = await import("{_PLACE}{WEB_WORKER.as_posix()}");
        ort.env.wasm.numThreads = 1;
        const read = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
        window.answer = (asked) => answer(ort, read, asked);
    """
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = opened.new_page()
        page.route(f"{_PLACE}/**", _file)
        page.goto(f"{_PLACE}/")
        page.add_script_tag(type="module", content=script)
        page.wait_for_function("window.answer")
        yield Page(page, json.loads((package / "package.json").read_text())["version"])
        opened.close()


_PLACE = "http://localhost"
_TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm"}


def _file(route: Any) -> None:
    """Answer a page's request for a file; for / with an empty page."""
    path = Path(unquote(urlsplit(route.request.url).path))
    if path.suffix:
        route.fulfill(path=path, content_type=_TYPES.get(path.suffix, "application/octet-stream"))
    else:
        route.fulfill(body="<!doctype html>", content_type="text/html")


def request(graph: Path, batch: Batch, seconds: float) -> dict[str, Any]:
    weights = graph.with_name("weights.safetensors")
    told = {"graph": str(graph), "batch": batch.plain(), "seconds": seconds}
    return {**told, "weights": str(weights)} if weights.exists() else told


def answered(found: dict[str, Any]) -> Answered:
    if "refused" in found:
        return Answered(None, " ".join(str(found["refused"]).split()))
    numbers = [np.nan if each is None else each for each in found["logits"]]
    logits = np.array(numbers, np.float32).reshape(found["shape"])
    return Answered(logits, milliseconds=found.get("milliseconds", 0.0))
