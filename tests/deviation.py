"""How far the gates that a running service returns are from their equations, in float64, gate by gate.

    python -m tests.deviation http://127.0.0.1:8000 [--models models] [--most 200] [FILE …]

Speaks to the service over HTTP alone, reads the weights from the bundles, and computes every gate of row t from the
input of row t and the returned states of the row before. Without files, the dev sentences under examples/ are used.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service.model import bundle as bundles
from service.model.bundle import TOKENIZER, WEIGHTS, Bundle
from service.model.tokenizer import Tokenizer
from training.data.corpora import read

Array = NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = {"sentiment": ROOT / "examples/sentiment/dev.tsv", "ner": ROOT / "examples/ner/dev.conll"}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


class Part(NamedTuple):
    """One direction's weights as the file stacks them; p is 0 without peepholes, and r is empty without R."""

    w: Array
    r: Array
    b: Array
    p: Array


def rnn(part: Part, x: Array, h: Array, c: Array) -> dict[str, Array]:
    w, r, b, _ = part
    return {"hidden": np.tanh(x @ w.T + h @ r.T + b[: len(w)] + b[len(w) :])}


def lstm(part: Part, x: Array, h: Array, c: Array) -> dict[str, Array]:
    """ONNX's order of blocks: input, output, forget, candidate; of peepholes: input, output, forget."""
    w, r, b, p = part
    i, o, f, g = np.split(x @ w.T + h @ r.T + b[: len(w)] + b[len(w) :], 4, axis=1)
    p_i, p_o, p_f = np.split(p, 3)
    forget, in_, candidate = sigmoid(f + p_f * c), sigmoid(i + p_i * c), np.tanh(g)
    cell = forget * c + in_ * candidate
    out = sigmoid(o + p_o * cell)
    hidden = out * np.tanh(cell)
    return {"forget": forget, "input": in_, "output": out, "candidate": candidate, "cell": cell, "hidden": hidden}


def gru(part: Part, x: Array, h: Array, c: Array) -> dict[str, Array]:
    """ONNX's order of blocks: z, which is 1 - update, then reset and candidate; reset after the product."""
    w, r, b, _ = part
    xz, xr, xh = np.split(x @ w.T + b[: len(w)], 3, axis=1)
    hz, hr, hh = np.split(h @ r.T + b[len(w) :], 3, axis=1)
    update, reset = 1 - sigmoid(xz + hz), sigmoid(xr + hr)
    return _gru(update, reset, np.tanh(xh + reset * hh), h)


def gru_before(part: Part, x: Array, h: Array, c: Array) -> dict[str, Array]:
    """The same with the reset gate before the product."""
    w, r, b, _ = part
    units = h.shape[1]
    inputs = x @ w.T + b[: len(w)] + b[len(w) :]
    update = 1 - sigmoid(inputs[:, :units] + h @ r[:units].T)
    reset = sigmoid(inputs[:, units : 2 * units] + h @ r[units : 2 * units].T)
    return _gru(update, reset, np.tanh(inputs[:, 2 * units :] + (reset * h) @ r[2 * units :].T), h)


def _gru(update: Array, reset: Array, candidate: Array, h: Array) -> dict[str, Array]:
    return {
        "update": update,
        "reset": reset,
        "candidate": candidate,
        "hidden": (1 - update) * h + update * candidate,
    }


def full_peephole(part: Part, x: Array, h: Array, c: Array) -> dict[str, Array]:
    """Blocks input, output, forget, candidate, in P too, which is a matrix."""
    w, r, b, p = part
    i, o, f, g = np.split(x @ w.T + h @ r.T + b, 4, axis=1)
    p_i, p_o, p_f, p_g = np.split(p, 4)
    forget, in_, candidate = sigmoid(f + c @ p_f.T), sigmoid(i + c @ p_i.T), np.tanh(g + c @ p_g.T)
    cell = forget * c + in_ * candidate
    out = sigmoid(o + cell @ p_o.T)
    hidden = out * np.tanh(cell)
    return {"forget": forget, "input": in_, "output": out, "candidate": candidate, "cell": cell, "hidden": hidden}


def mingru(part: Part, x: Array, h: Array, c: Array) -> dict[str, Array]:
    z, g = np.split(x @ part.w.T + part.b, 2, axis=1)
    update, candidate = sigmoid(z), np.tanh(g)
    return {"update": update, "candidate": candidate, "hidden": (1 - update) * h + update * candidate}


def minlstm(part: Part, x: Array, h: Array, c: Array) -> dict[str, Array]:
    f, i, g = np.split(x @ part.w.T + part.b, 3, axis=1)
    total, candidate = sigmoid(f) + sigmoid(i), np.tanh(g)
    forget, in_ = sigmoid(f) / total, sigmoid(i) / total
    return {"forget": forget, "input": in_, "candidate": candidate, "hidden": forget * h + in_ * candidate}


CELLS = {
    "rnn": rnn,
    "lstm": lstm,
    "peephole": lstm,
    "gru": gru,
    "gru-before": gru_before,
    "peephole-full": full_peephole,
    "mingru": mingru,
    "minlstm": minlstm,
}


def before(states: Array, direction: str) -> Array:
    """Row t's previous states: row t-1's, or row t+1's for the backward reader, zero at its start."""
    shifted = np.zeros_like(states)
    if direction == "forward":
        shifted[1:] = states[:-1]
    else:
        shifted[:-1] = states[1:]
    return shifted


def embedded(bundle: Bundle, weights: Mapping[str, NDArray[Any]], rows: NDArray[np.int32]) -> Array:
    """The tokens' vectors [tokens, inputs], from the tables as they are stored."""
    found, at = [], 0
    for feature in bundle.manifest.features:
        ids, name = rows[:, at : at + feature.columns], f"embedding.{feature.name}"
        at += feature.columns
        if feature.name == "character":
            assert bundle.manifest.characters == "cnn"
            found.append(convolved(weights[name].astype(np.float64), weights["character.bias"], ids))
            continue
        vectors = weights[name][ids[:, 0]].astype(np.float64)
        if (fine := weights.get(f"{name}.fine")) is not None:
            upper, lower = nibbles(weights[name][ids[:, 0]]), nibbles(fine[np.minimum(ids[:, 0], len(fine) - 1)])
            vectors = 16 * upper + lower - 128
        if (scale := weights.get(f"{name}.scale")) is not None:
            vectors = vectors * scale[ids[:, 0]]
        found.append(vectors)
    return np.concatenate(found, axis=1)


def windows(bundle: Bundle, x: Array) -> Array:
    """Behind one another, the vectors of the words that each step reads: zeros past the ends of the sequence."""
    words, zero = bundle.manifest.window_words, np.zeros(x.shape[1])
    first = -(words // 2) if len(bundle.manifest.directions) == 2 else 1 - words
    places = [[t + offset for offset in range(first, first + words)] for t in range(len(x))]
    return np.array([np.concatenate([x[at] if 0 <= at < len(x) else zero for at in row]) for row in places])


def nibbles(packed: NDArray[np.uint8]) -> Array:
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float64)


def convolved(table: Array, bias: NDArray[Any], ids: NDArray[np.int32]) -> Array:
    """Over each place of a token the sum of three characters' rows, and the greatest of them."""
    places, padded = ids.shape[1], np.pad(ids, ((0, 0), (1, 1)))
    parts = [part[padded[:, k : k + places]] for k, part in enumerate(np.split(table, 3, axis=1))]
    greatest: Array = np.sum(parts, axis=0).max(axis=1) + bias
    return greatest


def of_trace(bundle: Bundle, weights: Mapping[str, NDArray[Any]], x: Array, layers: Sequence[Any]) -> dict[str, float]:
    """The largest absolute difference of each gate of one trace; `x` are the embedded tokens [tokens, inputs]."""
    worst: dict[str, float] = {}
    for number in range(bundle.manifest.layers):
        outputs = []
        for way, layer in enumerate(each for each in layers if each["layer"] == number):
            found = {gate: np.asarray(rows, np.float64) for gate, rows in layer["gates"].items()}
            h = before(found["hidden"], layer["direction"])
            c = before(found["cell"], layer["direction"]) if "cell" in found else h
            stored = [weights.get(f"recurrent.{number}.{part}") for part in "WRBP"]
            none = np.zeros(3 * h.shape[1])
            part = Part(*(none if each is None else each[way].astype(np.float64) for each in stored))
            form = bundle.manifest.form
            word = bundle.manifest.cell + (f"-{form}" if form in ("before", "full") else "")
            step = CELLS[word]
            expected = step(part, x, h, c)
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
            x = embedded(bundle, weights, tokenizer.encode(value, bundle.manifest.token_limit).rows)
            for first, end, layers in by_sentence(trace):
                read = windows(bundle, x[first:end])
                for gate, difference in of_trace(bundle, weights, read, layers).items():
                    worst[gate] = max(worst.get(gate, 0.0), difference)
    return worst


def by_sentence(trace: dict[str, Any]) -> Iterator[tuple[int, int, list[Any]]]:
    """First token, end and layers of each sentence of a trace, which starts from a zero state; of the whole text where
    the trace names no sentences."""
    for first, end in trace.get("sentences") or [[0, len(trace["tokens"])]]:
        yield (
            first,
            end,
            [
                {**layer, "gates": {gate: rows[first:end] for gate, rows in layer["gates"].items()}}
                for layer in trace["layers"]
            ],
        )


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
