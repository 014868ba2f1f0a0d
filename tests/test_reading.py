"""The reading guides: their pictures are there, small, and the ones that the command takes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
READING = ROOT / "docs" / "reading"
LARGEST = 200_000


@pytest.mark.parametrize("page", sorted(READING.glob("*.md")), ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert targets or page.name != "README.md"
    for target in targets:
        assert (READING / target).is_file(), target


def test_every_picture_is_taken_by_the_command_and_small() -> None:
    source = ast.parse((ROOT / "docs" / "pictures.py").read_text(encoding="utf-8"))
    views = next(
        node.value
        for node in source.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "VIEWS"
    )
    assert isinstance(views, ast.Dict)
    taken = {key.value for key in views.keys if isinstance(key, ast.Constant)}
    assert {path.stem for path in READING.glob("*.png")} == taken
    for path in READING.glob("*.png"):
        assert path.stat().st_size < LARGEST, path.name
