"""Examples of the foreign protocols' requests and answers, for the API document."""

from __future__ import annotations

from typing import Any

_Json = dict[str, Any]

HUGGING_FACE_REQUESTS: _Json = {
    "one text": {"inputs": "A warm, funny and wise film.", "parameters": {"top_k": 1}},
    "many": {"inputs": ["A great film.", "A dull one."], "parameters": {"function_to_apply": "sigmoid"}},
    "entities": {"inputs": "Ada Lovelace lived in London.", "parameters": {"aggregation_strategy": "simple"}},
}
HUGGING_FACE_ANSWERS: _Json = {
    "labels": [[{"label": "positive", "score": 0.98}, {"label": "negative", "score": 0.02}]],
    "entities": [{"entity_group": "PER", "score": 0.98, "word": "Ada Lovelace", "start": 0, "end": 12}],
    "tokens": [{"entity": "B-PER", "score": 0.99, "word": "Ada", "start": 0, "end": 3}],
}
_TEXT = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["A great film."]}
INFER_REQUESTS: _Json = {
    "a label": {"inputs": [_TEXT]},
    "a gate": {"id": "1", "inputs": [_TEXT], "outputs": [{"name": "label"}, {"name": "gate.0.forward.forget"}]},
}
INFER_ANSWERS: _Json = {
    "a label": {
        "model_name": "sentiment-bilstm",
        "model_version": "1",
        "parameters": {"truncated": False},
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["positive"]},
            {"name": "score", "datatype": "FP32", "shape": [1], "data": [0.98]},
            {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [-1.9, 1.9]},
            {"name": "lengths", "datatype": "INT64", "shape": [1], "data": [4]},
        ],
    }
}
METADATA = {
    "name": "sentiment-bilstm",
    "versions": ["1"],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
    "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "gate.0.forward.forget", "datatype": "FP32", "shape": [-1, -1, 128]},
    ],
}
CONFIG = {
    "name": "sentiment-bilstm",
    "platform": "onnxruntime_onnx",
    "backend": "onnxruntime",
    "version_policy": {"specific": {"versions": [1]}},
    "max_batch_size": 0,
    "input": [{"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}],
    "output": [{"name": "label", "data_type": "TYPE_STRING", "dims": [-1]}],
    "instance_group": [{"name": "sentiment-bilstm", "kind": "KIND_CPU", "count": 2}],
    "default_model_filename": "model.onnx",
    "parameters": {"task": {"string_value": "sentiment"}, "labels": {"string_value": "negative,positive"}},
}
_RUN = {"count": 1, "ns": 240_000}
_NONE = {"count": 0, "ns": 0}
STATISTICS = {
    "model_stats": [
        {
            "name": "sentiment-bilstm",
            "version": "1",
            "last_inference": 1_767_225_600_000,
            "inference_count": 1,
            "execution_count": 1,
            "inference_stats": {
                "success": {"count": 1, "ns": 1_100_000},
                "fail": _NONE,
                "queue": {"count": 1, "ns": 40_000},
                "compute_input": {"count": 1, "ns": 60_000},
                "compute_infer": _RUN,
                "compute_output": {"count": 1, "ns": 30_000},
                "cache_hit": _NONE,
                "cache_miss": _NONE,
            },
            "batch_stats": [{"batch_size": 1, "compute_input": _NONE, "compute_infer": _RUN, "compute_output": _NONE}],
        }
    ]
}
INDEX = [{"name": "sentiment-bilstm", "version": "1", "state": "READY", "reason": ""}]
SERVER = {
    "name": "gatelight",
    "version": "1.0.0",
    "extensions": ["binary_tensor_data", "model_repository", "model_configuration", "statistics"],
}
