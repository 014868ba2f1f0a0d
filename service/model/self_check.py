"""A look at a model's graphs before they serve: does this ONNX Runtime read them as the one that certified them did?

``model.onnx`` relies on `sequence_lens`. A runtime, an execution provider or a graph that ignores it gives no error: a
text in a batch gets other logits than alone. The trace graph turns rows without it, which makes it a witness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.errors import BundleError
from service.model.bundle import MODEL_GRAPH, TRACE_GRAPH, Feature, Manifest

RELIES_ON = "relies_on"
"""The key of a graph's metadata that names, between spaces, the inputs that a runtime must read as ONNX defines
them."""
SEQUENCE_LENS = "sequence_lens"
LENGTHS = (9, 4, 2)
"""Tokens of the rows that are compared."""
LEAST_TOLERANCE = 1e-4
"""The least tolerance of logits: it counts if twice the certificate's tolerance is smaller."""

Rows = Sequence[NDArray[np.int32]]
Predict = Callable[[Rows], NDArray[np.float32]]


def relies_on(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The names in a graph's metadata that a runtime must honour. Graphs without the key rely on `sequence_lens`."""
    return tuple(metadata.get(RELIES_ON, SEQUENCE_LENS).split())


def random_rows(
    features: Sequence[Feature], lengths: Iterable[int], generator: np.random.Generator
) -> list[NDArray[np.int32]]:
    """Random inputs of these lengths, each int32 [tokens, columns of all features]."""
    sizes = [feature.size for feature in features for _ in range(feature.columns)]
    return [generator.integers(0, sizes, (length, len(sizes))).astype(np.int32) for length in lengths]


def tolerance(manifest: Manifest) -> float:
    """The tolerance of logits on another machine: twice the certificate's, and at least `LEAST_TOLERANCE`."""
    return max(2 * manifest.parity.logits_tolerance, LEAST_TOLERANCE)


def check(predict: Predict, trace: Predict, manifest: Manifest, runtime: str) -> None:
    """Compare a ragged batch with its rows alone, and with the trace graph. `runtime` names the version that runs here.

    Raises `BundleError` when the logits differ by more than twice the certificate's tolerance.
    """
    limit = tolerance(manifest)
    rows = random_rows(manifest.features, LENGTHS, np.random.default_rng(0))
    together = predict(rows)
    alone = _apart(together, [predict([row])[0] for row in rows], manifest)
    graphs = _apart(together, trace(rows), manifest)
    certified = manifest.origin.versions.get("onnxruntime", "another version")
    what_to_do = (
        f"This is ONNX Runtime {runtime}; the bundle was certified with {certified}. Set the provider to cpu, install "
        f"that version, or export the bundle again with `python -m training export`"
    )
    if not alone <= limit:
        raise BundleError(
            f"{MODEL_GRAPH} gives a text in a batch other logits than alone: they differ by {alone:.2g}, the limit is "
            f"{limit:.0e}. The lengths (`{SEQUENCE_LENS}`) are not read as ONNX defines them. {what_to_do}"
        )
    if not graphs <= limit:
        raise BundleError(
            f"{MODEL_GRAPH} and {TRACE_GRAPH} disagree: their logits differ by {graphs:.2g}, the limit is "
            f"{limit:.0e}. An operator is not read as it was when they were certified. {what_to_do}"
        )


def _apart(
    batch: NDArray[np.float32], others: Sequence[NDArray[np.float32]] | NDArray[np.float32], manifest: Manifest
) -> float:
    """The largest difference of the rows' logits, without padding; NaN if any is NaN."""
    tagger = manifest.head == "tagger"
    differences = [
        np.abs(one[:length] - other[:length] if tagger else one - other).max()
        for one, other, length in zip(batch, others, LENGTHS, strict=True)
    ]
    return float(np.max(differences))
