"""The page tries again by itself: after a restart, overload, no network, and when models go or change."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import free_port
from tests.browser.conftest import Visit, Visiting
from tests.integration.conftest import Process
from tests.integration.models import write_model

TEXT = "a very good film"
OVERLOAD = {"status": 503, "content_type": "application/problem+json", "body": json.dumps({"detail": "Full."})}


def test_a_restarted_service_is_found_again(visiting: Visiting, start: Any) -> None:
    port = str(free_port())
    process = start("--port", port).until_ready()
    visit = visiting(process)
    visit.expected = ("Failed to load resource",)
    page = visit.open(f"#text={TEXT}")
    process.close()
    page.fill("#text-a", "bad")
    page.wait_for_selector(".problem:has-text('does not answer')")
    page.wait_for_selector("#retry:has-text('Trying again in')")
    assert not page.is_visible("#take")
    start("--port", port).until_ready()
    page.wait_for_selector(".verdict")
    assert not page.is_visible("#retry")
    assert page.locator("#mattered .chip-text").all_inner_texts() == ["bad"]


def test_waits_grow_and_a_button_tries_now(visit: Visit) -> None:
    visit.expected = ("Failed to load resource",)
    page = visit.page
    page.clock.install()
    asked: list[str] = []

    def lose(route: Any) -> None:
        asked.append(route.request.url)
        route.abort()

    page.route("**/models", lose)
    page.goto(visit.url)
    page.wait_for_selector("#retry:has-text('Trying again in')")
    waits = []
    for tries in range(4):
        assert len(asked) == tries + 1
        page.clock.run_for(100)
        shown = page.inner_text("#retry span")
        waits.append(int(shown.split()[3]))
        page.clock.run_for(1000 * waits[-1] + 100)
        visit.until(lambda: len(asked) > len(waits))
        page.wait_for_selector("#retry:has-text('Trying again in')")
    assert waits == sorted(waits)
    assert waits[-1] >= 8
    page.unroute("**/models")
    page.click("#retry button")
    page.wait_for_selector(".verdict")
    assert not page.is_visible("#retry")


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_keeps_to_the_time_the_service_asks_for(visit: Visit, status: int) -> None:
    visit.expected = ("Failed to load resource",)
    page = visit.open(f"#text={TEXT}")
    times: list[float] = []

    def once(route: Any) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            route.fulfill(**{**OVERLOAD, "status": status}, headers={"Retry-After": "3"})
        else:
            route.continue_()

    page.route("**/gates", once)
    page.fill("#text-a", "a bad film")
    page.wait_for_selector("#retry:has-text('Trying again in 3 s.')")
    assert "Full." in page.inner_text(".problem")
    page.wait_for_selector(".verdict")
    assert times[1] - times[0] >= 2.9
    assert page.locator("#mattered .chip-text").all_inner_texts() == ["a", "bad", "film"]


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 200, "content_type": "text/html", "body": "<h1>Maintenance</h1>"},
        {"status": 502, "content_type": "text/html", "body": "<h1>Bad gateway</h1>"},
        {"status": 200, "content_type": "application/json", "body": '{"models": ['},
    ],
)
def test_what_a_proxy_answers_in_its_place_passes(visit: Visit, answer: dict[str, Any]) -> None:
    visit.expected = ("Failed to load resource",)
    page = visit.page
    asked: list[Any] = []

    def instead(route: Any) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.fulfill(**answer)  # the next waits until the test has seen what the page says
        elif len(asked) > 2:
            route.continue_()

    page.route("**/models", instead)
    page.goto(visit.url)
    page.wait_for_selector(".problem")
    visit.until(lambda: len(asked) > 1)
    asked[1].continue_()
    page.wait_for_selector(".verdict")


def test_an_error_that_stays_is_not_tried_again(visit: Visit) -> None:
    visit.expected = ("Failed to load resource",)
    page = visit.open(f"#text={TEXT}")
    page.route("**/gates", lambda route: route.fulfill(**{**OVERLOAD, "status": 422}))
    page.fill("#text-a", "a bad film")
    page.wait_for_selector(".problem:has-text('Full.')")
    assert not page.is_visible("#retry")


def test_the_page_comes_back_with_the_network(visit: Visit) -> None:
    visit.expected = ("Failed to load resource", "ERR_INTERNET_DISCONNECTED")
    page = visit.open(f"#text={TEXT}")
    page.clock.install()  # no timer is due: the network's return is what counts
    page.context.set_offline(True)
    page.fill("#text-a", "a bad film")
    page.clock.run_for(300)
    page.wait_for_selector(".problem:has-text('this device is offline')")
    page.context.set_offline(False)
    page.wait_for_selector(".verdict")
    assert not page.is_visible("#retry")


def test_one_of_two_that_are_compared_recovers(visit: Visit) -> None:
    visit.expected = ("Failed to load resource",)
    page = visit.open(f"#text={TEXT}&with=sentiment-bigru&and={TEXT}")
    page.wait_for_selector("#keeping .chart")
    asked: list[Any] = []

    def once(route: Any) -> None:
        if route.request.post_data_json["model"] != "sentiment-bigru":
            route.continue_()
            return
        asked.append(route)
        if len(asked) == 1:
            route.fulfill(**OVERLOAD)  # the next waits until the test has seen what the page says
        elif len(asked) > 2:
            route.continue_()

    page.route("**/gates", once)
    page.fill("#text-b", "not a good film")
    page.wait_for_selector("#retry:has-text('Trying again')")
    assert not page.is_visible("#gates")
    visit.until(lambda: len(asked) > 1)
    asked[1].continue_()
    page.wait_for_selector("#keeping .chart")
    assert not page.is_visible("#retry")


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    """A models folder of the test's own."""
    for name in ("sentiment-bilstm", "sentiment-lstm", "ner-bilstm", "ner-bigru"):
        shutil.copytree(repository / name, tmp_path / "models" / name)
    return tmp_path / "models"


def test_a_model_that_is_retired_gives_way(visiting: Visiting, start: Any, folder: Path) -> None:
    process: Process = start("--admin", models=folder).until_ready()
    visit = visiting(process)
    visit.expected = ("Failed to load resource",)
    page = visit.open(f"#model=ner-bigru&text={TEXT}&with=sentiment-lstm&and={TEXT}")
    assert visit.api.post("/admin/models/ner-bigru/unload").status_code == 200
    page.fill("#text-a", "Ada lived in London")
    page.wait_for_selector("#missing:has-text('no longer serve “ner-bigru”')")
    visit.ready()
    said = page.inner_text("#missing")
    assert "It serves “ner-bilstm”, “sentiment-bilstm”, “sentiment-lstm”. Shown is “ner-bilstm”." in said
    assert page.input_value("#model-a") == "ner-bilstm"
    assert page.locator("#model-a option[value=ner-bigru]").count() == 0
    assert visit.api.post("/admin/models/sentiment-lstm/unload").status_code == 200
    page.fill("#text-b", "Not bad")
    page.wait_for_selector("#missing:has-text('no longer serve “sentiment-lstm”')")
    assert not page.is_visible("#model-b")
    page.wait_for_selector("#statistics .chart")


def test_another_version_is_shown_by_its_own_facts(visiting: Visiting, start: Any, folder: Path) -> None:
    process: Process = start("--reload", "0.2", models=folder).until_ready()
    visit = visiting(process)
    visit.expected = ("Failed to load resource",)
    page = visit.open(f"#model=sentiment-lstm&text={TEXT}&unit=11&token=1")
    page.wait_for_selector("#statistics .chart")
    write_model(folder / "sentiment-lstm", cell="gru", bidirectional=False, hidden=8)
    visit.until(lambda: visit.api.get("/models/sentiment-lstm").json()["version"] == "2")
    page.fill("#text-a", "a bad film")
    page.wait_for_selector("#facts-a:has-text('GRU')")
    visit.ready()
    page.wait_for_selector("#statistics .chart")
    assert "8 units" in page.inner_text("#facts-a")
    assert page.input_value("#unit-number") == "7"
    assert page.locator(".equations dt").all_inner_texts() == ["update", "reset", "candidate", "hidden"]
    assert "Longest" in page.inner_text("#statistics")
