"""Keyboard alone, screen readers, narrow screens, long texts, and a service that does not answer."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.browser.conftest import Visit, Visiting, violations
from tests.integration.conftest import Process

LONG = " ".join(["This film is not good , and the two leads are wonderful ;"] * 90)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "fragment",
    [
        "#unit=3&token=1&direction=forward",
        "#model=ner-bilstm",
        "#text=Good.&with=sentiment-bilstm&and=Not%20good.",
        "#live=1&liveText=A%20slow%20start.&liveAt=14",
    ],
)
def test_axe_finds_nothing(visiting: Visiting, served: Process, scheme: str, fragment: str) -> None:
    visit = visiting(served, color_scheme=scheme, bypass_csp=True)  # axe puts its own script into the page
    page = visit.open(fragment)
    page.wait_for_selector("#statistics .chart")
    for summary in page.locator("main details > summary").all()[:4]:
        summary.click()
    assert violations(page, scheme) == []
    visit.picture(f"axe-{scheme}-{len(fragment)}")


def test_the_keyboard_is_enough(visit: Visit) -> None:
    page = visit.open("#text=A%20good%20film.")
    _tab_to(page, "select", "model-a")
    page.keyboard.press("ArrowDown")
    visit.ready()
    assert page.input_value("#model-a") != "sentiment-bilstm"
    _tab_to(page, "textarea", "text-a")
    page.keyboard.press("End")
    page.keyboard.type(" Not bad.")
    visit.ready()
    assert "bad" in page.locator("#mattered .chip-text").all_inner_texts()
    _tab_to(page, "canvas", None)
    for key in ("Home", "ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    page.wait_for_selector(".where:has-text('token 1 “good”, unit 2')")
    assert "unit 2" in page.inner_text("#live")
    page.keyboard.press("Enter")
    assert page.input_value("#unit-number") == "2"
    _tab_to(page, "button", "Compare", by="textContent")
    page.keyboard.press("Enter")
    page.wait_for_selector("#difference .share")
    focused = page.evaluate("document.activeElement.textContent")
    assert focused == "Stop comparing"


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_leaves_a_narrow_screen(visiting: Visiting, served: Process, width: int) -> None:
    visit = visiting(served, viewport={"width": width, "height": 800})
    page = visit.open("#model=ner-bilstm&unit=3&token=1&direction=forward")
    page.wait_for_selector("#statistics .chart")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = """() => [...document.querySelectorAll(".card")].flatMap((card) =>
        [...card.querySelectorAll("select, textarea, input, button.chip")]
            .filter((each) => each.getBoundingClientRect().right > card.getBoundingClientRect().right)
            .map((each) => each.outerHTML.slice(0, 80)))"""
    assert page.evaluate(outside) == []
    visit.picture(f"narrow-{width}")


@pytest.mark.parametrize("model", ["sentiment-bilstm", "ner-bilstm"])
@pytest.mark.parametrize(("width", "height"), [(375, 667), (667, 375)])
def test_the_numbers_of_a_tapped_cell_are_in_sight(
    visiting: Visiting, served: Process, model: str, width: int, height: int
) -> None:
    visit = visiting(served, viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
    text = f"Ada {'x' * 200} lived in London."
    page = visit.open(f"#model={model}&text={text}")
    page.wait_for_selector("#statistics .chart")
    assert not page.is_visible(".readout")
    trace = visit.gates(model=model, inputs=text)["traces"][0]
    for layer in trace["layers"][:2]:
        for gate, values in layer["gates"].items():
            panel = f"map-{gate}-{layer['direction']}"
            x, y = visit.cell(panel, 2, 17, len(values), len(values[0]))
            page.tap(f"#{panel}", position={"x": x, "y": y})
            chosen = page.locator(f".readout .chosen[data-gate={gate}]")
            chosen.wait_for()
            cell = re.search(f"“lived”, unit (\\d+), layer 0, {layer['direction']}", page.inner_text(".readout"))
            assert cell  # about 17: a finger's place is rounded to whole pixels
            shown = chosen.inner_text().replace("−", "-").split()
            assert shown[0] == gate
            assert float(shown[1]) == pytest.approx(values[2][int(cell[1])], abs=6e-4)
            box = chosen.bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= height
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=visit.folder / f"phone-{model}-{width}.png")


def test_texts_do_not_overlap(visit: Visit) -> None:
    visit.open("#unit=3&token=1&direction=forward").wait_for_selector("#statistics .chart")
    overlaps = visit.page.evaluate(
        """() => [...document.querySelectorAll("svg.chart")].flatMap((svg) => {
            const texts = [...svg.querySelectorAll("text:not([transform])")];
            const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
            const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
                && a.top < b.bottom - 3 && b.top < a.bottom - 3;
            return boxes.flatMap(([one, a], at) =>
                boxes.slice(at + 1).filter(([, b]) => meet(a, b)).map(([other]) => [one, other]));
        })"""
    )
    assert overlaps == []


def test_a_text_of_a_thousand_tokens(visit: Visit) -> None:
    page = visit.open()
    visit.type(LONG)
    tokens = visit.gates(inputs=LONG, reduce="summary")["traces"][0]["tokens"]
    assert len(tokens) > 1000
    window = page.locator(".overview canvas")
    assert window.get_attribute("aria-valuenow") == "0"
    assert f"of {len(tokens)}" in window.get_attribute("aria-valuetext")
    window.focus()
    page.keyboard.press("End")
    visit.until(lambda: int(window.get_attribute("aria-valuenow")) > 900)
    window.click(position={"x": 300, "y": 10})
    visit.until(lambda: int(window.get_attribute("aria-valuenow")) < 900)
    page.hover("#map-cell-forward", position={"x": 200, "y": 100})
    page.wait_for_selector(".where:has-text('token')")
    number = int(page.inner_text(".where").split()[1])
    assert f"“{tokens[number]['text']}”" in page.inner_text(".where")
    visit.picture("long")


def test_errors_are_told_in_words(visiting: Visiting, start: Any) -> None:
    process = start().until_ready()
    visit = visiting(process)
    visit.expected = ("Failed to load resource",)
    page = visit.open()
    page.route(
        "**/gates",
        lambda route: route.fulfill(
            status=503,
            headers={"Retry-After": "2"},
            content_type="application/problem+json",
            body=json.dumps({"detail": "The queue is full."}),
        ),
    )
    page.fill("#text-a", "a film")
    page.wait_for_selector(".problem:has-text('The queue is full.')")
    page.wait_for_selector("#retry:has-text('Trying again in 2 s.')")
    page.unroute("**/gates")
    process.close()
    page.fill("#text-a", "a good film")
    page.wait_for_selector(".problem:has-text('does not answer')")
    visit.picture("down")


def test_a_browser_signs_in_with_a_key(visiting: Visiting, start: Any) -> None:
    key = "a-key-for-people-in-browsers"
    process = start("--rate-limit", "10", SERVICE_API_KEYS=key).until_ready()
    stranger = visiting(process)
    with pytest.raises(Exception, match="ERR_INVALID_AUTH_CREDENTIALS"):  # nobody is there to ask for a password
        stranger.page.goto(stranger.url)
    visit = visiting(process, http_credentials={"username": "me", "password": key})
    for each in (stranger, visit):  # the console tells of the question that the password answers
        each.expected = ("status of 401",)
    page = visit.open()
    visit.type("A wonderful film.")
    assert page.inner_text(".verdict").lower() in ("positive", "negative")
    page.wait_for_selector("#statistics .chart")
    assert key not in page.content()
    assert key not in page.url
    assert key not in process.output


def test_an_empty_text_asks_for_one(visit: Visit) -> None:
    page = visit.open()
    visit.type("   ")
    assert "as you type" in page.inner_text(".answer")
    assert not page.is_visible("#gates")


@pytest.mark.parametrize(
    "model",
    [
        "sentiment-rnn",
        "sentiment-peephole",
        "sentiment-peephole-full",
        "sentiment-gru-before",
        "sentiment-bigru",
        "sentiment-mingru",
        "sentiment-biminlstm",
        "sentiment-mingru-window",
    ],
)
def test_every_cell_is_shown_by_its_own_equations(visiting: Visiting, service: Process, model: str) -> None:
    visit = visiting(service)
    page = visit.open(f"#model={model}&text=a+very+good+film&unit=2&token=1&direction=forward")
    page.wait_for_selector("#statistics .chart")
    described = visit.api.get(f"/models/{model}").json()
    assert page.locator(".equations dt").all_inner_texts() == described["gates"]
    layer = visit.gates(model=model, inputs="a very good film")["traces"][0]["layers"][0]
    for gate in described["gates"]:
        shown = page.inner_text(f".equations [data-gate={gate}] .numbers").replace("−", "-")
        assert float(shown.split()[-1]) == pytest.approx(layer["gates"][gate][1][2], abs=6e-4)
        assert page.locator(f"#map-{gate}-forward").count() == 1
    if model == "sentiment-rnn":
        assert "no additive state" in page.inner_text("#mattered")
    else:
        of = "the top layer's positions" if described["layers"] > 1 else "the tokens"
        assert f"The shares are those of {of}" in page.inner_text("#mattered")
    visit.picture(model)


def _tab_to(page: Any, tag: str, name: str | None, by: str = "id") -> None:
    """Press the tab key until an element has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        focused = page.evaluate(f"[document.activeElement.localName, document.activeElement.{by}]")
        if focused[0] == tag and name in (None, focused[1]):
            return
    raise AssertionError(f"the keyboard does not reach {tag} {name}")
