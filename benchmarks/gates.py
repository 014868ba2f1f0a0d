"""`/gates` over HTTP: the service beside an endpoint that loops over `torch.nn.LSTMCell`, and beside itself in JSON.

Both have two workers and give the same numbers, every gate of every unit at every token, rounded alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import numpy as np

from benchmarks import field
from benchmarks.field import Contestant, texts
from benchmarks.generator import run
from benchmarks.load import HOST
from benchmarks.measure import Row, row
from benchmarks.serving import ServingError, server, shipped
from service.http.render import JSON, SAFETENSORS
from service.model.bundle import Bundle

SUBJECT, BASELINE = "the service", "baseline"
TOKENS = 20


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of connections, rounds, and seconds of a turn."""

    connections: tuple[int, ...] = (1, 16)
    rounds: int = 4
    seconds: float = 2.0


FULL = Size()
QUICK = Size(connections=(2,), rounds=1, seconds=1.0)


def measure(size: Size = FULL, bundle: Bundle | None = None) -> Iterator[Row]:
    """For each number of connections the requests a second against the loop's, and of safetensors against our JSON.

    Raises `ServingError` or `LoadError`, also where the two answer differently.
    """
    bundle = bundle or shipped()
    models = bundle.path.parent.parent
    peer = Contestant("loop", ("benchmarks.peers.cells_peer",), answers=False)
    bodies = [json.dumps({"model": bundle.name, "inputs": text, "contributions": False}) for text in texts(TOKENS)]
    asked = [body.encode() for body in bodies]
    plain = [json.dumps({"inputs": text}).encode() for text in texts(TOKENS)]
    with (
        server("service", "serve", "--models", str(models), "--provider", "cpu", "--workers", "2") as service,
        field.serve(peer, bundle.path) as loop,
    ):
        ours, theirs = service.port, loop.port
        _check_same(_answer(ours, asked[0]), _answer(theirs, plain[0]))
        for connections in size.connections:
            found: dict[str, list[float]] = {"json": [], "loop": [], "binary": []}
            for number in range(size.rounds + 1):
                turns = {
                    "json": run(ours, "/gates", asked, connections, size.seconds).rate,
                    "loop": run(theirs, "/gates", plain, connections, size.seconds).rate,
                    "binary": run(ours, "/gates", asked, connections, size.seconds, accept=SAFETENSORS).rate,
                }
                for name, rate in turns.items():
                    found[name] += [rate] * bool(number)  # the first round warms up
            case = f"{TOKENS} tokens, {connections} connection{'s' if connections > 1 else ''}"
            yield row(f"{case}: against nn.LSTMCell in a loop", "requests/s", _pairs(found["json"], found["loop"]))
            yield row(f"{case}: safetensors against our JSON", "requests/s", _pairs(found["binary"], found["json"]))


def _pairs(subject: list[float], baseline: list[float]) -> list[tuple[float, float]]:
    return list(zip(subject, baseline, strict=True))


def _answer(port: int, body: bytes) -> dict[str, object]:
    response = httpx.post(
        f"http://{HOST}:{port}/gates", content=body, headers={"Content-Type": JSON, "Accept": JSON}, timeout=30.0
    )
    if response.status_code != 200:
        raise ServingError(f"/gates answered {response.status_code}: {response.text[:200]}")
    found: dict[str, object] = response.json()["traces"][0]
    return found


def _check_same(ours: dict[str, object], theirs: dict[str, object]) -> None:
    """Raises `ServingError` where a gate differs by more than a unit of the last decimal and float32's noise."""
    if ours["tokens"] != theirs["tokens"]:
        raise ServingError("the two find other tokens")
    for mine, other in zip(_layers(ours), _layers(theirs), strict=True):
        for gate, values in mine.items():
            if not np.allclose(values, other[gate], atol=2e-4):
                raise ServingError(f"the two differ in {gate}")


def _layers(trace: dict[str, object]) -> list[dict[str, list[list[float]]]]:
    layers = trace["layers"]
    assert isinstance(layers, list)
    return [layer["gates"] for layer in layers]
