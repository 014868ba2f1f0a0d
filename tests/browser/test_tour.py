"""The tour: each step is a view with a link, what it says of the answers is so, and it can be left and come back to."""

from __future__ import annotations

import re

from tests.browser.conftest import Visit, Visiting
from tests.integration.conftest import Process

STEPS = 10


def test_every_step_shows_what_it_is_about(visit: Visit) -> None:
    page = visit.open()
    page.click("#tour-start")
    for step in range(1, STEPS + 1):
        visit.ready()
        assert page.inner_text("#tour h2").startswith(f"{step}. ")
        assert page.locator("#gates canvas").count() >= 1, step
        assert page.locator(".problem").count() == 0, step
        answers = [each.lower() for each in page.locator(".ask:visible .verdict").all_inner_texts()]
        if step == 5:
            assert "forget = 0: all units" in page.inner_text("#changes .changes")
            assert page.locator("#map-forget-difference").count() == 1
        elif step == 8:
            assert page.locator("#map-hidden-backward").count() == 1
        elif step == 9:
            assert answers == ["positive", "negative"]
        elif step == 10:
            assert answers == ["negative", "positive"]
        else:
            assert len(answers) == 1
        if step < STEPS:
            page.click("#tour button:has-text('Next')")
    assert page.is_disabled("#tour button:has-text('Next')")
    visit.picture("tour")


def test_a_service_without_its_models_has_no_tour(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    listed = visit.api.get("/models").json()
    listed["models"] = [each for each in listed["models"] if each["name"] != "sentiment-peephole"]
    visit.page.route("**/models", lambda route: route.fulfill(json=listed))
    page = visit.open()
    assert not page.is_visible("#tour")
    assert page.locator("#gates canvas").count() >= 1


def test_a_link_comes_back_to_a_step_and_the_tour_can_be_left(visit: Visit) -> None:
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
