"""How far the gates that a running service returns are from their equations, in float64, gate by gate.

    python -m tests.deviation http://127.0.0.1:8000 [--models models] [--most 200] [FILE …]

Speaks to the service over HTTP alone, reads the weights from the bundles, and computes every gate of row t from the
input of row t and the returned states of the row before. Without files, the dev sentences under examples/ are used.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service import bundle as bundles
from service.bundle import TOKENIZER, WEIGHTS, Bundle
from service.text import Tokenizer
from training.corpora import read

Array = NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = {"sentiment": ROOT / "examples/sentiment/dev.tsv", "ner": ROOT / "examples/ner/dev.conll"}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm(w: Array, r: Array, b: Array, x: Array, h: Array, c: Array) -> dict[str, Array]:
    """ONNX's order of blocks: input, output, forget, candidate."""
    i, o, f, g = np.split(x @ w.T + h @ r.T + b[: len(w)] + b[len(w) :], 4, axis=1)
    forget, in_, out, candidate = sigmoid(f), sigmoid(i), sigmoid(o), np.tanh(g)
    cell = forget * c + in_ * candidate
    hidden = out * np.tanh(cell)
    return {"forget": forget, "input": in_, "output": out, "candidate": candidate, "cell": cell, "hidden": hidden}


def gru(w: Array, r: Array, b: Array, x: Array, h: Array, c: Array) -> dict[str, Array]:
    """ONNX's order of blocks: z, which is 1 - update, then reset and candidate; reset after the product."""
    xz, xr, xh = np.split(x @ w.T + b[: len(w)], 3, axis=1)
    hz, hr, hh = np.split(h @ r.T + b[len(w) :], 3, axis=1)
    update, reset = 1 - sigmoid(xz + hz), sigmoid(xr + hr)
    candidate = np.tanh(xh + reset * hh)
    return {
        "update": update,
        "reset": reset,
        "candidate": candidate,
        "hidden": (1 - update) * h + update * candidate,
    }


CELLS = {"lstm": lstm, "gru": gru}


def before(states: Array, direction: str) -> Array:
    """Row t's previous states: row t-1's, or row t+1's for the backward reader, zero at its start."""
    shifted = np.zeros_like(states)
    if direction == "forward":
        shifted[1:] = states[:-1]
    else:
        shifted[:-1] = states[1:]
    return shifted


def of_trace(bundle: Bundle, weights: Mapping[str, NDArray[Any]], x: Array, layers: Sequence[Any]) -> dict[str, float]:
    """The largest absolute difference of each gate of one trace; `x` are the embedded tokens [tokens, inputs]."""
    worst: dict[str, float] = {}
    for number in range(bundle.manifest.layers):
        outputs = []
        for way, layer in enumerate(each for each in layers if each["layer"] == number):
            found = {gate: np.asarray(rows, np.float64) for gate, rows in layer["gates"].items()}
            h = before(found["hidden"], layer["direction"])
            c = before(found["cell"], layer["direction"]) if "cell" in found else h
            w, r, b = (weights[f"recurrent.{number}.{part}"][way].astype(np.float64) for part in "WRB")
            expected = CELLS[bundle.manifest.cell](w, r, b, x, h, c)
            assert set(expected) == set(found)
            for gate, rows in found.items():
                worst[gate] = max(worst.get(gate, 0.0), float(np.abs(rows - expected[gate]).max()))
            outputs.append(found["hidden"])
        x = np.concatenate(outputs, axis=1)
    return worst


def of_model(client: httpx.Client, bundle: Bundle, inputs: Sequence[str | list[str]]) -> dict[str, float]:
    """The largest absolute difference of each gate of a served model over some inputs."""
    tokenizer = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features)
    weights = load_file(bundle.file(WEIGHTS))
    worst: dict[str, float] = {}
    for start in range(0, len(inputs), 16):
        sent = inputs[start : start + 16]
        asked = {"model": bundle.name, "inputs": sent, "decimals": None, "contributions": False}
        answer = client.post("/gates", json=asked)
        answer.raise_for_status()
        for value, trace in zip(sent, answer.json()["traces"], strict=True):
            rows = tokenizer.encode(value, bundle.manifest.token_limit).rows
            columns = [
                weights[f"embedding.{feature.name}"][rows[:, column]]
                for column, feature in enumerate(bundle.manifest.features)
            ]
            x = np.concatenate(columns, axis=1).astype(np.float64)
            for gate, difference in of_trace(bundle, weights, x, trace["layers"]).items():
                worst[gate] = max(worst.get(gate, 0.0), difference)
    return worst


def sentences(files: Sequence[Path], task: bundles.Task) -> list[str | list[str]]:
    """The inputs of labelled files of a task."""
    examples = [example for file in files for example in read(file, task)]
    return [value if isinstance(value, str) else list(value) for value in (example.value for example in examples)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--most", type=int, default=200, help="inputs for each model, at most")
    options = parser.parse_args()
    with httpx.Client(base_url=options.url, timeout=120) as client:
        for model in client.get("/models").json()["models"]:
            bundle = bundles.load(options.models / model["name"] / model["version"])
            task = bundle.manifest.task
            files = [file for file in options.files if file.suffix == (".conll" if task == "ner" else ".tsv")]
            inputs = sentences(files or [EXAMPLES[task]], task)[: options.most]
            worst = of_model(client, bundle, inputs)
            print(f"{bundle.name}: {len(inputs)} inputs, largest {max(worst.values()):.1e}", end="  ")
            print({gate: f"{difference:.1e}" for gate, difference in worst.items()})


if __name__ == "__main__":
    main()
