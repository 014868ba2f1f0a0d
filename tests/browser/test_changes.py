"""Changing a run in the page: gates shut by dragging, tokens dropped, and whether the split is true."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import Visit

TEXT = "The plot is thin but the leads are wonderful."
TOKENS = 10
UNITS = 128


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def drag(visit: Visit, panel: str, start: tuple[int, int], end: tuple[int, int]) -> None:
    """From one cell (column, row) of a heat map to another."""
    page = visit.page
    page.locator(f"#{panel}").scroll_into_view_if_needed()
    box = page.locator(f"#{panel}").bounding_box()
    places = [visit.cell(panel, *cell, TOKENS, UNITS) for cell in (start, end)]
    (x, y), (to_x, to_y) = ((box["x"] + x, box["y"] + y) for x, y in places)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move((x + to_x) / 2, (y + to_y) / 2)
    page.mouse.move(to_x, to_y)
    page.mouse.up()
    visit.ready()


def test_gates_are_shut_by_dragging_over_them(visit: Visit) -> None:
    page = visit.open()
    visit.type(TEXT)
    page.check("input[name=tool][value=shut]", force=True)
    drag(visit, "map-forget-forward", (2, 10), (5, 40))
    page.wait_for_selector("#map-forget-difference")
    setting = {"layer": 0, "direction": "forward", "gate": "forget", "value": 0.0}
    setting |= {"tokens": list(range(2, 6)), "units": list(range(10, 41))}
    trace = visit.gates(inputs=TEXT, set=[setting])["traces"][0]
    label = trace["baseline"]["label"]
    assert page.inner_text("#changes [data-term=changed]") == percent(trace["prediction"]["scores"][label])
    assert "forget = 0: 31 units, “is” to “the”" in page.inner_text("#changes .changes")
    assert page.input_value("#text-b") == TEXT
    shown = page.inner_text(".ask:has(#text-b) .bar[data-chosen=true] .bar-value")
    assert shown == percent(trace["prediction"]["score"])
    visit.picture("shut-gates")


def test_a_link_brings_the_changes_back_and_undo_takes_them_away(visit: Visit) -> None:
    page = visit.open(
        f"#model=sentiment-bilstm&text={TEXT}&with=sentiment-bilstm&and={TEXT}"
        "&set=0.forward.output@0-9:0,1,2=1;nonsense&drop=3"
    )
    setting: dict[str, Any] = {"layer": 0, "direction": "forward", "gate": "output", "value": 1.0, "units": [0, 1, 2]}
    setting["tokens"] = [token for token in range(TOKENS) if token != 3]
    trace = visit.gates(model="sentiment-bilstm", inputs=TEXT, set=[setting], drop=[3])["traces"][0]
    label = trace["baseline"]["label"]
    assert page.inner_text("#changes [data-term=changed]") == percent(trace["prediction"]["scores"][label])
    assert page.locator("#changes .changes li").count() == 2
    page.click("#changes li:has-text('output') button")
    visit.ready()
    trace = visit.gates(model="sentiment-bilstm", inputs=TEXT, drop=[3])["traces"][0]
    page.wait_for_selector(f"#changes [data-term=changed]:has-text('{percent(trace['prediction']['scores'][label])}')")


def test_a_token_that_is_clicked_is_dropped_and_clicked_again_it_is_back(visit: Visit) -> None:
    page = visit.open()
    visit.type(TEXT)
    page.check("input[name=tool][value=drop]", force=True)
    page.click("#mattered-a button.share[data-token='8']")
    visit.ready()
    page.wait_for_selector("#changes li:has-text('without “wonderful”')")
    trace = visit.gates(inputs=TEXT, drop=[8])["traces"][0]
    label = trace["baseline"]["label"]
    page.wait_for_selector(f"#changes [data-term=changed]:has-text('{percent(trace['prediction']['scores'][label])}')")
    assert page.locator("#mattered-b .share").count() == TOKENS - 1
    page.click("#mattered-a button.share[data-token='8']")
    visit.ready()
    page.wait_for_selector("#mattered-b .share[data-token='9']")
    assert page.locator("#changes li").count() == 0


def test_a_cell_is_opened_with_the_keyboard(visit: Visit) -> None:
    page = visit.open("#model=sentiment-gru")
    visit.type(TEXT)
    page.focus("#map-update-forward")
    for key in ("ArrowRight", "ArrowRight", "o"):
        page.keyboard.press(key)
    visit.ready()
    page.wait_for_selector("#changes li:has-text('update = 1')")


@pytest.mark.parametrize("model", ["sentiment-bilstm", "ner-bilstm"])
def test_the_badge_says_whether_the_split_is_true(visit: Visit, model: str) -> None:
    page = visit.open(f"#model={model}")
    text = "Ada Lovelace lived in London with her mother."
    visit.type(text)
    page.click("#mattered-a .faithfulness button")
    page.wait_for_selector("#mattered-a [data-term=sufficiency]")
    explain = {"explain": 0} if model.startswith("ner") else {}
    found = visit.gates(model=model, inputs=text, faithfulness=True, **explain)["traces"][0]["faithfulness"]
    for term in ("comprehensiveness", "sufficiency"):
        shown = page.inner_text(f"#mattered-a [data-term={term}]").replace("−", "-")
        assert float(shown) == pytest.approx(found[term], abs=6e-4)
    visit.type("Grace lived in Paris.")
    assert page.locator("#mattered-a [data-term=sufficiency]").count() == 0  # that was of another text
