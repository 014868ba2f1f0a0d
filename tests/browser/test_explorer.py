"""Type, pick, hover, click: what the page shows is what the API answers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.conftest import Visit

TEXT = "The plot is thin but the leads are wonderful."
INJECTION = 'Nice <img src=x onerror="document.title=1"> film <script>document.title=2</script>.'


def test_models_are_grouped_with_cell_size_and_quality(visit: Visit) -> None:
    page = visit.open()
    models = visit.api.get("/models").json()
    for model in models["models"]:
        option = page.locator(f"#model-a option[value={model['name']}]")
        assert model["cell"].upper() in option.inner_text()
        assert f"{model['hidden']} units" in option.inner_text()
        figures = {each["metric"]: each["value"] for each in reversed(model["quality"])}
        headline = figures["f1" if model["task"] == "ner" else "accuracy"]
        assert f"{100 * headline:.1f} %" in option.inner_text()
        group = option.locator("xpath=..").get_attribute("label")
        assert group == {"sentiment": "Sentiment", "ner": "Named entities"}[model["task"]]
    assert page.input_value("#model-a") == models["default"]["sentiment"]


def test_probabilities_are_those_of_the_api(visit: Visit) -> None:
    page = visit.open()
    visit.type(TEXT)
    prediction = visit.api.post("/predict", json={"inputs": TEXT}).json()["predictions"][0]
    assert page.inner_text(".verdict").lower() == prediction["label"]
    for label, score in prediction["scores"].items():
        assert page.inner_text(f".bar[data-label={label}] .bar-value") == f"{100 * score:.1f} %"
    visit.picture("sentiment")


def test_entities_are_highlighted_in_the_text(visit: Visit) -> None:
    text = "👩‍🚀 Ada Lovelace flew from London to Paris."
    page = visit.open("#model=ner-bilstm")
    visit.type(text)
    entities = visit.api.post("/predict", json={"task": "ner", "inputs": text}).json()["predictions"][0]["entities"]
    assert entities
    marks = page.locator("mark.entity")
    shown = [re.sub(r"\s+", " ", mark) for mark in marks.all_inner_texts()]
    assert len(shown) == len(entities)
    for mark, entity in zip(shown, entities, strict=True):
        assert mark.startswith(entity["text"])
        assert entity["label"] in mark
    visit.picture("entities")


def test_contributions_add_up_to_the_logit(visit: Visit) -> None:
    page = visit.open()
    visit.type(TEXT)
    for label in ("negative", "positive"):
        page.click(f"#mattered .segments label:has-text('{label}')")
        given = visit.gates(inputs=TEXT)["traces"][0]["contributions"]
        at = given["labels"].index(label)
        shares = [row[at] for row in given["tokens"]]
        assert page.locator("#mattered .chip-share").all_inner_texts() == [_signed(share) for share in shares]
        terms = {name: _value(page.inner_text(f"[data-term={name}] b")) for name in ("bias", "tokens", "logit")}
        assert terms["logit"] == pytest.approx(given["logits"][at], abs=6e-4)
        assert terms["bias"] + terms["tokens"] == pytest.approx(terms["logit"], abs=2e-3)
    assert "tokens" in page.inner_text("#mattered .hint")


def test_a_click_on_a_token_splits_a_taggers_decision(visit: Visit) -> None:
    text = "President George Bush flew to Iraq."
    page = visit.open("#model=ner-bilstm")
    visit.type(text)
    for number in (2, 5):
        page.click(f"#mattered [data-token='{number}']")
        page.wait_for_selector(f"#mattered .sum-of:has-text('token {number} ')")
        given = visit.gates(task="ner", inputs=text, explain=number, tokens=True)["traces"][0]
        label = given["prediction"]["tokens"][number]["label"]
        at = given["contributions"]["labels"].index(label)
        assert _value(page.inner_text("[data-term=logit] b")) == pytest.approx(
            given["contributions"]["logits"][at], abs=6e-4
        )
        assert f"“{label}”" in page.inner_text("#mattered .sum-of")


@pytest.mark.parametrize(("direction", "before"), [("forward", -1), ("backward", 1)])
def test_hovering_puts_the_numbers_into_the_equation(visit: Visit, direction: str, before: int) -> None:
    page = visit.open()
    visit.type(TEXT)
    trace = visit.gates(inputs=TEXT)["traces"][0]
    layer = next(each for each in trace["layers"] if each["direction"] == direction)
    columns, rows = len(trace["tokens"]), len(layer["gates"]["cell"][0])
    token, unit = 4, 17
    x, y = visit.cell(f"map-cell-{direction}", token, unit, columns, rows)
    page.hover(f"#map-cell-{direction}", position={"x": x, "y": y})
    page.wait_for_selector(".where:has-text('unit 17')")
    assert f"token {token} “{trace['tokens'][token]['text']}”, unit {unit}, layer 0, {direction}" in page.inner_text(
        ".where"
    )
    now = {gate: values[token][unit] for gate, values in layer["gates"].items()}
    cell = layer["gates"]["cell"][token + before][unit]
    terms = [now["forget"], cell, now["input"], now["candidate"], now["cell"]]
    shown = page.inner_text(".equations [data-gate=cell] .numbers")
    assert shown == "= {} · {} + {} · {} = {}".format(*(_plain(each) for each in terms))
    forget = page.inner_text(".equations [data-gate=forget] .numbers")
    assert forget.endswith(f") = {_plain(now['forget'])}")


@pytest.mark.parametrize(("direction", "token"), [("forward", 5), ("backward", 4)])
def test_a_sentence_of_a_tagger_starts_from_zero(visit: Visit, direction: str, token: int) -> None:
    page = visit.open("#model=ner-bilstm")
    visit.type("Ada lived in London. Bob met Charles Babbage.")
    assert page.locator(".share[data-begins]").evaluate_all("all => all.map((each) => each.dataset.token)") == ["5"]
    trace = visit.gates(model="ner-bilstm", inputs="Ada lived in London. Bob met Charles Babbage.")["traces"][0]
    assert trace["sentences"] == [[0, 5], [5, 10]]
    layer = next(each for each in trace["layers"] if each["direction"] == direction)
    x, y = visit.cell(f"map-cell-{direction}", token, 17, len(trace["tokens"]), len(layer["gates"]["cell"][0]))
    page.hover(f"#map-cell-{direction}", position={"x": x, "y": y})
    page.wait_for_selector(".where:has-text('unit 17')")
    now = {gate: values[token][17] for gate, values in layer["gates"].items()}
    terms = [now["forget"], 0.0, now["input"], now["candidate"], now["cell"]]
    shown = page.inner_text(".equations [data-gate=cell] .numbers")
    assert shown == "= {} · {} + {} · {} = {}".format(*(_plain(each) for each in terms))


def test_the_cells_are_drawn_in_the_colours_of_their_numbers(visit: Visit) -> None:
    visit.open()
    visit.type(TEXT)
    trace = visit.gates(inputs=TEXT, gates=["forget"], directions=["forward"])["traces"][0]
    values = trace["layers"][0]["gates"]["forget"]
    spread = sorted((value, token, unit) for token, row in enumerate(values) for unit, value in enumerate(row))
    lightness = [_lightness(visit, token, unit, len(values), len(values[0])) for _, token, unit in spread[::150]]
    assert lightness == sorted(lightness)
    assert lightness[-1] - lightness[0] > 100


def _lightness(visit: Visit, token: int, unit: int, columns: int, rows: int) -> float:
    x, y = visit.cell("map-forget-forward", token, unit, columns, rows)
    red, green, blue = visit.page.evaluate(
        """([x, y]) => {
            const canvas = document.querySelector("#map-forget-forward");
            return [...canvas.getContext("2d").getImageData(x * devicePixelRatio, y * devicePixelRatio, 1, 1).data];
        }""",
        [x, y],
    )[:3]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_click_draws_the_units_curves(visit: Visit) -> None:
    page = visit.open()
    visit.type(TEXT)
    trace = visit.gates(inputs=TEXT)["traces"][0]
    gates = trace["layers"][0]["gates"]
    x, y = visit.cell("map-forget-forward", 2, 5, len(trace["tokens"]), len(gates["forget"][0]))
    page.click("#map-forget-forward", position={"x": x, "y": y})
    assert page.input_value("#unit-number") == "5"
    assert page.locator("#unit path[data-series]").count() == len(gates)
    page.click("#unit details summary")
    rows = page.locator("#unit tbody tr")
    rows.first.wait_for()  # the page fills it a moment after the click
    assert rows.count() == len(trace["tokens"])
    for token, row in enumerate(rows.all_inner_texts()):
        cells = row.split("\t")
        assert cells[1] == trace["tokens"][token]["text"]
        assert [_value(cell) for cell in cells[2:]] == pytest.approx(
            [gates[gate][token][5] for gate in gates], abs=6e-5
        )
    visit.picture("unit")


def test_markup_in_the_text_stays_text(visit: Visit) -> None:
    page = visit.open()
    visit.type(INJECTION)
    assert "<img" in " ".join(page.locator("#mattered .chip-text").all_inner_texts()).replace("< ", "<")
    assert page.locator("main img").count() == 0
    assert page.title().startswith("Gatelight")
    page.select_option("#model-a", "ner-bilstm")
    visit.ready()
    assert page.inner_text(".tagged").replace("\n", "") == INJECTION
    assert page.title().startswith("Gatelight")


def test_nothing_comes_from_elsewhere(visit: Visit) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    visit.open()
    assert asked
    assert all(url.startswith(visit.url) for url in asked)
    policy = visit.api.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_late_answers_are_dropped(visit: Visit) -> None:
    page = visit.open()
    held: list[object] = []

    def hold(route: object) -> None:
        body = route.request.post_data_json  # type: ignore[attr-defined]  # Playwright's route
        held.append(route) if body["inputs"] == "bad" else route.continue_()  # type: ignore[attr-defined]  # as above

    page.route("**/gates", hold)
    page.fill("#text-a", "bad")
    visit.until(lambda: held)
    visit.type("A wonderful film.")
    for route in held:
        route.continue_()  # type: ignore[attr-defined]  # as above
    visit.pause(300)
    assert page.locator("#mattered .chip-text").all_inner_texts() == ["A", "wonderful", "film", "."]


def _plain(value: float) -> str:
    return f"{value:.3f}".replace("-", "−").replace("−0.000", "0.000")


def _signed(value: float) -> str:
    text = f"{value:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def _value(text: str) -> float:
    return float(text.replace("−", "-"))


def test_a_tagger_says_what_raw_text_costs_it(visit: Visit) -> None:
    found = {"data": "news dev", "sentences": 50, "same_tokens": 0.5, "entities": 79, "recut": 12, "across": 3}

    def measured(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        for model in body["models"]:
            model["raw_text"] = [found | {"f1_tokens": 0.935, "f1": 0.61}] if model["task"] == "ner" else []
        route.fulfill(response=answer, json=body)

    visit.page.route("**/models", measured)
    page = visit.open("#model=ner-bilstm")
    assert page.inner_text("#raw-a") == (
        "Raw text is cut otherwise than news dev in 12 of its 79 names: F1 61.0 % there, "
        "93.5 % on the corpus's own tokens."
    )
    assert "on raw text 61.0 %" in page.inner_text("#facts-a")
    page.select_option("#model-a", "sentiment-bilstm")
    assert page.locator("#raw-a").is_hidden()
