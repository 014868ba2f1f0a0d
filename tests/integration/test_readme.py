"""What the README and its pages show is what the service says."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests import readme
from tests.integration.conftest import ROOT, Process

TEXT = readme.README.read_text(encoding="utf-8")
CALLS = [
    pytest.param(call, id=f"{document.stem}-{number}")
    for document in readme.DOCUMENTS
    for number, call in enumerate(readme.calls(document.read_text(encoding="utf-8")))
]
MOST_WORDS = 1300


def alike(shown: Any, answered: Any) -> bool:
    """The same, but for the last digits of a score: they differ between processors."""
    if isinstance(shown, dict):
        return shown.keys() == answered.keys() and all(alike(shown[key], answered[key]) for key in shown)
    if isinstance(shown, list):
        return len(shown) == len(answered) and all(map(alike, shown, answered))
    if isinstance(shown, float):
        return shown == pytest.approx(answered, abs=2e-4)
    return bool(shown == answered)


def test_the_readme_shows_predictions_entities_and_gates() -> None:
    calls = list(readme.calls(TEXT))
    asked = " ".join(call.command for call in calls)
    assert len(calls) >= 3
    assert all(word in asked for word in ("/predict", "/gates", '"ner"'))


def test_the_first_screen_goes_from_nothing_to_an_answer() -> None:
    first = TEXT.splitlines()[:30]
    assert first.index("make serve") < next(number for number, line in enumerate(first) if line.startswith("curl "))


def test_the_readme_is_short() -> None:
    assert len(TEXT.split()) <= MOST_WORDS


@pytest.mark.parametrize("call", CALLS)
def test_a_curl_line_gives_what_is_shown(call: readme.Call, served: Process) -> None:
    assert alike(json.loads(call.shown), call.run(served.client))


def test_the_tables_are_what_the_bundles_and_the_benchmarks_say() -> None:
    shown: dict[str, str] = {}
    for document in readme.DOCUMENTS:
        shown |= readme.shown_tables(document.read_text(encoding="utf-8"))
    assert shown == {name: made() for name, made in readme.TABLES.items()}


def test_the_make_targets_that_the_readme_names_exist() -> None:
    named = {line.split()[1] for line in TEXT.splitlines() if line.startswith("make ")}
    assert {"serve", "test", "train"} <= named
    for target in named:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
