"""FastAPI with a plain `def` endpoint in two workers: ONNX Runtime on one thread, or the network in torch, eager."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.common import STARTS_WITHIN, WORKERS, Predictor, bundle_folder


class Question(BaseModel):
    inputs: str


def ort_app() -> FastAPI:
    return _app(Predictor(bundle_folder(), threads=1))


def torch_app() -> FastAPI:
    import torch

    from service.model.bundle import load
    from training.export.restore import network
    from training.scoring.evaluate import Subject

    torch.set_num_threads(1)
    subject = Subject(load(bundle_folder()))
    made = network(subject.bundle)

    def predict(texts: Sequence[str]) -> list[dict[str, Any]]:
        (encoded,) = (subject.tokenizer.encode(text, subject.manifest.token_limit) for text in texts)
        with torch.inference_mode():
            logits = made(torch.from_numpy(encoded.rows)[None], torch.tensor([len(encoded)]))
        return list(subject.decoder.decode(logits.numpy(), [encoded]))

    return _app(predict)


def _app(predictor: Callable[[Sequence[str]], list[dict[str, Any]]]) -> FastAPI:
    app = FastAPI()

    @app.post("/predict")
    def predict(question: Question) -> dict[str, Any]:
        return {"predictions": predictor([question.inputs])}

    return app


async def echo(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """No framework and no model: the body is read, and a constant answer of the usual size is sent."""
    if scope["type"] != "http":
        return
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(_CONSTANT)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _CONSTANT})


_CONSTANT = (
    b'{"predictions":[{"label":"positive","score":0.9865064024925232,'
    b'"scores":{"negative":0.013493597507476807,"positive":0.9865064024925232},"truncated":false}]}'
)

if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("engine", choices=["ort", "torch", "echo"])
    arguments.add_argument("--port", type=int, required=True)
    asked = arguments.parse_args()
    name = {"ort": "ort_app", "torch": "torch_app", "echo": "echo"}[asked.engine]
    uvicorn.run(
        f"benchmarks.peers.fastapi_peer:{name}",
        factory=asked.engine != "echo",
        workers=WORKERS,
        port=asked.port,
        log_level="warning",
        timeout_worker_healthcheck=STARTS_WITHIN,
    )
