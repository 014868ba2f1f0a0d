"""CPU of a request of `/predict` beside its model and its sockets, against uvicorn with an endpoint that does nothing.

Both protocols run as in a server, each over transports in memory: bytes of a request in, bytes of its answer out. The
model answers at once with constant logits. The figures are CPU time of all threads, so that other processes matter
little, and operations of Python's interpreter in the event loop's thread, which are the same on every machine.

``python -m benchmarks.overhead BUNDLE`` reads names of cases from its standard input, and prints for each line the
microseconds of both contestants; behind ``count `` their operations. With ``--profile CASE`` it prints the functions of
the service with their operations and calls, those with most operations first.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, cast

import click
import numpy as np
import uvicorn
import uvloop
from numpy.typing import NDArray
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from benchmarks.field import texts
from benchmarks.measure import Row, row
from benchmarks.serving import ROOT, ServingError, shipped
from service import interpreter
from service.http.app import create_app
from service.http.render import JSON
from service.model.bundle import Bundle, load
from service.observability import logs
from service.process.connection import Protocol
from service.process.wire import Wire
from service.serving.runtime import Phase, Runtime
from service.settings import Settings

SUBJECT, BASELINE = "the service", "uvicorn, nothing behind it"
TOKENS = 19
_TURN_WITHIN = 120.0
_COUNT = "count "
_LISTED = 100


@dataclass(frozen=True, slots=True)
class Case:
    """A load: how many connections ask, whether batches run in the event loop, and whether the model really runs."""

    name: str
    connections: int
    inline: bool = True
    model: bool = False


CASES = {
    case.name: case
    for case in (
        Case("1 connection", 1),
        Case("64 connections", 64),
        Case("64 connections, batches in a thread", 64, inline=False),
        Case("64 connections, with the model", 64, model=True),
    )
}


@dataclass(frozen=True, slots=True)
class Size:
    """The cases, rounds, and requests of a turn."""

    cases: tuple[str, ...] = tuple(CASES)
    rounds: int = 15
    requests: int = 3000


FULL = Size()
QUICK = Size(cases=("64 connections",), rounds=1, requests=100)


def measure(size: Size = FULL, bundle: Bundle | None = None) -> Iterator[Row]:
    """For each case the microseconds of CPU a request, and the operations. Raises `ServingError`."""
    with Turns(bundle or shipped(), ROOT, size.requests) as turns:
        for case in size.cases:
            turns.take(case)  # warms up
            yield row(case, "µs of CPU a request", [turns.take(case) for _ in range(size.rounds)])
            yield row(case, "operations of Python a request", [turns.take(case, count=True)])


class Turns:
    """A process that measures, one turn each time that it is asked; `root` is the checkout that it measures."""

    def __init__(self, bundle: Bundle, root: Path, requests: int) -> None:
        command = [sys.executable, "-m", "benchmarks.overhead", str(bundle.path), f"--requests={requests}"]
        self._process = subprocess.Popen(  # noqa: S603 # our own program, no shell
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def take(self, case: str, *, count: bool = False) -> tuple[float, float]:
        """The microseconds of CPU of a request, or the operations: the service's, and those of the endpoint that does
        nothing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(f"{_COUNT * count}{case}", file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise ServingError("the process that measures ended; its error stands above")
        mine, bare = json.loads(line)
        return mine, bare

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=_TURN_WITHIN)


class Client(asyncio.Transport):
    """A client and its socket: it asks again once an answer is there, in the next turn of the event loop."""

    def __init__(self, make: Callable[[], asyncio.Protocol], request: bytes, turn: _Turn) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self._request, self._turn = request, turn
        self.protocol = make()
        self.protocol.connection_made(self)

    def ask(self) -> None:
        self.protocol.data_received(self._request)

    def write(self, data: Any) -> None:
        """An answer, its head or its body. A head ends with an empty line."""
        if body := data.rpartition(b"\r\n\r\n")[2]:
            self._turn.answered(self, body)

    def writelines(self, pieces: Any) -> None:
        self._turn.answered(self, pieces[-1])

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


class _Turn:
    """A number of requests, shared by some clients."""

    def __init__(self, requests: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.asked = 0
        self._left = self._requests = requests
        self._done = asyncio.Event()

    def answered(self, client: Client, body: bytes) -> None:
        assert body.startswith(b"{"), body
        self._left -= 1
        if self.asked < self._requests:
            self.asked += 1
            self.loop.call_soon(client.ask)
        elif not self._left:
            self._done.set()

    async def run(self, clients: Sequence[Client]) -> float:
        """The seconds of CPU of all requests."""
        started = time.process_time()
        self.asked = len(clients)
        for client in clients:
            client.ask()
        await self._done.wait()
        return time.process_time() - started


class Contestants:
    """The service, with one model, and the endpoint that does nothing, in one event loop."""

    def __init__(self, bundle: Bundle, requests: int) -> None:
        self._bundle, self._requests = bundle, requests
        self._runtimes: dict[bool, Runtime] = {}
        self._makers: dict[bool, Callable[[], asyncio.Protocol]] = {}
        self._bare = _maker(_nothing, HttpToolsProtocol)

    async def start(self) -> None:
        """Load the model, for batches in threads and in the event loop."""
        for inline in (True, False):
            settings = Settings(
                models=self._bundle.path.parent.parent, provider="cpu", threads=1, gate_sample=0, inline_ms=100 * inline
            )
            app = create_app(settings)
            runtime = self._runtimes[inline] = app.state.runtime
            self._makers[inline] = _maker(app, partial(Protocol, wire=Wire(settings, runtime.metrics)))
            await runtime.start()
            runtime.metrics.gather(asyncio.get_running_loop().call_soon)
            while runtime.phase is not Phase.READY:  # noqa: ASYNC110 # nothing tells of it
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        for runtime in self._runtimes.values():
            await runtime.close()

    async def bare(self, case: Case) -> float:
        """Microseconds of CPU a request, of the endpoint that does nothing."""
        return await self._run(self._bare, case)

    async def service(self, case: Case) -> float:
        """The same of the service."""
        model = self._runtimes[case.inline].model(self._bundle.name, None)
        engine = cast(Any, model.engine)
        if not case.model:
            engine.predict = partial(_constant, len(model.bundle.manifest.labels))
        try:
            return await self._run(self._makers[case.inline], case)
        finally:
            vars(engine).pop("predict", None)

    async def _run(self, make: Callable[[], asyncio.Protocol], case: Case) -> float:
        turn = _Turn(self._requests)
        requests = [_request(self._bundle.name, text) for text in texts(TOKENS)]
        clients = [Client(make, requests[number % len(requests)], turn) for number in range(case.connections)]
        seconds = await turn.run(clients)
        for client in clients:
            client.protocol.connection_lost(None)
        return seconds / self._requests * 1e6


def _constant(labels: int, rows: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
    return np.zeros((len(rows), labels), np.float32)


def _request(model: str, text: str) -> bytes:
    body = json.dumps({"model": model, "inputs": text}).encode()
    head = ("POST /predict HTTP/1.1", "Host: 127.0.0.1:8000", f"Content-Type: {JSON}", f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "", "")).encode() + body


def _maker(app: Any, protocol: Callable[..., Any]) -> Callable[[], asyncio.Protocol]:
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, proxy_headers=False)
    state = ServerState()
    state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
    return partial(protocol, config=config, server_state=state, app_state={})


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body; answer one as long as a prediction."""
    await receive()
    headers = [(b"content-type", JSON.encode()), (b"content-length", str(len(_ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})


_ANSWER = json.dumps(
    {
        "model": "sentiment-bilstm",
        "version": "1",
        "task": "sentiment",
        "predictions": [{"label": "positive", "score": 0.98, "scores": {"negative": 0.02, "positive": 0.98}}],
    }
).encode()


class Operations:
    """Counts the operations of the interpreter, and the calls, of this thread, by function."""

    def __init__(self) -> None:
        self.operations, self.calls = Counter[CodeType](), Counter[CodeType]()

    def __enter__(self) -> Operations:
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.calls[frame.f_code] += 1
        return self._operation

    def _operation(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        self.operations[frame.f_code] += event == "opcode"
        return self._operation


async def _answer_turns(bundle: Bundle, requests: int) -> None:
    contestants = Contestants(bundle, requests)
    await contestants.start()
    for line in sys.stdin:
        case = CASES[line.strip().removeprefix(_COUNT)]
        if line.startswith(_COUNT):
            counted = []
            for turn in (contestants.service, contestants.bare):
                with Operations() as found:
                    await turn(case)
                counted.append(found.operations.total() / requests)
            print(json.dumps(counted), flush=True)
        else:
            print(json.dumps([await contestants.service(case), await contestants.bare(case)]), flush=True)
    await contestants.close()


async def _profile(bundle: Bundle, requests: int, case: Case) -> None:
    contestants = Contestants(bundle, requests)
    await contestants.start()
    for _ in range(2):
        await contestants.service(case)
    with Operations() as found:
        await contestants.service(case)
    await contestants.close()
    click.echo(f"{found.operations.total() / requests:8.1f} operations, {found.calls.total() / requests:.1f} calls")
    for code, operations in found.operations.most_common(_LISTED):
        place = f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_firstlineno} {code.co_qualname}"
        click.echo(f"{operations / requests:8.1f} {found.calls[code] / requests:6.2f} {place}")


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(path_type=Path), metavar="models/NAME/VERSION")
@click.option("--requests", default=3000, help="In a turn.")
@click.option("--profile", type=click.Choice(list(CASES)), help="Print where the service's time goes, by function.")
def main(bundle: Path, requests: int, profile: str | None) -> None:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        logs.configure("console", "info", nowhere)
        logging.getLogger("uvicorn.error").setLevel(logging.INFO)
        interpreter.tune()
        found = load(bundle)
        work = _profile(found, requests, CASES[profile]) if profile else _answer_turns(found, requests)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_gathered(work))


async def _gathered(work: Any) -> None:
    """Work beside which the lines of the log are written together, as in the server."""
    logs.gather(asyncio.get_running_loop().call_soon)
    await work
    logs.gather(None)


if __name__ == "__main__":
    main()
