"""The reading guides: their pictures are there and small, their figures those of the model that ships."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from docs.figures import asking, figures, fill
from docs.pictures import PICTURES, views
from tests.integration.conftest import Process, served

__all__ = ["served"]

ROOT = Path(__file__).resolve().parents[1]
READING = ROOT / "docs" / "reading"
LARGEST = 200_000
NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.mark.parametrize("page", sorted(READING.glob("*.md")), ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert targets or page.name != "README.md"
    for target in targets:
        assert (READING / target).is_file(), target


def test_every_picture_is_taken_by_the_command_and_small() -> None:
    assert {path.stem for path in READING.glob("*.png")} == set(PICTURES)
    for path in READING.glob("*.png"):
        assert path.stat().st_size < LARGEST, path.name


def test_the_figures_are_those_of_the_model_that_ships(served: Process) -> None:
    found = figures(asking(served.url))
    for page in sorted(READING.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert alike(text, fill(text, found)), f"{page.name} is of another model: make pictures"
    assert views(found).keys() == set(PICTURES)


def test_a_figure_of_another_model_is_noticed() -> None:
    guide = "Units <!--=units-->3 and 14<!--/--> keep <!--=mean-->0.98<!--/--> of it."
    assert alike(guide, fill(guide, {"units": "3 and 14", "mean": "0.99"}))
    assert not alike(guide, fill(guide, {"units": "3 and 15", "mean": "0.98"}))
    assert not alike(guide, fill(guide, {"units": "3 and 14", "mean": "0.96"}))
    with pytest.raises(KeyError):
        fill(guide, {"units": "3 and 14"})


def test_what_a_guide_concludes_has_to_hold() -> None:
    def ask(text: str | None = None, **more: Any) -> dict[str, Any]:
        gate = {"mean": [0.5] * 8, "above": [0.0] * 8, "below": [0.0] * 8}
        of = {"gates": {"forget": gate, "input": gate}, "horizon": [1.0] * 8}
        return {"version": "1", "tokens": [], "layers": [{"layer": 0, "direction": "forward", "statistics": of}]}

    with pytest.raises(ValueError, match="four forget gates stay near 1"):
        figures(ask)


def alike(one: str, other: str) -> bool:
    """Whether two texts are the same, but for one in the last place of numbers that are not whole."""
    if NUMBER.sub("", one) != NUMBER.sub("", other):
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return all(abs(float(a) - float(b)) <= 1.01 * 10 ** -len(a.partition(".")[2]) for a, b in pairs)
