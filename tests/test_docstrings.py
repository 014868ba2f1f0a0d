"""Docstrings begin their sentences with a subject."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "deploy", "docs", "recipes", "service", "training")
_SENTENCES = re.compile(r"(?<=[.:?])\s+(?=[A-Z])")
_OTHER_FIRST_WORDS = re.compile(r"(?:of|what|whatever|where|which|who|whoever)\b", re.IGNORECASE)


def docstrings(code: str) -> Iterator[tuple[int, str]]:
    """The line and text of every docstring, with those below names."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def without_subject(code: str) -> list[str]:
    """The sentences that begin with another word, each with the line of its docstring."""
    return [
        f"{line}: {sentence[:60]}"
        for line, text in docstrings(code)
        for sentence in _SENTENCES.split(text.strip())
        if _OTHER_FIRST_WORDS.match(sentence)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_sentences_begin_with_a_subject(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [f"{path.relative_to(ROOT)}:{each}" for path in files for each in without_subject(path.read_text("utf-8"))]
    assert found == []


def test_every_docstring_is_read() -> None:
    code = '"""Fine. Where it is."""\n\nX = 1\n"""What X is."""\n\n\ndef f() -> None:\n    """Offers: of it."""\n'
    assert without_subject(code) == ["1: Where it is.", "4: What X is."]
