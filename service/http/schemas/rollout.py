"""The bodies and answers of versions, canaries, shadows and feedback."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.http.schemas.base import Lenient, Shape, Strict, one_of
from service.http.schemas.examples import REQUEST_ID
from service.http.schemas.responses import Probability, ServedVersion
from service.rollout import MAX_VERSION

MAX_ENTITIES = 4096
"""Limit on the entities in the feedback on one input."""

_Text = Annotated[str, Field(min_length=1, max_length=256)]
_Number = Annotated[int, Field(ge=1, le=MAX_VERSION)]
_Digits = Annotated[str, Field(pattern=rf"^([1-9][0-9]{{0,8}}|{MAX_VERSION})$")]
_Place = Annotated[int, Field(ge=0)]


class FeedbackEntity(Lenient):
    """A right entity. Other members of an answer's entity are ignored."""

    label: _Text = Field(description="The kind of entity, such as PER.")
    start: _Place = Field(description="Its start in the text as sent, in Unicode code points.")
    end: _Place = Field(description="Its end, exclusive.")


class FeedbackRequest(Strict):
    """The right answer to an input: `label` for a classifier, `entities` for a tagger."""

    request_id: _Text = Field(description="The `X-Request-ID` of the answer, one of the service's last 10,000.")
    input: int = Field(0, ge=0, description="The number of the input in that request.")
    label: _Text | None = Field(None, description="The right label, one of the model's.")
    entities: Annotated[list[FeedbackEntity], Field(max_length=MAX_ENTITIES)] | None = Field(
        None, description="All right entities, without overlap; an empty list means that there are none."
    )

    def spans(self) -> list[tuple[int, int, str]] | None:
        """The entities in the form of `Feedback.take`."""
        if self.entities is None:
            return None
        return [(each.start, each.end, each.label) for each in self.entities]


class FeedbackTaken(Shape):
    """Accepted feedback."""

    request_id: str = Field(description="The request of the answer.")
    input: int = Field(description="The number of the input.")
    outcome: Literal["right", "wrong", "repeated", "unscored"] = Field(
        description="Whether the answer was right. `repeated`: the input has had feedback already, which counts. "
        "`unscored`: the answer's details are no longer known, or its version's folder has other content by now."
    )
    model: str | None = Field(description="The model that answered; null if no longer known.")
    version: str | None = Field(description="Its version.")


class RolledOut(Shape):
    """The served versions of a model in every worker, from now on."""

    name: str = Field(description="The model's name.")
    versions: list[ServedVersion] = Field(description="Its versions, ascending.")


class ShadowChoice(Strict):
    """The shadow version, and its share of the requests."""

    version: Annotated[_Number | _Digits, one_of(f"a version, from 1 to {MAX_VERSION}")] = Field(
        description="The version."
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Its share of the requests.")


class RolloutRequest(Strict):
    """The versions of a model to serve. A missing field stays as it is; null resets it."""

    versions: _Text | None = Field(
        None, description="The versions served side by side: `latest:2`, `all` or `1+3`; null: only the highest."
    )
    canary: dict[_Digits, Probability] | None = Field(
        None, description="By version, its share of the requests without a version; at most 1 in total."
    )
    shadow: ShadowChoice | None = Field(None, description="The version that runs answered requests again.")


class Flip(Shape):
    """Two labels that differ."""

    from_: str = Field(alias="from", description="The served label; `O` for no entity.")
    to: str = Field(description="The shadow's label.")
    count: int = Field(ge=0, description="How often.")


class Disagreement(Shape):
    """An input with different answers of the two versions."""

    time: float = Field(description="The time of the answer, in seconds since 1970.")
    request_id: str = Field(description="Its request.")
    input: int = Field(ge=0, description="Its number in the request.")
    served: dict[str, Any] = Field(description="The served answer: label and score, or entities.")
    shadow: dict[str, Any] = Field(description="The shadow's answer.")
    text: str | None = Field(None, description="The text; only if the settings allow texts in the log.")


class ShadowReport(Shape):
    """The comparison of a shadow with the served version, over all workers, since the start. It begins anew when the
    folder of one of the two gets other content."""

    model: str = Field(description="The model.")
    served: str = Field(description="The version that answers.")
    shadow: str = Field(description="The version that runs answered requests again.")
    share: Probability = Field(description="Its share of the requests.")
    requests: int = Field(ge=0, description="Requests run by the shadow.")
    dropped: int = Field(ge=0, description="Requests not run: the service was busy, or the shadow cannot read them.")
    inputs: int = Field(ge=0, description="Inputs of the requests run by the shadow.")
    agreement: Probability | None = Field(description="The share of inputs with the same answer from both.")
    mean_score_change: float | None = Field(
        description="The mean of the shadow's score for the served answer, minus the served score."
    )
    latency_ratio: float | None = Field(description="The shadow's run time divided by the served version's.")
    gate_drift: float | None = Field(
        description="The distance between the gates of shadow and served version: the largest population stability "
        "index."
    )
    flips: list[Flip] = Field(description="The labels that differ, by direction.")
    disagreements: list[Disagreement] = Field(description="The last few disagreements, newest first.")


VERSION: dict[str, object] = {
    "version": "3",
    "state": "ready",
    "share": 0.9,
    "shadow": False,
    "shadow_share": 0.0,
    "stable": True,
    "reason": None,
}
CANARY: dict[str, object] = {**VERSION, "version": "4", "share": 0.1, "stable": False}
ROLLED_OUT: dict[str, object] = {"name": "sentiment-bilstm", "versions": [VERSION, CANARY]}
ROLLOUT_REQUESTS: dict[str, object] = {
    "a canary": {"canary": {"4": 0.1}},
    "a shadow": {"shadow": {"version": 4, "share": 0.25}},
    "two versions side by side": {"versions": "latest:2"},
    "no canary": {"canary": None},
}
FEEDBACK_REQUESTS: dict[str, object] = {
    "a label": {"request_id": REQUEST_ID, "input": 0, "label": "positive"},
    "entities": {"request_id": REQUEST_ID, "input": 0, "entities": [{"label": "PER", "start": 0, "end": 12}]},
}
FEEDBACK_TAKEN: dict[str, object] = {
    "request_id": REQUEST_ID,
    "input": 0,
    "outcome": "right",
    "model": "sentiment-bilstm",
    "version": "3",
}
SHADOW_REPORT: dict[str, object] = {
    "model": "sentiment-bilstm",
    "served": "3",
    "shadow": "4",
    "share": 1.0,
    "requests": 120,
    "dropped": 2,
    "inputs": 480,
    "agreement": 0.9979,
    "mean_score_change": 0.004,
    "latency_ratio": 1.08,
    "gate_drift": 0.02,
    "flips": [{"from": "negative", "to": "positive", "count": 1}],
    "disagreements": [
        {
            "time": 1_767_225_600.25,
            "request_id": REQUEST_ID,
            "input": 3,
            "served": {"label": "negative", "score": 0.52},
            "shadow": {"label": "positive", "score": 0.61},
        }
    ],
}
