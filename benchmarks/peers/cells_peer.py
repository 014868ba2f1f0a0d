"""Gates as one would serve them first: FastAPI, and a loop over `torch.nn.LSTMCell`'s weights, step by step.

It serves a bidirectional LSTM of one layer. The answer has the service's form, without contributions.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from torch import Tensor, nn

from benchmarks.peers.common import STARTS_WITHIN, WORKERS, bundle_folder
from service.model.bundle import TOKENIZER, load
from service.model.decoding import decoder
from service.model.equations import equations
from service.model.tokenizer import Tokenizer
from training.export.restore import network
from training.nets.networks import Network
from training.nets.pooling import pool

DECIMALS = 4


class Question(BaseModel):
    inputs: str
    contributions: bool = False


def cells(network: Network) -> list[nn.LSTMCell]:
    """The directions of the network's only layer, as torch's own cells."""
    (layer,) = network.recurrent()
    made = []
    for way in layer.directions():
        weights = way.stacked()
        assert weights.r is not None  # every LSTM has recurrent weights
        cell = nn.LSTMCell(weights.w.shape[1], weights.r.shape[1])
        bias = torch.zeros_like(weights.w_bias) if weights.r_bias is None else weights.r_bias
        values = {"weight_ih": weights.w, "weight_hh": weights.r, "bias_ih": weights.w_bias, "bias_hh": bias}
        cell.load_state_dict(values)
        made.append(cell)
    return made


def read(cell: nn.LSTMCell, inputs: Tensor) -> dict[str, Tensor]:
    """Every gate at every step: by name, [tokens, units]."""
    hidden = memory = torch.zeros(1, cell.hidden_size)
    steps: dict[str, list[Tensor]] = {}
    for token in inputs:
        sums = token[None] @ cell.weight_ih.t() + cell.bias_ih + hidden @ cell.weight_hh.t() + cell.bias_hh
        i, f, g, o = sums.chunk(4, 1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        memory = f * memory + i * g
        hidden = o * memory.tanh()
        named = {"forget": f, "input": i, "output": o, "candidate": g, "cell": memory, "hidden": hidden}
        for name, value in named.items():
            steps.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in steps.items()}


def create_app() -> FastAPI:
    torch.set_num_threads(1)
    bundle = load(bundle_folder())
    manifest = bundle.manifest
    tokenizer, decode = Tokenizer.load(bundle.file(TOKENIZER), manifest.features), decoder("sentiment", manifest.labels)
    made = network(bundle)
    ways = cells(made)
    app = FastAPI()

    @app.post("/gates")
    def gates(question: Question) -> dict[str, Any]:
        encoded = tokenizer.encode(question.inputs, manifest.token_limit)
        with torch.inference_mode():
            inputs = made.embed(torch.tensor(encoded.rows)[None])[0]
            traced = [read(ways[0], inputs)]
            if len(ways) > 1:
                traced.append({name: value.flip(0) for name, value in read(ways[1], inputs.flip(0)).items()})
            states, lengths = torch.cat([each["hidden"] for each in traced], 1)[None], torch.tensor([len(encoded)])
            pooled, _ = pool(manifest.head, states, lengths, manifest.hidden, made.query)
            prediction = decode.decode(made.head(pooled).numpy(), [encoded])[0]
        layers = [
            {"layer": 0, "direction": direction, "gates": {name: _numbers(value) for name, value in each.items()}}
            for direction, each in zip(manifest.directions, traced, strict=True)
        ]
        head = {"model": bundle.name, "version": str(bundle.version), "task": manifest.task, "cell": manifest.cell}
        trace = {"tokens": encoded.tokens(), "prediction": prediction, "layers": layers, "contributions": None}
        return {**head, "equations": equations(manifest.cell, manifest.form), "traces": [trace]}

    return app


def _numbers(value: Tensor) -> list[list[float]]:
    rounded: list[list[float]] = value.double().round(decimals=DECIMALS).tolist()
    return rounded


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    uvicorn.run(
        "benchmarks.peers.cells_peer:create_app",
        factory=True,
        workers=WORKERS,
        port=arguments.parse_args().port,
        log_level="warning",
        timeout_worker_healthcheck=STARTS_WITHIN,
    )
