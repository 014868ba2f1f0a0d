"""`POST /models/{name}`: requests and answers of Hugging Face's inference clients, by their published task
specifications.

A string gets one result, a list one result for each input. Labels and scores are those of `/predict` in another shape.
Every token is a word, so the strategies that differ only in how they join the pieces of a word (first, average, max)
give the same results as `simple`.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Any, Literal, get_args

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import Field

from service.errors import FieldProblem, InvalidField
from service.http.context import Here
from service.http.described import of_a_model
from service.http.endpoint import Answer, Job, JobRoute, Outcome, PathModel
from service.http.render import dumps
from service.http.schemas.base import Lenient, Shape, one_of
from service.http.schemas.examples import json_body
from service.http.schemas.requests import InputsRequest
from service.http.schemas.responses import Probability
from service.model.activations import sigmoid
from service.model.bundle import Task
from service.model.decoding import OUTSIDE, Prediction
from service.model.joining import Logits
from service.serving.registry import Model

TRUNCATED = b"x-truncated"
"""The header that is true if an input was truncated. The protocol's answers have no field for it."""

_Results = list[dict[str, object]]
_TASKS: dict[Task, str] = {"sentiment": "text classification", "ner": "token classification"}
Truncation = Literal["longest_first", "only_first", "only_second", "do_not_truncate"]


class Parameters(Lenient):
    """Parameters of the two tasks. Null means the default, and unknown parameters are ignored. An empty `ignore_labels`
    ignores none."""

    top_k: int | None = Field(
        None, ge=1, description="Text classification: the number of labels, most probable first; all by default."
    )
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="Text classification: the function from logits to scores; softmax by default."
    )
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        None,
        description='Token classification: "none" gives every token. All others give entities, with the mean of their '
        'tokens\' scores; "simple" by default.',
    )
    ignore_labels: list[str] | None = Field(
        None, description='Token classification: labels, or kinds of entities, to leave out; ["O"] by default.'
    )
    stride: int | None = Field(
        None,
        ge=0,
        description="Token classification: accepted without effect, because a text is read sentence by sentence.",
    )
    truncation: (
        Annotated[bool | Truncation, one_of(f"true, false, or one of {', '.join(get_args(Truncation))}")] | None
    ) = Field(
        None,
        description='Keep the head of a text over the token limit: true, or any strategy except "do_not_truncate".',
    )


_OF_A_TASK: dict[str, Task] = {
    "top_k": "sentiment",
    "function_to_apply": "sentiment",
    "aggregation_strategy": "ner",
    "ignore_labels": "ner",
    "stride": "ner",
}


class Options(Lenient):
    """Options of the hosted service, accepted without effect: nothing is cached, and the model is loaded."""

    use_cache: bool | None = Field(None, description="Without effect: nothing is cached.")
    wait_for_model: bool | None = Field(None, description="Without effect: the model is loaded.")


class HuggingFaceRequest(InputsRequest, Lenient):
    """Inputs and parameters of Hugging Face's clients. An input may also be a list of tokens."""

    parameters: Parameters | None = Field(None, description="How to answer.")
    options: Options | None = Field(None, description="Accepted for clients that send them.")

    @property
    def chosen(self) -> Parameters:
        """The parameters, with their defaults if none were sent."""
        return self.parameters or Parameters.model_construct()


class HuggingFaceLabel(Shape):
    """A label for a text."""

    label: str = Field(description="The label.")
    score: float = Field(description="Its probability, or the result of `function_to_apply`.")


class _Words(Shape):
    score: Probability = Field(description="The probability of the label; for a group the mean over its tokens.")
    word: str = Field(description="The slice of the text as sent.")
    start: int = Field(ge=0, description="Its start in the text, in Unicode code points.")
    end: int = Field(ge=0, description="Its end, exclusive.")


class HuggingFaceToken(_Words):
    """A token with its label; the answer with the strategy `none`."""

    entity: str = Field(description="The label, such as B-PER.")


class HuggingFaceGroup(_Words):
    """Tokens of one entity; the answer with any other strategy."""

    entity_group: str = Field(description="The kind of entity, such as PER.")


_REQUESTS: dict[str, object] = {
    "one text": {"inputs": "A warm, funny and wise film.", "parameters": {"top_k": 1}},
    "many": {"inputs": ["A great film.", "A dull one."], "parameters": {"function_to_apply": "sigmoid"}},
    "entities": {"inputs": "Ada Lovelace lived in London.", "parameters": {"aggregation_strategy": "simple"}},
}
_ANSWERS: dict[str, object] = {
    "labels": [[{"label": "positive", "score": 0.98}, {"label": "negative", "score": 0.02}]],
    "entities": [{"entity_group": "PER", "score": 0.98, "word": "Ada Lovelace", "start": 0, "end": 12}],
    "tokens": [{"entity": "B-PER", "score": 0.99, "word": "Ada", "start": 0, "end": 3}],
}
router = APIRouter(route_class=JobRoute)

_Group = HuggingFaceToken | HuggingFaceGroup
_Asked = Annotated[HuggingFaceRequest, json_body(_REQUESTS)]
_TRUNCATED = {
    "description": "`true` if an input was over the token limit and lost its tail, else `false`.",
    "required": True,
    "schema": {"type": "string", "enum": ["true", "false"]},
}


@of_a_model(
    router.post,
    "/models/{name}",
    "huggingFace",
    "Predictions in the form of Hugging Face's inference API",
    response_model=list[list[HuggingFaceLabel] | list[_Group] | _Group],
    examples=_ANSWERS,
    headers={"X-Truncated": _TRUNCATED},
)
def infer(model: PathModel, asked: _Asked, context: Here) -> Job[HuggingFaceRequest]:
    _check_task(asked.chosen, model)
    truncate = asked.chosen.truncation not in (None, False, "do_not_truncate")
    return Job(asked, model, asked.items(), _answer, asked.pointer, truncate=truncate, tokens=True)


def _check_task(parameters: Parameters, model: Model) -> None:
    """Raises `InvalidField` for parameters of another task."""
    wrong = [
        FieldProblem(f"/parameters/{name}", f"This is for {_TASKS[task]}; {model.name} does {_TASKS[model.task]}.")
        for name, task in _OF_A_TASK.items()
        if task != model.task and getattr(parameters, name) not in (None, [])
    ]
    if wrong:
        raise InvalidField(wrong[0].pointer, wrong[0].detail, *wrong[1:])


def _answer(job: Job[Any], outcome: Outcome) -> Answer:
    cut = b"true" if any(source.truncated for source in outcome.encoded) else b"false"
    return Answer([dumps(_results(job, outcome))], headers=[(TRUNCATED, cut)])


def _results(job: Job[Any], outcome: Outcome) -> list[_Results] | _Results:
    """One result for each input; a tagger's result alone if the request has one text."""
    request: HuggingFaceRequest = job.request
    if job.model.task == "ner":
        entities = [
            _entities(prediction, source.text, request.chosen)
            for prediction, source in zip(outcome.predictions, outcome.encoded, strict=True)
        ]
        return entities[0] if isinstance(request.inputs, str) else entities
    labels = job.model.bundle.manifest.labels
    return [
        _classes(prediction, row, request.chosen, labels)
        for prediction, row in zip(outcome.predictions, outcome.logits, strict=True)
    ]


def _classes(prediction: Prediction, logits: Logits, parameters: Parameters, labels: Sequence[str]) -> _Results:
    """Labels with scores, the best first."""
    scores: Any = prediction["scores"]
    if parameters.function_to_apply in ("sigmoid", "none"):
        found: NDArray[np.float64] = logits.astype(np.float64)
        if parameters.function_to_apply == "sigmoid":
            found = sigmoid(found)
        scores = dict(zip(labels, found.tolist(), strict=True))
    best = sorted(scores.items(), key=lambda item: -item[1])
    return [{"label": label, "score": score} for label, score in best[: parameters.top_k]]


def _entities(prediction: Prediction, text: str, parameters: Parameters) -> _Results:
    """Tokens or groups of tokens, without the labels to ignore."""
    tokens: Any = prediction["tokens"]
    asked = parameters.ignore_labels
    ignored = {OUTSIDE} if asked is None else set(asked)
    if parameters.aggregation_strategy == "none":
        found = [("entity", token["label"], [token]) for token in tokens]
    else:
        found = [("entity_group", _kind(group[0]["label"]), group) for group in _grouped(tokens)]
    return [
        {
            name: label,
            "score": fmean(token["score"] for token in group),
            "word": text[group[0]["start"] : group[-1]["end"]],
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }
        for name, label, group in found
        if label not in ignored
    ]


def _grouped(tokens: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of tokens of one kind. B- begins a new one."""
    groups: list[list[dict[str, Any]]] = []
    for token in tokens:
        label: str = token["label"]
        if groups and not label.startswith("B-") and _kind(label) == _kind(groups[-1][-1]["label"]):
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def _kind(label: str) -> str:
    return label if label == OUTSIDE else label[2:]
