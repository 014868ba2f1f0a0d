"""A bundle → one ONNX file for other runtimes, certified, with all that a program needs to use it in its metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import load_file

from service.errors import BundleError
from service.model.bundle import TOKENIZER, WEIGHTS, Bundle, Manifest
from service.model.decoding import legal
from service.model.engine import pad
from service.scoring.parity import batches
from service.version import VERSION
from training.data.outputs import naming
from training.export import restore
from training.export.onnx.portable import portable
from training.scoring.evaluate import of_network

FloatKind = Literal["float32", "float16"]
TOLERANCES: dict[FloatKind, float] = {"float32": 1e-4, "float16": 1e-2}
"""Tolerances of logits, against torch's in float32."""
_REFERENCE_TOKENS = 64
"""The longest batches that onnx's reference evaluator is given: it takes a second for each hundred steps of a Scan."""

Rows = Sequence[NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Certificate:
    """The largest differences of a portable file's logits from torch's, over `batches` random batches: as ONNX Runtime
    computes them, and as onnx's reference evaluator does (in batches of up to 64 tokens)."""

    onnxruntime: float
    reference: float
    batches: int
    tolerance: float
    versions: dict[str, str]


def write(bundle: Bundle, file: Path, kind: FloatKind = "float32") -> Certificate:
    """Write a bundle's portable graph to `file`, whole or not at all.

    Raises `BundleError` when it differs from torch by more than the tolerance, or the bundle is one of integers; then
    nothing is written. Raises `OSError` when the file cannot be written.
    """
    if file.is_dir():
        raise BundleError(f"{file} is a folder; the portable graph is one file: {file / (bundle.name + '.onnx')}, say")
    network = restore.network(bundle)
    arrays = load_file(bundle.file(WEIGHTS))
    told = metadata(bundle, kind)
    data = portable(restore.architecture(bundle, arrays), arrays, told, half=kind == "float16")
    found = certify(data, of_network(network, torch.device("cpu")), bundle.manifest, kind)
    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, told | {"parity": json.dumps(asdict(found), sort_keys=True)})
    onnx.checker.check_model(model, full_check=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with naming(file):
            beside.write_bytes(model.SerializeToString(deterministic=True))
            beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    return found


def metadata(bundle: Bundle, kind: FloatKind) -> dict[str, str]:
    """The file's metadata as strings; a value with several parts is JSON."""
    manifest = bundle.manifest
    parts: dict[str, object] = {
        "labels": manifest.labels,
        "directions": manifest.directions,
        "features": [feature.model_dump() for feature in manifest.features],
        "transitions": transitions(manifest),
    }
    told = {
        "name": bundle.name,
        "version": str(bundle.version),
        "task": manifest.task,
        "cell": manifest.cell,
        "gru_reset": manifest.gru_reset,
        "peepholes": manifest.peepholes,
        "window_words": str(manifest.window_words),
        "layers": str(manifest.layers),
        "hidden": str(manifest.hidden),
        "head": manifest.head,
        "precision": kind,
        "token_limit": str(manifest.token_limit),
        "licence": manifest.licence,
        "tokenizer_sha256": manifest.files[TOKENIZER],
        "normalizer": json.dumps(json.loads(bytes(bundle.content(TOKENIZER))).get("normalizer"), ensure_ascii=False),
        "style": manifest.style,
        "bundle_sha256": bundle.digest,
        "gatelight": VERSION,
    }
    told |= {name: json.dumps(part, ensure_ascii=False) for name, part in parts.items() if part is not None}
    return {name: text for name, text in told.items() if text is not None}


def transitions(manifest: Manifest) -> dict[str, list[object]] | None:
    """The scores that decode a tagger's logits, None for a classifier: `start` [labels] of the first token's
    label and `scores` [labels, labels] from a label to the next. None means forbidden."""
    if manifest.head != "tagger":
        return None
    between, first = legal(manifest.labels)
    if manifest.crf is not None:
        between, first = between + np.array(manifest.crf.transitions), first + np.array(manifest.crf.start)
    return {"start": _plain(first), "scores": [_plain(row) for row in between]}


def _plain(row: NDArray[np.float64]) -> list[object]:
    return [score if np.isfinite(score) else None for score in row.tolist()]


def certify(
    data: bytes, expected: Callable[[Rows], NDArray[np.float32]], manifest: Manifest, kind: FloatKind
) -> Certificate:
    """Compare two runtimes' logits with those of `expected` on the batches of every export. Raises `BundleError`."""
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    evaluator = ReferenceEvaluator(onnx.load_from_string(data))
    largest = dict.fromkeys(("onnxruntime", "reference"), 0.0)
    count = 0
    for rows in batches(manifest.features, np.random.default_rng(0)):
        tokens, lengths = pad(rows)
        wanted, feed = expected(rows), {"tokens": tokens, "lengths": lengths}
        answers = {"onnxruntime": session.run(None, feed)[0]}
        if lengths.max() <= _REFERENCE_TOKENS:
            with np.errstate(over="ignore"):  # its sigmoid overflows in float16, to the right answer
                answers["reference"] = evaluator.run(None, feed)[0]
        for runtime, answer in answers.items():
            # NumPy's maximum keeps NaN, which Python's would drop.
            largest[runtime] = float(np.maximum(largest[runtime], difference(answer, wanted, lengths)))
        count += 1
    tolerance = TOLERANCES[kind]
    for runtime, found in largest.items():
        if not found <= tolerance:
            raise BundleError(
                f"the portable graph does not agree with torch: logits differ by {found:.1e} in {runtime}, the limit "
                f"is {tolerance:.0e}" + ("; leave out --float16" if kind == "float16" else "")
            )
    return Certificate(
        **largest,
        batches=count,
        tolerance=tolerance,
        versions={"onnxruntime": ort.__version__, "onnx": onnx.__version__, "torch": torch.__version__},
    )


def difference(actual: NDArray[np.float32], expected: NDArray[np.float32], lengths: NDArray[np.int32]) -> float:
    """The largest difference of two arrays of logits, [batch, labels] or [batch, time, labels], without padding."""
    apart = np.abs(actual - expected)
    if apart.ndim == 3:
        apart = apart[np.arange(apart.shape[1]) < lengths[:, None]]
    return float(apart.max())
