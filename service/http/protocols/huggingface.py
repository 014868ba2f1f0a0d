"""`POST /models/{name}`: what Hugging Face's inference clients send and expect, by their published task specifications.

A string is answered with one result, a list with one for each input. Labels and scores are those of `/predict`: here
they are only put into other shapes. Every token is a word, so that the strategies that differ in how they join the
pieces of a word (first, average, max) give what `simple` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Route

from service.errors import FieldProblem, InvalidField
from service.http.middleware import Call
from service.http.render import dumps
from service.http.routes.native import A_TOKEN_OUT, AN_INPUT_OUT, Answer, Endpoint, cost_in, note_job
from service.http.schemas.requests import InputsRequest, parse
from service.model.bundle import Task
from service.model.decoding import OUTSIDE, Prediction
from service.model.joining import Logits
from service.model.tokenizer import Encoded
from service.serving.inference import decode, encode
from service.serving.registry import Model
from service.serving.runtime import Runtime

TRUNCATED = b"x-truncated"
"""The header that says whether an input lost its tail: the protocol's answers have no room for it."""

_Results = list[dict[str, object]]
_TASKS: dict[Task, str] = {"sentiment": "text classification", "ner": "token classification"}


Truncation = Literal["longest_first", "only_first", "only_second", "do_not_truncate"]

_LENIENT = ConfigDict(extra="ignore", strict=True, frozen=True)


class Parameters(BaseModel):
    """What the two tasks can be asked for; null is as good as left out, and what is not listed is passed over."""

    model_config = _LENIENT

    top_k: int | None = Field(
        None, ge=1, description="Text classification: the most probable labels alone; all if out."
    )
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="Text classification: what makes scores of logits; softmax if left out."
    )
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        None,
        description='Token classification: "none" gives every token, all others entities, with the mean of their '
        'tokens\' scores; "simple" if left out.',
    )
    ignore_labels: list[str] | None = Field(
        None, description='Token classification: labels, or kinds of entities, to leave out; ["O"] if left out.'
    )
    stride: int | None = Field(
        None, ge=0, description="Token classification: taken, and without effect: a text is read sentence by sentence."
    )
    truncation: bool | Truncation | None = Field(
        None,
        description='Keep the head of a text over the token limit: true, or any strategy but "do_not_truncate".',
    )


_OF_A_TASK: dict[str, Task] = {
    "top_k": "sentiment",
    "function_to_apply": "sentiment",
    "aggregation_strategy": "ner",
    "ignore_labels": "ner",
    "stride": "ner",
}


class Options(BaseModel):
    """Options of the hosted service. They are taken, and without effect: nothing is cached, a loaded model answers."""

    model_config = _LENIENT

    use_cache: bool | None = Field(None, description="Without effect: nothing is cached.")
    wait_for_model: bool | None = Field(None, description="Without effect: a model that is loaded answers.")


class HuggingFaceRequest(InputsRequest):
    """Inputs and parameters as Hugging Face's clients send them. An input may also be a list of tokens."""

    model_config = _LENIENT

    parameters: Parameters | None = Field(None, description="How to answer.")
    options: Options | None = Field(None, description="Taken for the sake of clients that send them.")


@dataclass(frozen=True, slots=True)
class _Job:
    request: HuggingFaceRequest
    model: Model
    encoded: list[Encoded]

    @property
    def parameters(self) -> Parameters:
        return self.request.parameters or Parameters.model_construct()


class HuggingFace:
    """The route, over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings

    def routes(self) -> list[Route]:
        return [Route("/models/{name}", Endpoint(self._runtime, self.infer), methods=["POST"])]

    async def infer(self, call: Call, content: bytes, deadline: float) -> Answer:
        """Answer a `HuggingFaceRequest`."""
        offload, inference = self._runtime.offload, self._runtime.inference
        cost = cost_in(content)
        request, model = await offload(cost, partial(self._asked, call, content), begins=True)
        call.model = (model.name, model.version)
        inference.check_room(model)
        job = await offload(cost, partial(_encode, call, request, model))
        note_job(call, self._settings, job.model, job.encoded)
        logits = await inference.predict(job.model, job.encoded, deadline=deadline, times=call.times())
        tokens = sum(map(len, job.encoded)) if job.model.task == "ner" else 0
        cost = len(job.encoded) * AN_INPUT_OUT + tokens * A_TOKEN_OUT * 2
        return await offload(cost, partial(_answer, call, job, logits))

    def _asked(self, call: Call, content: bytes) -> tuple[HuggingFaceRequest, Model]:
        model = self._runtime.model(call.path["name"], None)
        request = parse(content, HuggingFaceRequest, self._settings.max_inputs)
        _check_task(request.parameters or Parameters.model_construct(), model)
        return request, model


def _encode(call: Call, request: HuggingFaceRequest, model: Model) -> _Job:
    truncate = request.parameters is not None and request.parameters.truncation not in (None, False, "do_not_truncate")
    with call.stage("tokenise"):
        return _Job(request, model, encode(model, request.items(), truncate, request.pointer))


def _check_task(parameters: Parameters, model: Model) -> None:
    """Raises `InvalidField` for parameters that mean nothing for a model's task."""
    wrong = [
        FieldProblem(f"/parameters/{name}", f"This is for {_TASKS[task]}; {model.name} does {_TASKS[model.task]}.")
        for name, task in _OF_A_TASK.items()
        if task != model.task and getattr(parameters, name) is not None
    ]
    if wrong:
        raise InvalidField(wrong[0].pointer, wrong[0].detail, *wrong[1:])


def _answer(call: Call, job: _Job, logits: Sequence[Logits]) -> Answer:
    with call.stage("decode"):
        predictions = decode(job.model, logits, job.encoded, tokens=True)
    with call.stage("serialise"):
        cut = b"true" if any(source.truncated for source in job.encoded) else b"false"
        return Answer([dumps(_results(job, logits, predictions))], headers=[(TRUNCATED, cut)])


def _results(job: _Job, logits: Sequence[Logits], predictions: Sequence[Prediction]) -> list[_Results] | _Results:
    """One result for each input; a tagger's alone where one text came."""
    if job.model.task == "ner":
        entities = [
            _entities(prediction, source.text, job) for prediction, source in zip(predictions, job.encoded, strict=True)
        ]
        return entities[0] if isinstance(job.request.inputs, str) else entities
    labels = job.model.bundle.manifest.labels
    return [
        _classes(prediction, row, job.parameters, labels) for prediction, row in zip(predictions, logits, strict=True)
    ]


def _classes(prediction: Prediction, logits: Logits, parameters: Parameters, labels: Sequence[str]) -> _Results:
    """Labels with scores, the best first."""
    scores: Any = prediction["scores"]
    if parameters.function_to_apply in ("sigmoid", "none"):
        apply = _SCORES[parameters.function_to_apply]
        scores = dict(zip(labels, apply(logits.astype(np.float64)).tolist(), strict=True))
    best = sorted(scores.items(), key=lambda item: -item[1])
    return [{"label": label, "score": score} for label, score in best[: parameters.top_k]]


_SCORES: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda logits: 0.5 * (1 + np.tanh(0.5 * logits)),  # never overflows
    "none": lambda logits: logits,
}


def _entities(prediction: Prediction, text: str, job: _Job) -> _Results:
    """Tokens or groups of them, without those that are to be ignored."""
    tokens: Any = prediction["tokens"]
    asked = job.parameters.ignore_labels
    ignored = {OUTSIDE} if asked is None else set(asked)
    if job.parameters.aggregation_strategy == "none":
        results = [
            {
                "entity": token["label"],
                "score": token["score"],
                "word": token["text"],
                "start": token["start"],
                "end": token["end"],
            }
            for token in tokens
        ]
    else:
        results = [_group(group, text) for group in _grouped(tokens)]
    return [result for result in results if result.get("entity", result.get("entity_group")) not in ignored]


def _grouped(tokens: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Tokens in runs of one kind; B- begins a new one."""
    groups: list[list[dict[str, Any]]] = []
    for token in tokens:
        label: str = token["label"]
        if groups and not label.startswith("B-") and _kind(label) == _kind(groups[-1][-1]["label"]):
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def _group(tokens: Sequence[dict[str, Any]], text: str) -> dict[str, object]:
    start, end = tokens[0]["start"], tokens[-1]["end"]
    return {
        "entity_group": _kind(tokens[0]["label"]),
        "score": fmean(token["score"] for token in tokens),
        "word": text[start:end],
        "start": start,
        "end": end,
    }


def _kind(label: str) -> str:
    return label if label == OUTSIDE else label[2:]
