"""A model's configuration and statistics in the form of Triton's extensions to the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Iterable

from service.http.protocols import v2_outputs, v2_tensors
from service.http.protocols.v2_tensors import Datatype
from service.observability.metrics import Of, Totals, value_of
from service.serving.registry import Model

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
TEXT_INPUT = {"name": v2_tensors.TEXT, "datatype": "BYTES", "shape": [-1]}

_STAGES = {
    "queue": ("queue",),
    "compute_input": ("tokenise",),
    "compute_output": ("decode", "serialise"),
}
"""Triton's names of the stages of a request."""
_NOTHING = {"count": 0, "ns": 0}


def config(model: Model, versions: Iterable[int], threads: int) -> dict[str, object]:
    """A model's configuration; `versions` are all loaded ones. Its shapes include the number of inputs, so
    `max_batch_size` is 0."""
    manifest = model.bundle.manifest
    facts = {
        "task": manifest.task,
        "cell": manifest.cell,
        "labels": ",".join(manifest.labels),
        "token_limit": str(model.token_limit),
    }
    kind = "KIND_GPU" if model.engine.provider == "cuda" else "KIND_CPU"
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"specific": {"versions": list(versions)}},
        "max_batch_size": 0,
        "input": [{"name": v2_tensors.TEXT, "data_type": _type("BYTES"), "dims": [-1]}],
        "output": [
            {"name": name, "data_type": _type(datatype), "dims": list(shape)}
            for name, (datatype, shape) in v2_outputs.every(manifest).items()
        ],
        "instance_group": [{"name": model.name, "kind": kind, "count": threads}],
        "default_model_filename": "model.onnx",
        "parameters": {name: {"string_value": value} for name, value in facts.items()},
    }


def _type(datatype: Datatype) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def statistics(totals: Totals, models: Iterable[Model]) -> dict[str, object]:
    """The requests for each model since the start; durations in whole nanoseconds."""
    return {"model_stats": [_statistics(totals, (model.name, model.version)) for model in models]}


def _statistics(totals: Totals, of: Of) -> dict[str, object]:
    def number(family: str, *labels: str) -> float:
        return value_of(totals, family, *of, *labels)

    def requests(outcome: str) -> dict[str, int]:
        count = number("model_requests_total", outcome)
        return _duration(count, number("model_request_seconds_total", outcome))

    batches = {
        int(key[3]): _duration(cells[0], number("model_batch_seconds_total", key[3]))
        for key, cells in totals.items()
        if key[0] == "model_batches_total" and key[1:3] == of
    }
    ran_rows = sum(rows * ran["count"] for rows, ran in batches.items())
    runs = {"count": ran_rows, "ns": sum(ran["ns"] for ran in batches.values())}
    answered = number("model_requests_total", "success")
    stages = {
        name: _duration(
            ran_rows if name == "queue" else answered, sum(number("model_stage_seconds_total", each) for each in parts)
        )
        for name, parts in _STAGES.items()
    }
    return {
        "name": of[0],
        "version": of[1],
        "last_inference": int(number("model_last_request_seconds") * 1000),
        "inference_count": int(number("model_inputs_total")),
        "execution_count": sum(ran["count"] for ran in batches.values()),
        "inference_stats": {
            "success": requests("success"),
            "fail": requests("fail"),
            "queue": stages["queue"],
            "compute_input": stages["compute_input"],
            "compute_infer": runs,
            "compute_output": stages["compute_output"],
            "cache_hit": _NOTHING,
            "cache_miss": _NOTHING,
        },
        "batch_stats": [
            {"batch_size": rows, "compute_input": _NOTHING, "compute_infer": ran, "compute_output": _NOTHING}
            for rows, ran in sorted(batches.items())
        ],
    }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": int(count), "ns": int(seconds * 1e9)}
