"""Examples of requests and answers for the API document. Numbers are shortened, shapes are real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Body

from service.model.equations import equations


def json_body(requests: Mapping[str, object]) -> Any:
    """FastAPI's `Body` with these examples."""
    return Body(openapi_examples={name: {"value": value} for name, value in requests.items()})


PREDICT_REQUESTS: dict[str, dict[str, object]] = {
    "one text": {"inputs": "A warm, funny and wise film."},
    "entities, raw and tokenised": {
        "model": "ner-bilstm",
        "inputs": ["Ada Lovelace lived in London.", ["Ada", "Lovelace", "lived", "in", "London", "."]],
    },
    "every token's label": {"task": "ner", "inputs": "Ada Lovelace lived in London.", "tokens": True},
}
GATES_REQUESTS: dict[str, dict[str, object]] = {
    "summaries": {"inputs": "A great film.", "reduce": "summary"},
    "statistics of two units": {"inputs": "A great film.", "reduce": "summary", "units": [0, 1], "statistics": True},
    "some units": {"inputs": "A great film.", "gates": ["forget", "cell"], "directions": ["forward"], "units": [0, 1]},
    "a text of one sequence": {"task": "ner", "inputs": "Ada\nBob", "split": False, "units": [0], "gates": ["hidden"]},
    "one token explained": {"task": "ner", "inputs": "Ada lived in London.", "explain": 3, "reduce": "summary"},
    "a gate shut at two tokens": {
        "inputs": "Not a great film.",
        "reduce": "summary",
        "set": [{"layer": 0, "direction": "forward", "gate": "forget", "tokens": [2, 3], "value": 0.0}],
    },
    "without a token": {"inputs": "Not a great film.", "reduce": "summary", "drop": [0]},
    "is the split true?": {
        "inputs": "Not a great film.",
        "reduce": "summary",
        "gates": ["hidden"],
        "faithfulness": True,
        "deletion": True,
    },
}
SENTIMENT: dict[str, object] = {
    "label": "positive",
    "score": 0.98,
    "scores": {"negative": 0.02, "positive": 0.98},
    "truncated": False,
}
_ADA = {"text": "Ada Lovelace", "start": 0, "end": 12, "label": "PER"}
_ENTITY = {**_ADA, "score": 0.98, "token_start": 0, "token_end": 2}
PREDICTIONS: dict[str, dict[str, object]] = {
    "sentiment": {"model": "sentiment-bilstm", "version": "1", "task": "sentiment", "predictions": [SENTIMENT]},
    "ner": {
        "model": "ner-bilstm",
        "version": "1",
        "task": "ner",
        "predictions": [{"entities": [_ENTITY], "truncated": False}],
    },
}
STREAM_REQUESTS: dict[str, dict[str, object]] = {
    "the first piece": {"model": "sentiment-lstm", "text": "The film is gr"},
    "the whole at once, with two units of a gate": {
        "model": "sentiment-lstm",
        "text": "A great film.",
        "gates": ["forget"],
        "units": [0, 1],
        "end": True,
    },
}
_THE = {"text": "The", "start": 0, "end": 3, "scores": {"negative": 0.5, "positive": 0.5}}
_FILM = {"text": "film", "start": 4, "end": 8, "scores": {"negative": 0.4, "positive": 0.6}}
STREAM_ANSWERS: dict[str, dict[str, object]] = {
    "two tokens so far": {
        "model": "sentiment-lstm",
        "version": "4",
        "events": [{"type": "token", "t": 0, **_THE}, {"type": "token", "t": 1, **_FILM}],
        "state": "pD0c…",
        "prediction": None,
    },
    "the end": {"model": "sentiment-lstm", "version": "4", "events": [], "state": None, "prediction": SENTIMENT},
}
STREAM_EVENTS = (
    'event: token\ndata: {"type":"token","t":0,"text":"The","start":0,"end":3,'
    '"scores":{"negative":0.5,"positive":0.5}}\n\n'
)
REQUEST_ID = "3f0c9b1e7a5d4c2f8e6b0d9a1c3e5f70"
STREAM_MESSAGES: dict[str, dict[str, Any]] = {
    "StreamOpening": {"model": "sentiment-lstm", "gates": ["forget"], "units": [0, 1], "state_every": 100},
    "Piece": {"text": "The film is gr"},
    "ReadyEvent": {"type": "ready", "model": "sentiment-lstm", "version": "4", "cell": "lstm"},
    "TokenEvent": {"type": "token", "t": 0, **_THE, "gates": {"0": {"forget": [0.91, 0.4]}}},
    "LabelsEvent": {"type": "labels", "t": 0, "labels": ["B-PER"], "scores": [0.98], "spans": [[0, 3]]},
    "EntityEvent": {
        "type": "entity",
        "label": "PER",
        "text": "Ada",
        "start": 0,
        "end": 3,
        "score": 0.98,
        "token_start": 0,
        "token_end": 1,
    },
    "StateEvent": {"type": "state", "state": "pD0c…", "t": 100, "read": 512},
    "DoneEvent": {"type": "done", "prediction": SENTIMENT, "tokens": 2, "request_id": REQUEST_ID},
    "ErrorEvent": {
        "type": "error",
        "status": 422,
        "detail": "/tokens: A piece is text or tokens; send one of them.",
        "errors": [{"pointer": "/tokens", "detail": "A piece is text or tokens; send one of them."}],
    },
}
"""An example of each message of a WebSocket, by its schema."""
_LSTM = {
    "model": "sentiment-bilstm",
    "version": "1",
    "task": "sentiment",
    "cell": "lstm",
    "equations": equations("lstm"),
}
TRACES: dict[str, dict[str, object]] = {
    "two units of two gates": {
        **_LSTM,
        "traces": [
            {
                "tokens": [{"text": "A", "start": 0, "end": 1}, {"text": "film", "start": 2, "end": 6}],
                "prediction": SENTIMENT,
                "layers": [
                    {
                        "layer": 0,
                        "direction": "forward",
                        "gates": {"forget": [[0.91, 0.4], [0.87, 0.52]], "cell": [[0.12, -0.3], [0.4, -0.21]]},
                    }
                ],
                "contributions": {
                    "labels": ["negative", "positive"],
                    "bias": [0.1, -0.1],
                    "tokens": [[-0.2, 0.2], [-1.8, 1.8]],
                    "logits": [-1.9, 1.9],
                    "of": "tokens",
                    "method": "cell-state decomposition",
                },
            }
        ],
    },
    "a token dropped, and measured": {
        **_LSTM,
        "traces": [
            {
                "tokens": [{"text": "great", "start": 6, "end": 11}, {"text": "film", "start": 12, "end": 16}],
                "prediction": SENTIMENT,
                "layers": [{"layer": 0, "direction": "forward", "gates": {"forget": [[0.91], [0.87]]}}],
                "contributions": None,
                "kept": [1, 2],
                "baseline": SENTIMENT,
                "faithfulness": {
                    "label": "positive",
                    "score": 0.98,
                    "deletion": {"order": [0, 1], "scores": [0.41]},
                    "comprehensiveness": 0.57,
                    "sufficiency": 0.01,
                },
                "deletion_effects": {
                    "labels": ["negative", "positive"],
                    "tokens": [[1.9, -1.9], [-0.1, 0.1]],
                    "exact": False,
                    "method": "the model was run without each token",
                },
            }
        ],
    },
    "two sentences of a tagger": {
        "model": "ner-gru",
        "version": "3",
        "task": "ner",
        "cell": "gru",
        "equations": equations("gru"),
        "traces": [
            {
                "tokens": [{"text": "Ada", "start": 0, "end": 3}, {"text": "Bob", "start": 4, "end": 7}],
                "sentences": [[0, 1], [1, 2]],
                "prediction": {"entities": [], "truncated": False},
                "layers": [{"layer": 0, "direction": "forward", "gates": {"hidden": [[0.31], [0.28]]}}],
                "contributions": None,
            }
        ],
    },
}
MODEL: dict[str, object] = {
    "name": "sentiment-bilstm",
    "version": "1",
    "task": "sentiment",
    "cell": "lstm",
    "gru_reset": None,
    "peepholes": None,
    "directions": ["forward", "backward"],
    "layers": 1,
    "hidden": 128,
    "head": "max",
    "precision": "float32",
    "labels": ["negative", "positive"],
    "gates": ["forget", "input", "output", "candidate", "cell", "hidden"],
    "equations": equations("lstm"),
    "provider": "cpu",
    "placement": {"recurrent": {"cpu": 1}, "other": {"cpu": 8}},
    "token_limit": 4096,
    "relies_on": ["sequence_lens"],
    "runtimes": "docs/reference/runtimes.md",
    "parameters": 2_312_450,
    "features": [{"name": "word", "size": 20_000, "columns": 1}],
    "quality": [{"data": "SST-2 dev", "metric": "accuracy", "value": 0.85, "examples": 872, "truncated": 0}],
    "raw_text": [],
    "quality_before": [],
    "parity": {
        "model": 2.4e-7,
        "trace": 2.4e-7,
        "gates": 4.1e-7,
        "batch": 1.2e-7,
        "batches": 8,
        "logits_tolerance": 1e-4,
        "gates_tolerance": 1e-5,
    },
    "licence": "Apache-2.0",
    "seed": 1,
    "epochs": 7,
}
MODELS: dict[str, object] = {
    "default": {"sentiment": "sentiment-bilstm"},
    "models": [MODEL],
    "refused": [{"name": "my-ner", "version": "2", "reason": "model.onnx does not match the manifest"}],
}
UNIT_CARD: dict[str, object] = {
    "model": "sentiment-bilstm",
    "version": "1",
    "layer": 0,
    "direction": "forward",
    "unit": 7,
    "logits": {"negative": 0.31, "positive": -0.29},
    "data": {"name": "sst2 dev", "sha256": "9f86d081884c7d659a2feaa0c55ad015" * 2, "inputs": 872},
    "places": [{"line": 41, "token": 6, "value": -0.981}, {"line": 307, "token": 12, "value": -0.977}],
    "ablation": {
        "inputs": 200,
        "metric": "accuracy",
        "score": 0.885,
        "cost": 0.005,
        "lost": 0.0031,
        "changed": 0.015,
        "effects": None,
    },
}
INDEX: dict[str, object] = {
    "service": "Gatelight",
    "version": "0.1.0",
    "openapi": "/openapi.json",
    "routes": ["/", "/gates", "/models", "/predict"],
}
VERSIONS: dict[str, object] = {
    "versions": [
        {"name": "sentiment-bilstm", "version": "1", "ready": False, "reason": "version 2 is served"},
        {"name": "sentiment-bilstm", "version": "2", "ready": True, "reason": None},
    ]
}
UNLOADED: dict[str, object] = {"name": "sentiment-bilstm", "ready": False}
LOAD_REQUESTS: dict[str, dict[str, object]] = {"the highest version": {}, "one version, kept to": {"version": 1}}
STATUS: dict[str, object] = {"status": "ok"}

METRICS = """# HELP gatelight_requests_total Requests answered, by route template.
# TYPE gatelight_requests_total counter
gatelight_requests_total{method="POST",route="/predict",status="200"} 12.0
"""
