"""`/docs`: a page for the API document, within the policy of the explorer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.conftest import Visit, Visiting
from tests.integration.conftest import Process


def _shown(page: Any) -> set[tuple[str, str]]:
    """Method and path of every route on the page."""
    page.wait_for_selector(".opblock-summary-path")
    blocks = page.locator(".opblock-summary").all()
    return {
        (
            block.locator(".opblock-summary-method").inner_text().lower(),
            block.locator(".opblock-summary-path").get_attribute("data-path"),
        )
        for block in blocks
    }


def _routes(visit: Visit) -> set[tuple[str, str]]:
    paths = visit.api.get("/openapi.json").raise_for_status().json()["paths"]
    return {(method, path) for path, operations in paths.items() for method in operations}


def test_the_explorer_leads_to_every_route(visit: Visit) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    page = visit.open()
    page.click("footer a:text-is('API')")
    assert _shown(page) == _routes(visit)
    assert all(url.startswith((visit.url, "data:")) for url in asked)
    policy = visit.api.get("/docs").headers["content-security-policy"]
    assert policy == visit.api.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    visit.picture("docs")


def test_a_route_can_be_tried(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.url}/docs")
    block = page.locator(".opblock", has=page.locator("[data-path='/predict']"))
    block.locator(".opblock-summary-control").click()
    block.locator("button:has-text('Try it out')").click()
    block.locator("textarea").fill(json.dumps({"inputs": "A wonderful film."}))
    with page.expect_response("**/predict") as answered:
        block.locator("button.execute").click()
    assert answered.value.status == 200
    block.locator(".live-responses-table :text('positive')").first.wait_for()


def test_keys_work_as_in_the_explorer(visiting: Visiting, start: Any) -> None:
    key = "a-key-for-people-in-browsers"
    process: Process = start(SERVICE_API_KEYS=key).until_ready()
    stranger = visiting(process)
    with pytest.raises(Exception, match="ERR_INVALID_AUTH_CREDENTIALS"):  # nobody is there to ask for a password
        stranger.page.goto(f"{stranger.url}/docs")
    visit = visiting(process, http_credentials={"username": "me", "password": key})
    visit.api.headers["Authorization"] = f"Bearer {key}"
    for each in (stranger, visit):
        each.expected = ("status of 401",)
    visit.page.goto(f"{visit.url}/docs")
    assert _shown(visit.page) == _routes(visit)
    assert key not in visit.page.content()


def test_a_key_is_asked_for_where_the_browser_has_none(visit: Visit) -> None:
    visit.expected = ("status of 401",)
    page = visit.page
    sent: list[str | None] = []

    def answer(route: Any) -> None:
        sent.append(route.request.headers.get("authorization"))
        if sent[-1] is None:
            route.fulfill(status=401, json={"detail": "Send an API key."})
        else:
            route.continue_()

    page.route("**/openapi.json", answer)
    page.goto(f"{visit.url}/docs")
    page.fill("#key", "a-key")
    page.click(".key-form button")
    assert ("post", "/predict") in _shown(page)
    assert sent == [None, "Bearer a-key"]


def test_an_address_with_a_slash_is_the_same_page(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.url}/docs/#/default/predict")
    assert _shown(page) == _routes(visit)
    assert page.url == f"{visit.url}/docs#/default/predict"
    assert page.get_attribute("header a", "href") == "./"
