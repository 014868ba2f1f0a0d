"""The baseline of the serving benchmark: the service that one writes first.

A FastAPI application under uvicorn, both with their default options; one endpoint, a plain `def`, that tokenises a
text and calls `session.run` on an ONNX Runtime session with default options. It has the service's own graph, tokenizer
and decoder, so that the two give the same answer and differ in the way they come to it: here a thread of FastAPI's
pool for each request, batches of one, and as many threads within a run as ONNX Runtime likes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from service.model.bundle import MODEL_GRAPH, TOKENIZER, load
from service.model.decoding import decoder
from service.model.tokenizer import Tokenizer


class Question(BaseModel):
    """The part of the service's request that this application understands: one text."""

    inputs: str


def create_app(folder: Path) -> FastAPI:
    """The application, for the bundle in a folder ``…/NAME/VERSION``."""
    manifest = load(folder).manifest
    tokenizer = Tokenizer.load(folder / TOKENIZER, manifest.features)
    decode = decoder(manifest.task, manifest.labels).decode
    session = ort.InferenceSession(str(folder / MODEL_GRAPH), providers=["CPUExecutionProvider"])
    app = FastAPI()

    @app.post("/predict")
    def predict(question: Question) -> dict[str, Any]:
        encoded = tokenizer.encode(question.inputs, manifest.token_limit)
        feed = {"tokens": encoded.rows[None], "lengths": np.array([len(encoded)], np.int32)}
        logits = session.run(None, feed)[0]
        return {"predictions": decode(logits, [encoded])}

    return app


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("--port", type=int, required=True)
    asked = arguments.parse_args()
    uvicorn.run(create_app(asked.bundle), port=asked.port)
