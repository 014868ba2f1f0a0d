"""The bodies and answers of versions, canaries, shadows and feedback."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.http.schemas.examples import REQUEST_ID
from service.http.schemas.responses import Probability, ServedVersion, Shape
from service.rollout import MAX_VERSION

MAX_ENTITIES = 4096
"""Entities in the feedback on one input."""

_Text = Annotated[str, Field(min_length=1, max_length=256)]
_Number = Annotated[int, Field(ge=1, le=MAX_VERSION)]
_Digits = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
_Place = Annotated[int, Field(ge=0)]


class FeedbackEntity(BaseModel):
    """An entity that is right. What else stands in one of the answer's entities is passed over."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    label: _Text = Field(description="The kind of entity, such as PER.")
    start: _Place = Field(description="Where it begins in the text as it was sent, in Unicode code points.")
    end: _Place = Field(description="Where it ends, exclusive.")


class FeedbackRequest(BaseModel):
    """What the right answer to an input was: `label` for a classifier, `entities` for a tagger."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    request_id: _Text = Field(description="The `X-Request-ID` of the answer; among the last 10,000 of the service.")
    input: int = Field(0, ge=0, description="The number of the input in that request.")
    label: _Text | None = Field(None, description="The right label, one that the model has.")
    entities: Annotated[list[FeedbackEntity], Field(max_length=MAX_ENTITIES)] | None = Field(
        None, description="All entities that are right, side by side; an empty list says that there are none."
    )

    def spans(self) -> list[tuple[int, int, str]] | None:
        """The entities as `Feedback.take` wants them."""
        if self.entities is None:
            return None
        return [(each.start, each.end, each.label) for each in self.entities]


class FeedbackTaken(Shape):
    """Feedback that was taken."""

    request_id: str = Field(description="The request that it is on.")
    input: int = Field(description="The number of the input.")
    outcome: Literal["right", "wrong", "repeated", "unscored"] = Field(
        description="Whether the answer was right. `repeated`: the input had feedback before, which counts. "
        "`unscored`: the answer has made room for newer ones."
    )
    model: str | None = Field(description="The model that answered; null where that is not known any more.")
    version: str | None = Field(description="Its version.")


class RolledOut(Shape):
    """The versions of a model, as they are served from now on, in every worker."""

    name: str = Field(description="The model's name.")
    versions: list[ServedVersion] = Field(description="Its versions, ascending.")


class ShadowChoice(BaseModel):
    """A version that is to be shadow, and for which share of the requests."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: _Number | _Digits = Field(description="The version.")
    share: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="The share of the requests that it runs.")


class RolloutRequest(BaseModel):
    """How a model's versions are to be served. What is left out stays as it is; null goes back to none."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    versions: _Text | None = Field(
        None, description="Those that are served side by side: `latest:2`, `all` or `1+3`; null: the highest alone."
    )
    canary: dict[_Digits, Probability] | None = Field(
        None, description="By version, its share of the requests that name none; at most 1 together."
    )
    shadow: ShadowChoice | None = Field(None, description="The version that runs again what was answered.")


class Flip(Shape):
    """Labels that differ."""

    from_: str = Field(alias="from", description="What was answered; `O` for no entity.")
    to: str = Field(description="What the shadow says.")
    count: int = Field(ge=0, description="How often.")


class Disagreement(Shape):
    """An input that the two versions answer differently."""

    time: float = Field(description="When it was answered, in seconds since 1970.")
    request_id: str = Field(description="Its request.")
    input: int = Field(ge=0, description="Its number there.")
    served: dict[str, Any] = Field(description="What was answered: label and score, or entities.")
    shadow: dict[str, Any] = Field(description="What the shadow says.")
    text: str | None = Field(None, description="The text, where the settings have texts logged.")


class ShadowReport(Shape):
    """How a shadow does beside the version that is served, over all workers, since the start."""

    model: str = Field(description="The model.")
    served: str = Field(description="The version that answers.")
    shadow: str = Field(description="The version that runs again what was answered.")
    share: Probability = Field(description="The share of the requests that it runs.")
    requests: int = Field(ge=0, description="Requests that it ran.")
    dropped: int = Field(ge=0, description="Requests that it did not: the service was busy, or it cannot read them.")
    inputs: int = Field(ge=0, description="Inputs of the requests that it ran.")
    agreement: Probability | None = Field(description="The share of the inputs that both answer alike.")
    mean_score_change: float | None = Field(
        description="The mean of the shadow's score of what was answered, less the score that was answered."
    )
    latency_ratio: float | None = Field(description="The shadow's time for a run, divided by the served version's.")
    gate_drift: float | None = Field(
        description="How far the shadow's gates are from the served version's: the largest population stability index."
    )
    flips: list[Flip] = Field(description="Labels that differ, by direction.")
    disagreements: list[Disagreement] = Field(description="The last few, newest first.")


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
