"""The outputs of a model in the Open Inference Protocol, and their arrays.

A classifier has `label`, `score` [n] and `logits` [n, labels]. A tagger has `label`, `score`, `start`, `end` [n,
tokens] and `logits` [n, tokens, labels]; its `labels` are another name of `label`. Each model has `lengths` [n], the
tokens of its inputs. Sent only on request: `truncated` [n], true for inputs that lost their tails, and for each gate a
tensor such as ``gate.0.forward.forget`` [n, tokens, units]. Arrays with a row for each token are padded to the longest
input with zeros and empty labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidField, TooLarge
from service.http.protocols.v2_tensors import Datatype, Tensor
from service.model.bundle import Manifest
from service.model.decoding import Prediction
from service.model.engine import GateKey, padded
from service.model.equations import gate_names, tensor_key
from service.model.gates import LayerGates, Selection, select
from service.model.joining import Logits
from service.model.tokenizer import Encoded

LENGTHS = "lengths"
TRUNCATED = "truncated"
Spec = tuple[Datatype, tuple[int, ...]]
"""A datatype and a shape; -1 for a size that varies."""


def usual(manifest: Manifest) -> dict[str, Spec]:
    """The default outputs."""
    labels = len(manifest.labels)
    if manifest.head == "tagger":
        return {
            "label": ("BYTES", (-1, -1)),
            "labels": ("BYTES", (-1, -1)),
            "score": ("FP32", (-1, -1)),
            "logits": ("FP32", (-1, -1, labels)),
            "start": ("INT64", (-1, -1)),
            "end": ("INT64", (-1, -1)),
            LENGTHS: ("INT64", (-1,)),
        }
    return {
        "label": ("BYTES", (-1,)),
        "score": ("FP32", (-1,)),
        "logits": ("FP32", (-1, labels)),
        LENGTHS: ("INT64", (-1,)),
    }


def gates(manifest: Manifest) -> dict[str, GateKey]:
    """The names of the outputs with gates."""
    keys = product(range(manifest.layers), manifest.directions, gate_names(manifest.cell))
    return {"gate." + tensor_key(layer, gate, way): (layer, way, gate) for layer, way, gate in keys}


def every(manifest: Manifest) -> dict[str, Spec]:
    """All outputs of a model, the gates last."""
    traced: Spec = ("FP32", (-1, -1, manifest.hidden))
    return {**usual(manifest), TRUNCATED: ("BOOL", (-1,)), **dict.fromkeys(gates(manifest), traced)}


def resolve(manifest: Manifest, wanted: Mapping[str, bool] | None, binary: bool) -> dict[str, bool]:
    """The outputs to send, and whether each is binary. Raises `InvalidField` for unknown ones.

    `lengths` is added to padded outputs, because without it the end of an input is not visible.
    """
    if wanted is None:
        return dict.fromkeys(usual(manifest), binary)
    known = every(manifest)
    for position, name in enumerate(wanted):
        if name not in known:
            there = ", ".join(known)
            raise InvalidField(f"/outputs/{position}/name", f"There is no output {name[:80]!r}. Outputs: {there}.")
    if any(len(known[name][1]) > 1 and known[name][1][1] == -1 for name in wanted):
        return {**wanted, LENGTHS: wanted.get(LENGTHS, binary)}
    return dict(wanted)


def selection(manifest: Manifest, names: Sequence[str]) -> Selection | None:
    """The gates to trace for these outputs; None if there are none."""
    known = gates(manifest)
    keys = [known[name] for name in names if name in known]
    if not keys:
        return None
    layers, directions, wanted = (list(dict.fromkeys(part)) for part in zip(*keys, strict=True))
    return select(manifest, wanted, layers, directions)


def check_size(manifest: Manifest, names: Sequence[str], most: int, encoded: Sequence[Encoded]) -> None:
    """Raises `TooLarge` if the padded outputs would exceed the limit on numbers in an answer."""
    lengths = [len(source) for source in encoded]
    known, numbers = every(manifest), 0
    for name in names:
        tail = known[name][1][1:]
        if tail and tail[0] == -1:
            numbers += len(lengths) * max(lengths) * (tail[1] if len(tail) > 1 else 1)
    if numbers > most:
        raise TooLarge("Numbers in the answer, padding included", numbers, most)


def tensors(
    wanted: Mapping[str, bool],
    manifest: Manifest,
    lengths: Sequence[int],
    truncated: Sequence[bool],
    logits: Sequence[Logits],
    predictions: Sequence[Prediction],
    layers: Sequence[Sequence[LayerGates]] = (),
) -> list[Tensor]:
    """The outputs of `resolve`, from the lengths of the inputs in tokens and from their results. Values of BYTES are a
    flat list."""
    kinds, known = every(manifest), gates(manifest)
    found = []
    for name, binary in wanted.items():
        values: NDArray[Any] | list[str]
        shape: tuple[int, ...] = (len(lengths),)
        if name in known:
            values = padded([_gate(each, *known[name]) for each in layers])
        elif name == LENGTHS:
            values = np.array(lengths, np.int64)
        elif name == TRUNCATED:
            values = np.array(truncated, np.bool_)
        elif name == "logits":
            values = padded(logits) if manifest.head == "tagger" else np.stack(logits)
        elif name == "label" and manifest.head != "tagger":
            values = [str(prediction["label"]) for prediction in predictions]
        elif name in ("label", "labels"):
            longest = max(lengths)
            rows = (row + [""] * (longest - len(row)) for row in _per_token(predictions, "label"))
            shape, values = (*shape, longest), [label for row in rows for label in row]
        elif manifest.head == "tagger":
            kind = np.float32 if name == "score" else np.int64
            values = padded([np.array(row, kind) for row in _per_token(predictions, name)])
        else:
            values = np.array([prediction[name] for prediction in predictions], np.float32)
        found.append(Tensor(name, kinds[name][0], shape if isinstance(values, list) else values.shape, values, binary))
    return found


def _per_token(predictions: Sequence[Prediction], name: str) -> list[list[Any]]:
    """A field of a tagger's tokens, for each prediction."""
    tokens: Any = [prediction["tokens"] for prediction in predictions]
    return [[token[name] for token in row] for row in tokens]


def _gate(layers: Sequence[LayerGates], layer: int, direction: str, gate: str) -> NDArray[np.float32]:
    """One gate of one input, [tokens, units]."""
    return next(each for each in layers if (each.layer, each.direction) == (layer, direction)).arrays()[gate]


def describe(specs: Mapping[str, Spec]) -> list[dict[str, object]]:
    """Outputs in the form of a model's metadata."""
    return [{"name": name, "datatype": kind, "shape": list(shape)} for name, (kind, shape) in specs.items()]
