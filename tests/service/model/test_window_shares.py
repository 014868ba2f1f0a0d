"""The shares of a window's words, against Shapley's formula in float64, and in the split that the service answers."""

from __future__ import annotations

from itertools import combinations, product
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model import window_shares
from service.model.contributions import contributions
from service.model.engine import Engine, GateKey
from service.model.interventions import Setting, run, values_set
from service.model.window_shares import word_shares
from tests.bundles import Kind, architecture, random_rows, tiny_bundle

Array = NDArray[np.float64]
CELLS: tuple[Kind, ...] = ("mingru", "minlstm")


def made(folder: Path, cell: Kind, bidirectional: bool, words: int, head: str = "attention", tokens: int = 9) -> Any:
    """An engine, a row, and its gates."""
    options: Any = {"cell": cell, "bidirectional": bidirectional, "window_words": words}
    options |= {"task": "ner"} if head == "tagger" else {"head": head}
    engine = Engine(tiny_bundle(folder / "m", **options))
    row = random_rows(architecture(**options), (tokens,))[0]
    return engine, row, engine.trace([row]).gates(0)


def value(engine: Engine, row: NDArray[np.int32], way: int, step: int, chosen: frozenset[int]) -> Array:
    """The value that a step writes if its window holds these words alone, in float64 from the weights."""
    z, candidate = gates_of(engine, row, way, step, chosen)
    return z * candidate


def gates_of(
    engine: Engine, row: NDArray[np.int32], way: int, step: int, chosen: frozenset[int]
) -> tuple[Array, Array]:
    """Both factors of this value: the gate that lets it in, and the candidate."""
    network = engine.network
    before, after = network.manifest.window
    vectors = network.embed(row).astype(np.float64)
    parts = []
    for place in range(-before, after + 1):
        inside = 0 <= step + place < len(vectors) and place + before in chosen
        parts.append(vectors[step + place] if inside else np.zeros(vectors.shape[1]))
    layer, x = network.layer(0), np.concatenate(parts)
    sums = {part: w[way].astype(np.float64) @ x + layer.bias[part][way] for part, w in layer.w.items()}
    sigmoid = {part: 1 / (1 + np.exp(-each)) for part, each in sums.items()}
    z = sigmoid["update"] if "update" in sums else sigmoid["input"] / (sigmoid["input"] + sigmoid["forget"])
    return np.asarray(z), np.asarray(np.tanh(sums["candidate"]))


def shapley(engine: Engine, row: NDArray[np.int32], way: int, step: int, words: int) -> Array:
    """Shapley's formula, set by set: [words, units]."""
    found = []
    for word in range(words):
        others = [each for each in range(words) if each != word]
        total = np.zeros(engine.network.manifest.hidden)
        for size in range(words):
            for chosen in map(frozenset, combinations(others, size)):
                weight = factorial(size) * factorial(words - size - 1) / factorial(words)
                with_word, without = (
                    value(engine, row, way, step, chosen | {word}),
                    value(engine, row, way, step, chosen),
                )
                total += weight * (with_word - without)
        found.append(total)
    return np.stack(found)


@pytest.mark.parametrize(("cell", "bidirectional", "words"), list(product(CELLS, (False, True), (2, 3))))
def test_shares_are_shapley_values(tmp_path: Path, cell: Kind, bidirectional: bool, words: int) -> None:
    engine, row, gates = made(tmp_path, cell, bidirectional, words)
    found = word_shares(engine.network, row, gates, {})
    assert found is not None
    for way, shares in enumerate(found):
        assert shares.shape == (words, len(row), engine.network.manifest.hidden)
        for step in range(len(row)):
            np.testing.assert_allclose(shares[:, step], shapley(engine, row, way, step, words), atol=1e-6)


@pytest.mark.parametrize("words", [4, 5])
def test_wide_windows_take_two_orders(tmp_path: Path, words: int) -> None:
    engine, row, gates = made(tmp_path, "mingru", True, words)
    found = word_shares(engine.network, row, gates, {})
    assert found is not None
    for way, step in product(range(2), range(len(row))):
        expected = np.zeros((words, engine.network.manifest.hidden))
        for order in (range(words), range(words)[::-1]):
            for at, word in enumerate(order):
                after, before = frozenset(order[: at + 1]), frozenset(order[:at])
                expected[word] += value(engine, row, way, step, after) - value(engine, row, way, step, before)
        np.testing.assert_allclose(found[way][:, step], expected / 2, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_words_past_the_ends_have_no_share(tmp_path: Path, bidirectional: bool) -> None:
    engine, row, gates = made(tmp_path, "minlstm", bidirectional, 3, tokens=1)
    found = word_shares(engine.network, row, gates, {})
    assert found is not None
    own = engine.network.manifest.window[0]
    for shares in found:
        assert np.abs(np.delete(shares, own, axis=0)).max() < 1e-7
        assert np.abs(shares[own]).max() > 1e-3


def test_long_texts_are_computed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, row, gates = made(tmp_path, "mingru", True, 3, tokens=23)
    whole = word_shares(engine.network, row, gates, {})
    monkeypatch.setattr(window_shares, "STEPS", 4)
    pieces = word_shares(engine.network, row, gates, {})
    assert whole is not None
    assert pieces is not None
    np.testing.assert_allclose(np.stack(pieces), np.stack(whole), atol=1e-7)


@pytest.mark.parametrize(
    ("cell", "bidirectional", "head"),
    list(product(CELLS, (False, True), ("last", "mean", "max", "attention", "tagger"))),
)
def test_the_split_adds_up_and_neighbours_have_their_part(
    tmp_path: Path, cell: Kind, bidirectional: bool, head: str
) -> None:
    engine, row, gates = made(tmp_path, cell, bidirectional, 3, head)
    manifest, explain = engine.network.manifest, 4 if head == "tagger" else None
    arguments = (manifest, engine.head_weight, engine.head_bias, gates, explain, engine.head_query)
    words = word_shares(engine.network, row, gates, {})
    found, own = contributions(*arguments, words=words), contributions(*arguments)
    assert found is not None
    assert own is not None
    logits = engine.trace([row]).logits[0]
    np.testing.assert_allclose(
        found["bias"] + found["tokens"].sum(axis=0), logits if explain is None else logits[explain], atol=1e-5
    )
    np.testing.assert_allclose(found["tokens"].sum(axis=0), own["tokens"].sum(axis=0), atol=1e-9)
    assert np.abs(found["tokens"] - own["tokens"]).max() > 1e-6
    assert found["of"] == "tokens"
    assert "Shapley" in found["method"]


@pytest.mark.parametrize(("cell", "bidirectional"), list(product(CELLS, (False, True))))
def test_values_that_are_set_owe_nothing_to_words(tmp_path: Path, cell: Kind, bidirectional: bool) -> None:
    engine, row, _ = made(tmp_path, cell, bidirectional, 3, "mean")
    manifest, gate = engine.network.manifest, "update" if cell == "mingru" else "input"
    for direction in manifest.directions:
        for names, silent in (
            ((gate,), False),
            ((gate, "candidate"), True),
            (("hidden",), True),
            (("candidate",), False),
        ):
            settings = [Setting(0, direction, name, 0.5, (3,), (4,)) for name in names]
            gates = run(engine.network, [row], [settings]).gates(0)
            held: dict[GateKey, NDArray[np.bool_]] = values_set(manifest, settings, len(row))
            found, free = (word_shares(engine.network, row, gates, each) for each in (held, {}))
            assert found is not None
            assert free is not None
            way = manifest.directions.index(direction)
            here = found[way][:, 4, 3]
            assert (np.abs(here).max() < 1e-7) == silent
            if not silent:  # the other factor alone depends on the words
                other = names[0] == gate
                whole, none = (
                    gates_of(engine, row, way, 4, words)[other][3] for words in (frozenset(range(3)), frozenset[int]())
                )
                np.testing.assert_allclose(here.sum(), 0.5 * (whole - none), atol=1e-6)
            others = np.ones(found[way].shape, np.bool_)
            others[:, 4, 3] = False
            np.testing.assert_array_equal(found[way][others], free[way][others])
            split = contributions(manifest, engine.head_weight, engine.head_bias, gates, None, None, held, found)
            assert split is not None
            np.testing.assert_allclose(split["bias"] + split["tokens"].sum(axis=0), split["logits"], atol=1e-6)
