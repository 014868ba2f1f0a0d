"""Changing a run in the page: gates shut by dragging, tokens dropped, and whether the split is true."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.conftest import Visit, Visiting
from tests.integration.conftest import Process

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


def changed(visit: Visit, text: str, before: str = TEXT) -> None:
    """B reads `text`, beside A, and the page says how the answer moved."""
    page = visit.page
    visit.until(lambda: page.input_value("#text-b") == text)
    visit.ready()
    assert page.input_value("#text-a") == TEXT
    label = visit.gates(inputs=before)["traces"][0]["prediction"]["label"]
    share = visit.gates(inputs=text)["traces"][0]["prediction"]["scores"][label]
    page.wait_for_selector(f"#changes [data-term=changed]:has-text('{percent(share)}')")
    assert page.is_visible("#difference")
    assert page.locator("#map-forget-difference").count() == 1


def test_a_token_that_is_clicked_is_replaced(visit: Visit) -> None:
    page = visit.open()
    visit.type(TEXT)
    assert not page.is_visible("#word")
    page.check("input[name=tool][value=replace]", force=True)
    page.click("#mattered-a button.share[data-token='8']")
    assert not page.is_visible("#text-b")  # there is no new word yet
    assert page.evaluate("document.activeElement.id") == "word"
    page.fill("#word", "<b>dull</b>")
    page.click("#mattered-a button.share[data-token='8']")
    changed(visit, TEXT.replace("wonderful", "<b>dull</b>"))
    page.fill("#word", "dull")
    page.click("#mattered-a button.share[data-token='8']")
    changed(visit, TEXT.replace("wonderful", "dull"))
    page.fill("#word", "rich")
    page.click("#mattered-b button.share[data-token='3']")  # a change of B's text goes on from there
    changed(visit, TEXT.replace("wonderful", "dull").replace("thin", "rich"))
    visit.picture("replaced")


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (8, "The plot is thin but the leads are not wonderful."),
        (7, "The plot is thin but the leads are not wonderful."),  # a verb has its "not" behind it
        (0, "Not the plot is thin but the leads are wonderful."),
    ],
)
def test_a_token_that_is_clicked_is_negated(visit: Visit, token: int, text: str) -> None:
    page = visit.open()
    visit.type(TEXT)
    page.check("input[name=tool][value=negate]", force=True)
    page.click(f"#mattered-a button.share[data-token='{token}']")
    changed(visit, text)
    if token == 8:  # once more, on B: the negation goes
        page.click("#mattered-b button.share[data-token='9']")
        visit.until(lambda: page.input_value("#text-b") == TEXT)


def test_words_are_negated_as_english_has_it(visiting: Visiting, service: Process) -> None:
    page = visiting(service).open()
    found = page.evaluate(
        """async () => {
          const { negated, replaced } = await import("./page/wording.js");
          const reading = (text) => {
            const found = [...text.matchAll(/n't|\\p{L}+?(?=n't)|\\p{L}+|\\S/gu)];
            const spans = found.map(({ index, 0: word }) => [index, index + word.length]);
            return { text, spans, tokens: found.map(([text]) => ({ text })) };
          };
          const cases = [["It isn't good", 1], ["It isn't good", 3], ["I can't stop", 1], ["I won't go", 2],
            ["Can't stop", 0], ["Not good", 0],
            ["Not good", 1], ["It is not good", 1], ["Good film", 0], ["good", 0], ["It was not", 2],
            ["UK film", 0], ["a 😀 good film", 2]];
          const other = replaced(reading("a 😀 good film"), 2, "bad");
          return [...cases.map(([text, at]) => negated(reading(text), at)), other];
        }"""
    )
    assert found == [
        *("It is good", "It is good", "I can stop", "I will go", "Can stop", "Good", "Good", "It is good"),
        *("Not good film", "not good", "It was", "not UK film", "a 😀 not good film", "a 😀 bad film"),
    ]


def test_a_tagger_reads_a_changed_text_too(visit: Visit) -> None:
    page = visit.open("#model=ner-bilstm")
    visit.type("Ada Lovelace lived in London.")
    page.check("input[name=tool][value=replace]", force=True)
    page.fill("#word", "Paris")
    page.click("#mattered-a button.share[data-token='4']")
    visit.until(lambda: page.input_value("#text-b") == "Ada Lovelace lived in Paris.")
    visit.ready()
    page.wait_for_selector("#changes [role=status]:has-text('With them: Ada Lovelace (PER), Paris (LOC)')")


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
