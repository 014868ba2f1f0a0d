"""Shared parts of the peers: the bundle's tokenizer, graph and decoder, without the service's scheduling."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from service.model.bundle import MODEL_GRAPH, TOKENIZER, load
from service.model.decoding import decoder
from service.model.tokenizer import Tokenizer

BUNDLE = "BENCHMARK_BUNDLE"
"""The environment variable that names the bundle's folder ``…/NAME/VERSION``: some peers take no arguments."""
WORKERS, MAX_BATCH = 2, 32
STARTS_WITHIN = 240
"""Seconds. uvicorn kills a worker that is silent for 5, which an import of torch takes on a busy machine."""


class Predictor:
    """Texts → predictions. `threads` are ONNX Runtime's within one run; 0 for its default."""

    def __init__(self, folder: Path, threads: int) -> None:
        manifest = load(folder).manifest
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(str(folder / MODEL_GRAPH), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.load(folder / TOKENIZER, manifest.features)
        self._decoder = decoder(manifest.task, manifest.labels)
        self._limit, self._features = manifest.token_limit, len(manifest.features)

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """One prediction for each text, as one padded batch."""
        encoded = [self._tokenizer.encode(text, self._limit) for text in texts]
        lengths = np.array([len(each) for each in encoded], np.int32)
        tokens = np.zeros((len(encoded), int(lengths.max()), self._features), np.int32)
        for row, each in enumerate(encoded):
            tokens[row, : len(each)] = each.rows
        logits = self._session.run(None, {"tokens": tokens, "lengths": lengths})[0]
        return list(self._decoder.decode(logits, encoded))


def bundle_folder() -> Path:
    return Path(os.environ[BUNDLE])
