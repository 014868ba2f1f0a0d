"""Versions in service: reports on shadows, feedback, and changes of the served versions if the setting `admin` is
true."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from types import MappingProxyType
from typing import Annotated

from fastapi import APIRouter
from starlette.responses import Response

from service.errors import AnswerNotFound, BundleRefused, InvalidField, NoShadow
from service.http.context import Here, Running
from service.http.described import described
from service.http.endpoint import BodyRoute
from service.http.render import json_response
from service.http.schemas import rollout as schemas
from service.http.schemas.examples import json_body
from service.http.schemas.rollout import FeedbackRequest, RolloutRequest
from service.rollout import NEWEST, Plan, conflict, read_rule

FEEDBACK_BYTES = 256 * 1024
"""Limit on the body of feedback."""


class _FeedbackRoute(BodyRoute):
    max_body = FEEDBACK_BYTES


class _RolloutRoute(BodyRoute):
    max_body = 4096
    timed = False  # loading continues after its caller has gone


reports = APIRouter()
feedback = APIRouter(route_class=_FeedbackRoute)
admin = APIRouter(route_class=_RolloutRoute)


@reports.get(
    "/models/{name}/shadow",
    response_model=schemas.ShadowReport,
    **described(
        "shadow",
        "The comparison of a model's shadow with the served version",
        NoShadow,
        examples={"report": schemas.SHADOW_REPORT},
    ),
)
async def shadow(name: str, runtime: Running) -> Response:
    return json_response(runtime.after.shadowing.report(runtime.registry.find(name)))


@feedback.post(
    "/feedback",
    status_code=202,
    response_model=schemas.FeedbackTaken,
    **described(
        "feedback",
        "Send the right answer to an input",
        AnswerNotFound,
        examples={"taken": schemas.FEEDBACK_TAKEN},
        status=202,
    ),
)
async def take(asked: Annotated[FeedbackRequest, json_body(schemas.FEEDBACK_REQUESTS)], context: Here) -> Response:
    after = context.runtime.after
    taken = after.take_feedback(context.request_id, asked.request_id, asked.input, asked.label, asked.spans())
    context.log.update(outcome=taken.outcome)
    if taken.model is not None:
        context.log.update(model=taken.model, version=taken.version)
    return json_response({"request_id": asked.request_id, "input": asked.input, **asdict(taken)}, status=202)


@admin.post(
    "/admin/models/{name}/rollout",
    response_model=schemas.RolledOut,
    **described(
        "rollout",
        "Choose the served versions, their shares, and the shadow. Every worker follows",
        BundleRefused,
        examples={"rolled out": schemas.ROLLED_OUT},
    ),
)
async def roll_out(
    name: str,
    asked: Annotated[RolloutRequest, json_body(schemas.ROLLOUT_REQUESTS)],
    context: Here,
) -> Response:
    """If a version cannot be served, or does not fit the stable one, nothing changes. A canary with a share of 0 stays
    loaded. A version that is dropped from the plan counts as latest again."""
    runtime = context.runtime
    await runtime.change(name, partial(_changed, asked))
    context.log.update(model=name)
    return json_response({"name": name, "versions": runtime.registry.snapshot.states(name)})


def _changed(asked: RolloutRequest, plan: Plan) -> Plan:
    """A plan with the fields that were sent. Raises `InvalidField`."""
    if "versions" in asked.model_fields_set:
        try:
            plan = replace(plan, rule=NEWEST if asked.versions is None else read_rule(asked.versions))
        except ValueError as error:
            raise InvalidField("/versions", f"{error}.") from None
    if "canary" in asked.model_fields_set:
        shares = {int(version): float(share) for version, share in (asked.canary or {}).items()}
        plan = replace(plan, canary=MappingProxyType(shares))
    if "shadow" in asked.model_fields_set:
        plan = replace(plan, shadow=None if asked.shadow is None else (int(asked.shadow.version), asked.shadow.share))
    if problem := conflict(plan):
        # one of the two may come from an earlier change, and is no part of this request
        sent = "/canary" if "canary" in asked.model_fields_set else "/shadow"
        raise InvalidField(sent, f"{problem[0].upper()}{problem[1:]}.")
    return plan
