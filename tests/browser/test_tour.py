"""The tour: each step is a view with a link, what it says of the answers is so, and it can be left and come back to."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.browser.conftest import Visit, Visiting
from tests.integration.conftest import Process

STEPS = 10


def test_every_step_shows_what_it_is_about(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    page = visit.open()
    page.click("#tour-start")
    for step in range(1, STEPS + 1):
        visit.ready()
        assert page.inner_text("#tour h2").startswith(f"{step}. ")
        assert page.locator("#gates canvas").count() >= 1, step
        assert page.locator(".problem").count() == 0, step
        if step == 5:
            assert "forget = 0: all units" in page.inner_text("#changes .changes")
            assert page.locator("#map-forget-difference").count() == 1
        elif step == 8:
            assert page.locator("#map-hidden-backward").count() == 1
        assert page.locator(".ask:visible .verdict").count() == (2 if step in (5, 9, 10) else 1), step
        assert page.is_visible("#tour [data-term=answers]") == (step in (9, 10)), step
        if step < STEPS:
            page.click("#tour button:has-text('Next')")
    assert page.is_disabled("#tour button:has-text('Next')")
    visit.picture("tour")


def answering(visiting: Visiting, service: Process, labels: dict[str, str]) -> Visit:
    """A visit in which sentences are answered as the test says: the label by a part of the request."""
    visit = visiting(service)

    def answer(route: Any) -> None:
        response = route.fetch()
        sent = route.request.post_data
        label = next((label for part, label in labels.items() if part in sent), None)
        body = response.body()
        if label is not None and response.headers["content-type"] == "application/vnd.safetensors":
            body = labelled(body, label)
        route.fulfill(response=response, body=body)

    visit.page.route("**/gates", answer)
    return visit


def labelled(body: bytes, label: str) -> bytes:
    """A binary answer of /gates whose prediction is `label`, with 75 %."""
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    answer = json.loads(header["__metadata__"]["response"])
    other = {"positive": "negative", "negative": "positive"}[label]
    answer["traces"][0]["prediction"] |= {"label": label, "score": 0.75, "scores": {label: 0.75, other: 0.25}}
    header["__metadata__"]["response"] = json.dumps(answer)
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(8, "little") + written + body[8 + length :]


@pytest.mark.parametrize(("label", "word"), [("negative", "works"), ("positive", "fails")])
def test_a_negation_is_judged_by_its_answer(visiting: Visiting, service: Process, label: str, word: str) -> None:
    visit = answering(visiting, service, {"is not good": label, "is good": "positive"})
    page = visit.open("#tour=8")
    page.click("#tour button:has-text('Next')")
    visit.ready()
    assert page.inner_text("#tour h2") == f"9. A negation that {word}"
    told = page.inner_text("#tour [data-term=answers]")
    assert "“The film is good.”: sentiment-lstm says positive (75.0 %)" in told
    assert f"“The film is not good.”: sentiment-lstm says {label} (75.0 %)" in told
    assert ("did not turn" in told) == (word == "fails")


@pytest.mark.parametrize(
    ("one", "other", "word"),
    [("negative", "positive", "fails"), ("positive", "negative", "fails"), ("positive", "positive", "works")],
)
def test_two_negatives_are_judged_by_their_answers(
    visiting: Visiting, service: Process, one: str, other: str, word: str
) -> None:
    visit = answering(visiting, service, {'"sentiment-lstm"': one, '"sentiment-bilstm"': other})
    page = visit.open("#tour=9")
    page.click("#tour button:has-text('Next')")
    visit.ready()
    assert page.inner_text("#tour h2") == f"10. A negation that {word}"
    told = page.inner_text("#tour [data-term=answers]")
    ends = {"positive": "as a reader would", "negative": "and is deceived"}
    assert f"sentiment-lstm says {one} (75.0 %), {ends[one]}" in told
    assert f"sentiment-bilstm says {other} (75.0 %), {ends[other]}" in told


def test_another_text_is_not_what_a_step_speaks_of(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    page = visit.open("#tour=8")
    page.click("#tour button:has-text('Next')")
    visit.ready()
    visit.type("Something else.")
    assert page.inner_text("#tour h2") == "9. One negation"
    assert not page.is_visible("#tour [data-term=answers]")


def test_a_service_without_its_models_has_no_tour(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    listed = visit.api.get("/models").json()
    listed["models"] = [each for each in listed["models"] if each["name"] != "sentiment-peephole"]
    visit.page.route("**/models", lambda route: route.fulfill(json=listed))
    page = visit.open()
    assert not page.is_visible("#tour")
    assert page.locator("#gates canvas").count() >= 1


def test_a_link_comes_back_to_a_step_and_the_tour_can_be_left(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    page = visit.open()
    page.click("#tour-start")
    page.click("#tour button:has-text('Next')")
    page.click("#tour button:has-text('Next')")
    visit.ready()
    visit.until(lambda: re.search("tour=3", page.url))
    title = page.inner_text("#tour h2")
    other = visit.open(page.url.partition("/#")[2].join(["#", ""]))
    assert other.inner_text("#tour h2") == title
    assert other.input_value("#model-a") == "sentiment-lstm"
    other.click("#tour button:has-text('Leave')")
    other.wait_for_selector("#tour-start")
    assert other.input_value("#model-a") == "sentiment-lstm"  # what was looked at stays
