"""Deletion effects in closed form, against really leaving each token out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.model.bundle import Head
from service.model.deletion import closed_form, has_closed_form, is_limited
from service.model.engine import Engine
from tests.bundles import KINDS, Kind, architecture, draft, network, random_rows

HEADS: list[Head] = ["last", "mean", "max", "attention"]
CELLS = [("mingru", 1), ("minlstm", 1), ("mingru", 3), ("minlstm", 3), ("mingru", 2), ("mingru", 6)]
"""Cells, and the words of their windows."""


@pytest.mark.parametrize("length", [1, 2, 20, 75])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("cell", "words"), CELLS)
def test_each_effect_is_that_of_leaving_the_token_out(
    tmp_path: Path, cell: Kind, words: int, bidirectional: bool, head: Head, length: int
) -> None:
    shape = architecture(cell=cell, bidirectional=bidirectional, head=head, window_words=words)
    bundle = draft(network(shape), tmp_path)
    engine = Engine(bundle)
    (row,) = random_rows(shape, (length,), seed=length)
    trace = engine.trace([row])
    found = closed_form(engine.network, row, trace.gates(0))
    assert found["exact"] is True
    assert found["labels"] == list(shape.labels)
    left = [np.delete(row, token, axis=0) for token in range(length)]
    logits = engine.predict(left) if length > 1 else engine.head_bias[None]
    np.testing.assert_allclose(np.array(found["tokens"]), logits - trace.logits[0], atol=2e-6)


@pytest.mark.parametrize("explain", [0, 7, 19])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("cell", "words"), CELLS)
def test_a_taggers_effects_are_those_on_the_explained_token(
    tmp_path: Path, cell: Kind, words: int, bidirectional: bool, explain: int
) -> None:
    shape = architecture(task="ner", cell=cell, bidirectional=bidirectional, window_words=words)
    bundle = draft(network(shape), tmp_path)
    engine = Engine(bundle)
    (row,) = random_rows(shape, (20,))
    trace = engine.trace([row])
    found = closed_form(engine.network, row, trace.gates(0), explain)
    for token, effect in enumerate(found["tokens"]):
        if token == explain:
            assert effect is None
            continue
        kept = [each for each in range(20) if each != token]
        after = engine.predict([row[kept]])[0, kept.index(explain)]
        np.testing.assert_allclose(np.array(effect), after - trace.logits[0, explain], atol=2e-6)


def test_over_2000_tokens_nothing_underflows(tmp_path: Path) -> None:
    shape = architecture(cell="mingru", head="mean")
    bundle = draft(network(shape), tmp_path)
    engine = Engine(bundle)
    (row,) = random_rows(shape, (2000,))
    trace = engine.trace([row])
    found = closed_form(engine.network, row, trace.gates(0))
    for token in (0, 1, 999, 1998, 1999):
        after = engine.predict([np.delete(row, token, axis=0)])[0]
        np.testing.assert_allclose(np.array(found["tokens"][token]), after - trace.logits[0], atol=2e-6)


def test_one_layer_of_a_minimal_cell_has_a_closed_form(tmp_path: Path) -> None:
    for cell in KINDS:
        for layers in (1, 2):
            manifest = draft(network(architecture(cell=cell, layers=layers)), tmp_path / f"{cell}-{layers}").manifest
            assert has_closed_form(manifest) is (cell in ("mingru", "minlstm") and layers == 1)
    assert is_limited(manifest.model_copy(update={"head": "attention"}))
    assert not is_limited(manifest.model_copy(update={"head": "last"}))
    assert is_limited(manifest.model_copy(update={"head": "last", "window_words": 2}))


def test_two_deletions_do_not_add_up(tmp_path: Path) -> None:
    """What the first token's absence changes passes through the second one: the page says so, and here it is so."""
    shape = architecture(cell="mingru", bidirectional=False, head="last")
    bundle = draft(network(shape), tmp_path)
    engine = Engine(bundle)
    (row,) = random_rows(shape, (6,))
    effects = closed_form(engine.network, row, engine.trace([row]).gates(0))["tokens"]
    both = engine.predict([np.delete(row, [3, 5], axis=0)])[0] - engine.predict([row])[0]
    assert np.abs(np.array(effects[3]) + np.array(effects[5]) - both).max() > 1e-3
