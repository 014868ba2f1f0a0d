"""A trained network → a bundle, with its parity certificate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from service.errors import BundleError
from service.model.bundle import (
    CARD,
    FILES,
    MODEL_GRAPH,
    TOKENIZER,
    TRACE_GRAPH,
    Bundle,
    GateStatistics,
    Manifest,
    Origin,
    Parity,
    Precision,
    RawText,
    Score,
)
from service.model.decoding import log_softmax
from service.model.engine import Engine, Trace
from service.model.equations import one_graph
from service.model.streams.comparing import differences
from service.model.tokenizer import Tokenizer
from service.scoring.parity import BATCH_TOLERANCE, GATES_TOLERANCE, INT8_TOLERANCE, LOGITS_TOLERANCE, batches
from training.data.outputs import naming
from training.export import card, reference
from training.export.onnx import graph, integers
from training.export.onnx.embedding import round_to_storage
from training.export.writing import digest, save
from training.nets.networks import Network
from training.scoring import calibration
from training.scoring.evaluate import of_network

TOKEN_LIMIT = 4096

_NOT_YET = Parity(model=0, trace=0, gates=0, batches=0, logits_tolerance=0, gates_tolerance=0)


def export(
    network: Network,
    tokenizer: Tokenizer,
    origin: Origin,
    licence: str,
    folder: Path,
    score: Callable[[Bundle], Sequence[Score]],
    gate_statistics: Callable[[Bundle], GateStatistics] | None = None,
    temperature: float = 1.0,
    total: float | None = None,
    precision: Precision = "float32",
    quality_before: Sequence[Score] = (),
    guess: Sequence[Score] = (),
    raw: Callable[[Bundle], Sequence[RawText]] | None = None,
) -> Bundle:
    """Write a network as the next version below `folder`, and return the bundle.

    `temperature` divides its logits, and its CRF's scores, in the weights themselves; `total`, for the manifest,
    includes the temperature of earlier exports. `score`, `raw` and `gate_statistics` measure the draft through the
    serving runtime, for the manifest and the card. `guess` are the figures of guessing on the same data; with int8
    `quality_before` are the figures of the network as it was. Raises `BundleError` when the graphs and torch differ by
    more than the tolerance, or the network has no int8 form: then nothing is written.
    """
    network.cpu().eval()
    calibration.fold(network, temperature)
    if precision == "int8":
        integers.prepare(network)
    round_to_storage(network)
    with tempfile.TemporaryDirectory(prefix="export-") as scratch:
        draft = Path(scratch)
        with naming(draft):
            graph.write(network, draft, precision)
            tokenizer.save(draft / TOKENIZER)
            (draft / CARD).write_text("", encoding="utf-8")
        manifest = _manifest(network, origin, licence, total or temperature, draft)
        about: dict[str, object] = {"style": tokenizer.style, "precision": precision}
        about |= {"quality_before": tuple(quality_before), "guess": tuple(guess)}
        manifest = manifest.model_copy(update=about)
        bundle = Bundle(folder.name, 0, draft, manifest)
        parity = certify(network, Engine(bundle), precision)
        measured: dict[str, object] = {"parity": parity, "quality": tuple(score(bundle))}
        measured["gate_statistics"] = gate_statistics(bundle) if gate_statistics is not None else None
        measured["raw_text"] = tuple(raw(bundle)) if raw else ()
        manifest = bundle.manifest.model_copy(update=measured)
        with naming(draft / CARD):
            (draft / CARD).write_text(card.render(folder.name, manifest), encoding="utf-8")
        return save(folder, manifest, draft)


def certify(network: Network, engine: Engine, precision: Precision = "float32") -> Parity:
    """Compare torch, the fused graph, the trace graph and the equations in float64, at many lengths and batch sizes;
    answers in a batch with the same inputs alone; and, for a model that reads forward, the steps of streams with torch
    and with the traced gates."""
    tolerance = INT8_TOLERANCE if precision == "int8" else LOGITS_TOLERANCE
    torch_logits = of_network(network, torch.device("cpu"))
    generator = np.random.default_rng(0)
    model = trace = gates = batch = step = step_gates = 0.0
    count = 0
    for rows in batches(network.architecture.features, generator):
        expected, traced, predicted = torch_logits(rows), engine.trace(rows), engine.predict(rows)
        # NumPy's maximum keeps NaN, which Python's would drop.
        model = float(np.maximum(model, _largest(predicted, expected, rows)))
        trace = float(np.maximum(trace, _largest(traced.logits, expected, rows)))
        gates = float(np.maximum(gates, _deviation(network, rows, traced)))
        batch = float(np.maximum(batch, _dependence(engine, predicted, rows)))
        if network.architecture.directions == ("forward",):
            of_logits, of_gates = differences(engine.network, rows, expected, traced)
            step, step_gates = float(np.maximum(step, of_logits)), float(np.maximum(step_gates, of_gates))
        count += 1
    if not (model <= tolerance and trace <= LOGITS_TOLERANCE and gates <= GATES_TOLERANCE):
        raise BundleError(
            f"the graphs do not agree with torch: logits differ by {model:.1e} (model.onnx) and {trace:.1e} "
            f"(trace.onnx), the limits are {tolerance:.0e} and {LOGITS_TOLERANCE:.0e}; gates by {gates:.1e}, the limit "
            f"is {GATES_TOLERANCE:.0e}"
        )
    # Each side is within the tolerance of the equations. The steps of an int8 model round, its traced gates do not.
    if not (step <= tolerance and (precision == "int8" or step_gates <= 2 * GATES_TOLERANCE)):
        raise BundleError(
            f"the steps of streams do not agree with torch and the traced gates: logits differ by {step:.1e}, the "
            f"limit is {tolerance:.0e}; gates by {step_gates:.1e}, the limit is {2 * GATES_TOLERANCE:.0e}"
        )
    if not batch <= BATCH_TOLERANCE:
        raise BundleError(f"answers depend on the batch by {batch:.1e}, the limit is {BATCH_TOLERANCE:.0e}")
    return Parity(
        model=model,
        trace=trace,
        gates=gates,
        batch=batch,
        batches=count,
        logits_tolerance=tolerance,
        gates_tolerance=GATES_TOLERANCE,
    )


def _dependence(engine: Engine, together: NDArray[np.float32], rows: Sequence[NDArray[np.int32]]) -> float:
    """How much the probabilities of a batch's shortest, longest and first rows differ from those of each alone."""
    if len(rows) == 1:
        return 0.0
    if not np.isfinite(together).all():
        return float("nan")
    lengths = [len(row) for row in rows]
    picked = {0, int(np.argmin(lengths)), int(np.argmax(lengths))}
    worst = 0.0
    for number in picked:
        alone = np.exp(log_softmax(engine.predict([rows[number]])[0]))
        mine = together[number] if together.ndim == 2 else together[number, : len(rows[number])]
        worst = max(worst, float(np.abs(np.exp(log_softmax(mine)) - alone).max()))
    return worst


def _largest(actual: NDArray[np.float32], expected: NDArray[np.float32], rows: Sequence[NDArray[np.int32]]) -> float:
    if actual.ndim == 2:
        return float(np.abs(actual - expected).max())
    return float(np.max([np.abs(actual[n, : len(row)] - expected[n, : len(row)]).max() for n, row in enumerate(rows)]))


def _deviation(network: Network, rows: Sequence[NDArray[np.int32]], trace: Trace) -> float:
    """The first and the last row of a batch against the equations in float64."""
    worst = 0.0
    for position in {0, len(rows) - 1}:
        row = rows[position]
        with torch.inference_mode():
            vectors = network.embed(torch.from_numpy(row)[None])
            inputs = network.widen(vectors, torch.tensor([len(row)]))[0].double().numpy()
        worst = float(np.maximum(worst, reference.deviation(network, inputs, trace.gates(position))))
    return worst


def _manifest(network: Network, origin: Origin, licence: str, temperature: float, draft: Path) -> Manifest:
    architecture = network.architecture
    fields = {
        **{name: getattr(architecture, name) for name in _OF_NETWORK},
        "token_limit": TOKEN_LIMIT,
        "crf": network.crf.as_manifest() if network.crf is not None else None,
        "temperature": temperature,
        "licence": licence,
        "origin": origin,
        "parity": _NOT_YET,
        "gates_graph": MODEL_GRAPH if one_graph(architecture.cell, architecture.form) else TRACE_GRAPH,
        "files": {file: digest(draft / file) for file in FILES if (draft / file).exists()},
    }
    return Manifest.model_validate(fields)


_OF_NETWORK = (
    *("task", "cell", "gru_reset", "peepholes", "directions", "window_words", "layers", "hidden", "head", "labels"),
    *("features", "characters"),
)
"""Fields that a manifest and an architecture have in common."""
