"""Statistics, comparing, sharing and exporting: what the page shows and gives away is what the API answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from tests.browser.conftest import Visit
from tests.patience import PATIENCE

TEXT = "The plot is thin but the leads are wonderful."


def test_statistics_are_those_of_the_api(visit: Visit) -> None:
    page = visit.open()
    visit.type(TEXT)
    layer = visit.gates(inputs=TEXT, reduce="summary", statistics=True)["traces"][0]["layers"][0]
    tables = {title: _table(visit, "#statistics", title) for title in ("Means", "Saturation", "Horizons")}
    gates = list(layer["gates"])
    for token, row in enumerate(tables["Means"]):  # the page adds up in another order: the last place may differ
        shown = [float(cell.replace("−", "-")) for cell in row[2:]]
        assert shown == pytest.approx([layer["gates"][gate]["mean"][token] for gate in gates], abs=1e-4)
    forget = layer["statistics"]["gates"]["forget"]
    assert [row[1:3] for row in tables["Saturation"]] == [
        [_number(below, 2), _number(above, 2)] for below, above in zip(forget["below"], forget["above"], strict=True)
    ]
    horizon = layer["statistics"]["horizon"]
    assert [float(row[1]) for row in tables["Horizons"]] == pytest.approx(horizon, abs=0.006, rel=1e-4)
    assert page.locator("#statistics circle.point").count() == 3 * len(horizon)
    visit.picture("statistics")


def test_units_are_sorted_and_filtered(visit: Visit) -> None:
    page = visit.open()
    visit.type(TEXT)
    page.select_option("#sort", "change")
    page.select_option("#by", "input")
    page.fill("#units", "3, 10-14")
    page.keyboard.press("Enter")
    page.wait_for_selector("canvas[aria-label*=': 6 units']")
    layer = visit.gates(inputs=TEXT, statistics=True)["traces"][0]["layers"][0]
    change = layer["statistics"]["gates"]["input"]["change"]
    wanted = sorted([3, *range(10, 15)], key=lambda unit: -change[unit])
    columns = len(layer["gates"]["cell"])
    for row in (0, 5):
        x, y = visit.cell("map-cell-forward", 1, row, columns, 6)
        page.hover("#map-cell-forward", position={"x": x, "y": y})
        page.wait_for_selector(f".where:has-text('unit {wanted[row]},')")
    page.fill("#units", "3, 500")
    page.keyboard.press("Enter")
    assert "0 to 127" in page.inner_text("#units-problem")


def test_two_texts_are_compared_token_by_token(visit: Visit) -> None:
    page = visit.open()
    visit.type("A good film.")
    page.click("#compare")
    page.fill("#text-b", "A not good film.")
    visit.ready()
    page.wait_for_selector("#difference .share")
    first, second = (visit.gates(inputs=text)["traces"][0] for text in ("A good film.", "A not good film."))
    label = first["prediction"]["label"]
    at = first["contributions"]["labels"].index(label)
    difference = second["contributions"]["logits"][at] - first["contributions"]["logits"][at]
    assert _value(page.inner_text("[data-term=difference]")) == pytest.approx(difference, abs=6e-4)
    rows = _table(visit, "#difference", "The difference")
    assert [row[1] for row in rows] == ["A", "not", "good", "film", "."]
    pairs = [(0, 0), (None, 1), (1, 2), (2, 3), (3, 4)]
    for row, (one, other) in zip(rows, pairs, strict=True):
        a = first["contributions"]["tokens"][one][at] if one is not None else 0.0
        b = second["contributions"]["tokens"][other][at] if other is not None else 0.0
        assert _value(row[4]) == pytest.approx(b - a, abs=6e-5)
    assert page.locator("#map-forget-difference").count() == 1
    visit.picture("compare-texts")
    page.click("#compare")
    assert page.locator("#map-forget-difference").count() == 0


def test_two_models_are_compared(visit: Visit) -> None:
    page = visit.open(f"#model=sentiment-bilstm&text={TEXT}&with=sentiment-bigru&and={TEXT}")
    page.wait_for_selector("#map-update-b")
    page.wait_for_selector("#keeping .chart")
    assert page.locator("#map-forget-a").count() == 1
    assert page.locator("#map-hidden-difference").count() == 0
    lstm, gru = (
        visit.gates(model=model, inputs=TEXT, reduce="summary")["traces"][0]["layers"][0]["gates"]
        for model in ("sentiment-bilstm", "sentiment-bigru")
    )
    for token, row in enumerate(_table(visit, "#keeping", "What is kept")):
        kept = [lstm["forget"]["mean"][token], 1 - gru["update"]["mean"][token]]
        assert [_value(cell) for cell in row[2:4]] == pytest.approx(kept, abs=6e-5)
    visit.picture("compare-models")


def test_both_forms_of_peepholes_stand_side_by_side(visit: Visit) -> None:
    models = ("sentiment-peephole", "sentiment-peephole-full")
    page = visit.open(f"#model={models[0]}&text={TEXT}&with={models[1]}&and={TEXT}")
    for gate in ("forget", "input", "output", "candidate", "cell", "hidden"):
        for side in ("a", "b"):
            page.wait_for_selector(f"#map-{gate}-{side}")
    kept = _table(visit, "#keeping", "What is kept")
    for column, model in enumerate(models, start=2):
        (layer,) = visit.gates(model=model, inputs=TEXT, reduce="summary")["traces"][0]["layers"]
        shown = [_value(row[column]) for row in kept]
        assert shown == pytest.approx(layer["gates"]["forget"]["mean"], abs=6e-5)


def test_a_link_opens_the_same_view(visit: Visit) -> None:
    page = visit.open("#model=sentiment-lstm")
    visit.type("Schön & good + 100% <b>?")
    page.click("#mattered .segments label:has-text('positive')")
    page.fill("#unit-number", "7") if page.is_visible("#unit-number") else None
    page.click("#map-cell-forward", position={"x": 120, "y": 80})
    visit.pause(400)  # the address is written a moment later
    seen = [page.inner_text(".where"), page.inner_text(".sum"), page.input_value("#unit-number")]
    fragment = page.evaluate("location.hash")
    page.goto("about:blank")
    page = visit.open(fragment)
    assert page.input_value("#text-a") == "Schön & good + 100% <b>?"
    assert page.input_value("#model-a") == "sentiment-lstm"
    page.mouse.move(0, 0)
    assert [page.inner_text(".where"), page.inner_text(".sum"), page.input_value("#unit-number")] == seen


def test_what_is_taken_along(visit: Visit, tmp_path: Path) -> None:
    visit.open()
    visit.type(TEXT)
    trace = visit.gates(inputs=TEXT)["traces"][0]
    saved = {name: _download(visit, name, tmp_path) for name in ("PNG", "SVG", "JSON", "safetensors")}
    assert saved["PNG"].read_bytes().startswith(b"\x89PNG")
    assert len(saved["PNG"].read_bytes()) > 50_000
    svg = ET.parse(saved["SVG"]).getroot()
    texts = {node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {token["text"] for token in trace["tokens"]} <= texts
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}image"))) == 12
    assert json.loads(saved["JSON"].read_bytes())["traces"][0]["layers"] == trace["layers"]
    cell = load(saved["safetensors"].read_bytes())["0/0/forward/cell"]
    assert cell == pytest.approx(np.array(trace["layers"][0]["gates"]["cell"]), abs=1e-6)


_OVERLAPS = """svg => {
    const texts = [...svg.querySelectorAll("text:not([transform])")].filter((text) => text.textContent);
    const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
    const right = svg.getBoundingClientRect().right;
    const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 4 && b.top < a.bottom - 4;
    const overlaps = boxes.flatMap(([one, a], at) =>
        boxes.slice(at + 1).filter(([, b]) => meet(a, b)).map(([other]) => [one, other]));
    return [...overlaps, ...boxes.filter(([, box]) => box.right > right).map(([text]) => [text, "the edge"])];
}"""


@pytest.mark.parametrize("family", ["DejaVu Sans", "DejaVu Sans Mono", "sans-serif"])
@pytest.mark.parametrize(
    "fragment",
    [
        f"#text={TEXT}",
        f"#model=ner-bilstm-conll2003&text={' and '.join(['The United Nations met Ada Lovelace'] * 9)}",
        f"#model=ner-bilstm&text={'漢字' * 90} Ada {'w' * 300} {'a' * 40}",
        f"#model=ner-bilstm&text={TEXT}&with=ner-bilstm-conll2003&and={TEXT}",
        f"#text={TEXT}&with=sentiment-bilstm&and=Not at all.",
    ],
)
def test_no_texts_of_a_picture_overlap(visit: Visit, tmp_path: Path, fragment: str, family: str) -> None:
    page = visit.open(fragment)
    page.wait_for_selector("#statistics .chart")
    svg = _download(visit, "SVG", tmp_path).read_text(encoding="utf-8")
    assert 'font-family="system-ui' in svg
    svg = re.sub(r'font-family="[^"]*"', f'font-family="{family}"', svg)
    page.goto("about:blank")
    page.set_content(svg)
    assert page.eval_on_selector("svg", _OVERLAPS) == []
    page.locator("svg").screenshot(path=visit.folder / f"picture-{len(fragment)}-{family.split()[-1]}.png")


def test_the_lines_to_take_along_run(visit: Visit) -> None:
    page = visit.open()
    visit.type('It\'s "so" good — 👍 $HOME `x`')
    page.click("#take button:has-text('Python')")
    code = page.inner_text("#take pre")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "0/0/forward/forget" in ran.stdout
    page.click("#take button:has-text('curl')")
    line = page.inner_text("#take pre")
    assert line.startswith("curl ")
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert json.loads(ran.stdout)["traces"][0]["tokens"][0]["text"] == "It"


def _download(visit: Visit, name: str, folder: Path) -> Path:
    with visit.page.expect_download() as waiting:
        visit.page.click(f"#take button:has-text('{name}')")
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def _table(visit: Visit, inside: str, title: str) -> list[list[str]]:
    """The rows of a table behind a picture, headings of rows included."""
    page: Any = visit.page
    summary = page.locator(f"{inside} summary:has-text('{title} as a table')").first
    summary.click()
    summary.locator("xpath=..").locator("tbody tr").first.wait_for()  # the page fills it a moment after the click
    return page.evaluate(
        "summary => [...summary.parentElement.querySelectorAll('tbody tr')].map("
        "row => [...row.children].map(cell => cell.textContent))",
        summary.element_handle(),
    )


def _number(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    return text if value >= 0 or float(text) == 0 else f"−{text}"


def _value(text: str) -> float:
    return float(text.replace("−", "-"))
