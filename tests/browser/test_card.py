"""A unit's card, and "find this again": numbers of the API, texts of a file that stays in the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.model.bundle import load
from tests import corpora
from tests.browser.conftest import Visit, Visiting, violations
from tests.bundles import tiny_bundle
from tests.integration.conftest import Process
from training.cli import app
from training.scoring.evaluate import Subject
from training.studies.units import Texts, activations
from training.studies.units import find as search

CHOSEN = "&unit=5&token=1&direction=forward&gate=hidden"


class Place:
    """A folder with a data file for each task, and a repository of two models that have cards made from them."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.texts = corpora.sentiment(folder / "set" / "dev.tsv")
        self.tagged = corpora.ner(folder / "tags" / "dev.conll")
        self.data = {"sentiment-tiny": self.texts, "ner-tiny": self.tagged}
        tiny_bundle(self.models / "sentiment-tiny", layers=2)
        tiny_bundle(self.models / "ner-tiny", task="ner")
        for name, data in self.data.items():
            command = ["units", str(self.models / name / "1"), "--data", str(data), "--places", "3", "--most", "4"]
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, done.output

    def subject(self, name: str) -> Subject:
        return Subject(load(self.models / name / "1"))

    def lines(self, name: str) -> list[str]:
        return self.data[name].read_text("utf-8").split("\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="module")
def carded(place: Place) -> Iterator[Process]:
    process = Process(place.models.parent, place.models)
    yield process.until_ready()
    process.close()


def given(visit: Visit, data: Path) -> None:
    """Pick a data file."""
    visit.page.set_input_files("#data-file", data)
    assert visit.page.evaluate("document.querySelector('#data-file').files.length") == 1


def found(visit: Visit) -> list[tuple[str, float]]:
    """The places that a search lists: where, and the distance."""
    visit.page.click("#find")
    visit.page.wait_for_selector("#found-status:has-text('The nearest come first')")
    rows = visit.page.locator("[data-distance]").all()
    return [(row.locator("b").inner_text(), float(row.get_attribute("data-distance"))) for row in rows]


@pytest.mark.parametrize("layer", [0, 1])
def test_the_card_says_what_the_api_says(visiting: Visiting, carded: Process, layer: int) -> None:
    visit = visiting(carded)
    page = visit.open(f"#model=sentiment-tiny&text=the+film+is+good&layer={layer}{CHOSEN}")
    card = visit.api.get(f"/models/sentiment-tiny/units/{layer}/forward/5").json()
    page.wait_for_selector("[data-term=ablation]")
    shown = page.inner_text("#unit-facts").replace("−", "-")
    ablation = card["ablation"]
    assert f"{100 * ablation['score']:.1f} %" in shown
    assert f"{100 * ablation['changed']:.1f} % of the answers change" in shown
    assert f"{ablation['lost']:.4f} of their probability (4 inputs of set dev)" in shown
    gains = card["logits"] or ablation["effects"]
    for label, gain in gains.items():
        assert f"{label} {'+' if round(gain, 3) > 0 else ''}{gain:.3f}".replace("-0.000", "0.000") in shown
    assert page.locator("[data-term=logits]").count() == layer
    assert page.locator("[data-term=effects]").count() == 1 - layer
    places = [text.replace("−", "-") for text in page.locator("#unit-places li").all_inner_texts()]
    assert places == [f"line {each['line']}, token {each['token']}: {each['value']:.3f}" for each in card["places"]]
    page.fill("#unit-number", "6")
    page.keyboard.press("Enter")
    other = visit.api.get(f"/models/sentiment-tiny/units/{layer}/forward/6").json()["ablation"]["lost"]
    visit.until(lambda: f"{other:.4f} of their" in page.inner_text("#unit-facts").replace("−", "-"))


def test_a_shipped_model_has_cards(visit: Visit) -> None:
    page = visit.open("#model=sentiment-bilstm&text=Not+bad.&unit=7&token=1&direction=backward")
    card = visit.api.get("/models/sentiment-bilstm/units/0/backward/7").json()
    page.wait_for_selector("[data-term=logits]")
    assert page.locator("#unit-places li").count() == len(card["places"]) > 0
    assert f"Most active in {card['data']['name']}" in page.inner_text("#unit-facts")
    visit.picture("unit-card")


def test_a_model_without_cards_says_so(visiting: Visiting, service: Process) -> None:
    page = visiting(service).open(f"#model=sentiment-lstm&text=good{CHOSEN}")
    page.wait_for_selector("#unit-facts:has-text('This bundle has no cards')")
    assert page.locator("#unit-places li").count() == 0


def test_a_card_that_did_not_come_is_asked_for_again(visiting: Visiting, carded: Process) -> None:
    visit = visiting(carded)
    visit.expected = ("status of 503",)
    body = json.dumps({"detail": "The queue is full."})
    visit.page.route(
        "**/units/**",
        lambda route: route.fulfill(status=503, content_type="application/problem+json", body=body),
        times=1,
    )
    page = visit.open(f"#model=sentiment-tiny&text=the+film+is+good{CHOSEN}")
    page.wait_for_selector("#unit-facts:has-text('The queue is full.')")
    visit.type("the film is fine")
    page.wait_for_selector("[data-term=ablation]")


@pytest.mark.parametrize("model", ["sentiment-tiny", "ner-tiny"])
def test_places_have_their_texts_once_the_file_is_there(
    visiting: Visiting, carded: Process, place: Place, model: str
) -> None:
    visit = visiting(carded)
    posted: list[Any] = []
    visit.page.on("request", lambda request: posted.append(request) if request.method == "POST" else None)
    page = visit.open(f"#model={model}&text=Ada+lived+in+London{CHOSEN}")
    page.wait_for_selector("#unit-places li")
    assert page.locator("#unit-places .excerpt").count() == 0
    given(visit, place.data[model])
    page.wait_for_selector("#unit-places .excerpt")
    card = visit.api.get(f"/models/{model}/units/0/forward/5").json()
    lines = place.lines(model)
    for row, each in zip(page.locator("#unit-places li").all(), card["places"], strict=True):
        (chip,) = row.locator("[data-here]").all()
        assert chip.inner_text() in lines[each["line"] - 1]
        assert float(chip.get_attribute("title").replace("−", "-")) == pytest.approx(each["value"], abs=2e-3)
    assert page.is_hidden("#file-notice")
    assert {request.url for request in posted} == {f"{visit.url}/gates"}
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])")
    assert not any(line.split("\t")[0] in kept for line in lines if len(line.split("\t")[0]) > 8)
    first = card["places"][0]
    page.click("#unit-places li:first-child button")
    visit.ready()
    if model == "sentiment-tiny":
        assert page.input_value("#text-a") == lines[first["line"] - 1].split("\t")[0]
        visit.until(lambda: f"token={first['token']}" in page.evaluate("location.hash"))
    else:
        assert lines[first["line"] - 1].split("\t")[0] in page.input_value("#text-a").split(" ")
    visit.picture(f"places-{model}")


@pytest.mark.parametrize("model", ["sentiment-tiny", "ner-tiny"])
@pytest.mark.parametrize("span", [1, 2])
def test_units_are_found_again_as_the_command_finds_them(
    visiting: Visiting, carded: Process, place: Place, model: str, span: int
) -> None:
    visit = visiting(carded)
    text = "the acting is fine ." if model == "sentiment-tiny" else "Grace lived in Paris ."
    page = visit.open(f"#model={model}&text={text}&unit=5&token=2&direction=backward&gate=forget&units=1-3,6")
    given(visit, place.data[model])
    page.fill("#span", str(span))
    shown = found(visit)
    subject = place.subject(model)
    texts, key, units = Texts.read(subject, place.data[model]), (0, "backward", "forget"), [1, 2, 3, 6]
    rows = subject.tokenizer.encode(text, 100, truncate=False).rows
    pattern = activations(subject, rows, key)[3 - span : 3, units]  # type: ignore[arg-type]  # a selection of units
    wanted = search(subject, texts, key, pattern, units, 10)  # type: ignore[arg-type]  # a selection of units
    assert [distance for _, distance in shown] == pytest.approx([match.distance for match in wanted], abs=2e-4)
    assert shown[0][1] == 0
    assert shown[0][0] == f"line {wanted[0].line}, token {wanted[0].token}:"
    assert page.locator("[data-distance]").first.locator("[data-here]").count() == span
    assert "forget of 4 units as at “" in page.inner_text("#found-status")
    page.locator("[data-distance] button").nth(1).click()  # the places stay while one of them is read
    visit.ready()
    assert page.locator("[data-distance]").count() == len(shown)
    page.select_option("#model-a", next(name for name in place.data if name != model))
    visit.ready()
    visit.until(lambda: page.locator("[data-distance]").count() == 0)


def test_what_a_search_needs_is_said(visiting: Visiting, carded: Process, place: Place) -> None:
    visit = visiting(carded)
    page = visit.open("#model=sentiment-tiny&text=the+film+is+good&unit=5&direction=forward&gate=hidden")
    page.click("#find")
    assert "Pick a token first" in page.inner_text("#found-status")
    page = visit.open("#model=sentiment-tiny&text=the+film+is+fine" + CHOSEN)
    page.reload()
    visit.ready()
    page.click("#find")
    assert page.inner_text("#found-status") == "Pick a data file first."
    given(visit, place.texts)
    page.fill("#span", "999")
    assert found(visit)[0][1] == 0  # as many tokens as there are up to the chosen one
    assert page.locator("[data-distance]").first.locator("[data-here]").count() == 2


def test_a_search_waits_until_the_file_is_read(visiting: Visiting, carded: Process, place: Place) -> None:
    visit = visiting(carded)
    visit.page.add_init_script(
        "const read = Blob.prototype.arrayBuffer; Blob.prototype.arrayBuffer = async function () {"
        "await new Promise((done) => setTimeout(done, 500)); return read.call(this) }"
    )
    visit.open(f"#model=sentiment-tiny&text=the+film+is+good{CHOSEN}")
    given(visit, place.texts)
    assert found(visit)[0][1] == 0


def test_the_reading_of_a_file_is_told_and_can_be_stopped(visiting: Visiting, carded: Process, place: Place) -> None:
    visit = visiting(carded)
    visit.page.add_init_script(
        "const read = Blob.prototype.arrayBuffer; Blob.prototype.arrayBuffer = async function () {"
        "await new Promise((done) => (window.goOn = done)); return read.call(this) }"
    )
    page = visit.open(f"#model=sentiment-tiny&text=the+film+is+good{CHOSEN}")
    given(visit, place.texts)
    page.wait_for_selector("#file-notice:has-text('The file is being read…')")
    page.click("#find")
    assert page.inner_text("#found-status") == "The file is being read…"
    page.click("#find-stop")
    page.wait_for_selector("#found-status:has-text('The search was stopped.')")
    assert page.is_hidden("#find-stop")
    page.click("#find")
    assert page.is_visible("#find-stop")
    page.evaluate("window.goOn()")
    page.wait_for_selector("#found-status:has-text('The nearest come first')")
    assert page.is_hidden("#find-stop")
    assert page.is_hidden("#file-notice")
    # A search of a file that went is over when another file is picked.
    given(visit, place.texts)
    page.click("#find")
    page.set_input_files("#data-file", [])
    visit.until(lambda: page.is_hidden("#file-notice"))
    assert page.inner_text("#found-status") == ""
    assert page.is_hidden("#find-stop")


def test_another_file_than_the_cards_is_told_and_can_be_searched(
    visiting: Visiting, carded: Process, tmp_path: Path
) -> None:
    visit = visiting(carded)
    page = visit.open(f"#model=sentiment-tiny&text=the+film+is+good{CHOSEN}")
    other = corpora.sentiment(tmp_path / "other.tsv", step=2)
    given(visit, other)
    page.wait_for_selector("#file-notice:has-text('This is not the file of the card (set dev)')")
    assert page.locator("#unit-places .excerpt").count() == 0
    assert len(found(visit)) == 10


def test_inputs_that_cannot_be_read_are_left_out(visiting: Visiting, carded: Process, tmp_path: Path) -> None:
    visit = visiting(carded)
    visit.expected = ("status of 422", "status of 413")
    page = visit.open(f"#model=sentiment-tiny&text=the+film+is+good{CHOSEN}")
    data = tmp_path / "some.jsonl"
    texts = ["the film is good", "\u200b", "its plot is dull", "x" * 3_000_000, "a fine film"]
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    given(visit, data)
    places = [where for where, _ in found(visit)]
    assert sorted(places)[0].startswith("line 1,")
    assert {where.split(",")[0] for where in places} == {"line 1", "line 3", "line 5"}
    assert "2 of them cannot be read" in page.inner_text("#found-status")


def test_a_search_waits_for_a_busy_service_and_can_be_stopped(
    visiting: Visiting, carded: Process, place: Place
) -> None:
    visit = visiting(carded)
    visit.expected = ("status of 503",)
    page = visit.open(f"#model=sentiment-tiny&text=the+film+is+good{CHOSEN}")
    given(visit, place.texts)
    page.wait_for_selector("#unit-places .excerpt")
    busy: list[Any] = []
    body = json.dumps({"detail": "The queue is full."})

    def once(route: Any) -> None:
        busy.append(route)
        route.fulfill(status=503, headers={"Retry-After": "0"}, content_type="application/problem+json", body=body)

    page.route("**/gates", once, times=1)
    assert found(visit)[0][1] == 0
    assert len(busy) == 1
    page.route("**/gates", lambda route: busy.append(route))  # no answer
    page.click("#find")
    page.wait_for_selector("#find-stop:visible")
    page.click("#find-stop")
    page.wait_for_selector("#found-status:has-text('The search was stopped.')")
    assert page.is_hidden("#find-stop")
    page.unroute("**/gates")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_card(visiting: Visiting, carded: Process, place: Place, scheme: str) -> None:
    visit = visiting(carded, color_scheme=scheme, bypass_csp=True)
    page = visit.open(f"#model=sentiment-tiny&text=the+film+is+good{CHOSEN}")
    given(visit, place.texts)
    found(visit)
    assert violations(page, scheme) == []
    visit.picture(f"card-{scheme}")


@pytest.mark.parametrize("width", [320, 390])
def test_a_card_stays_on_a_narrow_screen(visiting: Visiting, carded: Process, place: Place, width: int) -> None:
    visit = visiting(carded, viewport={"width": width, "height": 800})
    page = visit.open(f"#model=sentiment-tiny&text=the+film+is+good{CHOSEN}")
    given(visit, place.texts)
    found(visit)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = """() => [...document.querySelectorAll("#unit-card :is(input, button, .share)")]
        .filter((each) => each.getBoundingClientRect().right > each.closest(".card").getBoundingClientRect().right)
        .map((each) => each.outerHTML.slice(0, 80))"""
    assert page.evaluate(outside) == []
    page.screenshot(path=visit.folder / f"card-{width}.png", full_page=True)
