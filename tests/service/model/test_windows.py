"""A window of words before a minimal cell: what each step reads, in graphs, streams, splits and bundles."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import BundleError
from service.model import bundle as bundles
from service.model.bundle import MANIFEST, Bundle
from service.model.contributions import contributions
from service.model.engine import Engine
from service.model.equations import Direction
from service.model.streams.stepping import Stepper
from service.model.window_shares import word_shares
from service.model.windows import definition, reach, widen
from service.scoring import parity
from tests.bundles import Kind, architecture, random_rows, tiny_bundle
from tests.service.model.streams.test_stepping import job, numbers

CELLS: tuple[Kind, ...] = ("mingru", "minlstm")
FORWARD: tuple[Direction, ...] = ("forward",)
BOTH: tuple[Direction, ...] = ("forward", "backward")


@pytest.mark.parametrize(
    ("words", "directions", "expected", "text"),
    [
        (1, FORWARD, (0, 0), "x_t = [e_t]"),
        (2, FORWARD, (1, 0), "x_t = [e_{t-1}, e_t]"),
        (3, FORWARD, (2, 0), "x_t = [e_{t-2}, e_{t-1}, e_t]"),
        (1, BOTH, (0, 0), "x_t = [e_t]"),
        (2, BOTH, (1, 0), "x_t = [e_{t-1}, e_t]"),
        (3, BOTH, (1, 1), "x_t = [e_{t-1}, e_t, e_{t+1}]"),
        (4, BOTH, (2, 1), "x_t = [e_{t-2}, e_{t-1}, e_t, e_{t+1}]"),
        (5, BOTH, (2, 2), "x_t = [e_{t-2}, e_{t-1}, e_t, e_{t+1}, e_{t+2}]"),
    ],
)
def test_a_forward_window_needs_no_later_word(
    words: int, directions: tuple[Direction, ...], expected: tuple[int, int], text: str
) -> None:
    assert reach(words, directions) == expected
    assert definition(*expected) == text


def test_past_the_ends_of_a_text_there_are_zeros() -> None:
    vectors = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert widen(vectors, 1, 1).tolist() == [[0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 0, 0]]
    assert widen(vectors, 2, 0).tolist() == [[0, 0, 0, 0, 1, 2], [0, 0, 1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]
    assert widen(vectors[:1], 3, 3).tolist() == [[0, 0] * 3 + [1, 2] + [0, 0] * 3]
    assert widen(vectors, 0, 0) is vectors


@pytest.mark.parametrize(
    ("cell", "bidirectional", "layers", "words"), list(product(CELLS, (False, True), (1, 2), (2, 3)))
)
def test_a_bundle_passes_its_own_check(
    tmp_path: Path, cell: Kind, bidirectional: bool, layers: int, words: int
) -> None:
    """Torch, the graph and the equations agree when it is exported; here the graph and the equations once more."""
    bundle = tiny_bundle(tmp_path / "m", cell=cell, bidirectional=bidirectional, layers=layers, window_words=words)
    assert bundle.manifest.window_words == words
    assert bundle.manifest.gates_graph == "model.onnx"
    checks, unknown = parity.check(bundle, Engine(bundle))
    assert unknown is None
    assert all(check.ok for check in checks)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_padded_row_reads_no_padding(tmp_path: Path, bidirectional: bool) -> None:
    options: Any = {"cell": "mingru", "bidirectional": bidirectional, "window_words": 3, "head": "last"}
    engine = Engine(tiny_bundle(tmp_path / "m", **options))
    rows = random_rows(architecture(**options), (1, 9, 2, 30))
    for row, logits in zip(rows, engine.predict(rows), strict=True):
        np.testing.assert_allclose(logits, engine.predict([row])[0], atol=2e-6)


@pytest.mark.parametrize(("cell", "words"), list(product(CELLS, (2, 3, 5))))
@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_a_stream_reads_the_windows_of_the_whole_text(tmp_path: Path, cell: Kind, words: int, task: Any) -> None:
    options: Any = {"task": task, "cell": cell, "bidirectional": False, "window_words": words}
    engine = Engine(tiny_bundle(tmp_path / "m", **options))
    stepper = Stepper(engine.network)
    rows = random_rows(architecture(**options), (1, 4, 19, 7))
    states = [stepper.start for _ in rows]
    at = [0] * len(rows)
    found: list[list[list[float]]] = [[] for _ in rows]
    for piece in (1, 2, 1, 12):  # several streams step together, each at its own place
        some = [number for number, row in enumerate(rows) if at[number] < len(row)]
        jobs = [job(rows[number][at[number] : at[number] + piece + number], states[number]) for number in some]
        for number, asked, stepped in zip(some, jobs, stepper.run(jobs), strict=True):
            at[number] += len(asked.rows)
            states[number], found[number] = stepped.state, stepped.logits
    for row, last in zip(rows, found, strict=True):
        expected = engine.predict([row])[0]
        np.testing.assert_allclose(last[-1], expected[-1] if task == "ner" else expected, atol=2e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_stream_of_single_tokens_keeps_the_words_before(tmp_path: Path, layers: int) -> None:
    options: Any = {"task": "ner", "cell": "mingru", "bidirectional": False, "window_words": 3, "layers": layers}
    engine = Engine(tiny_bundle(tmp_path / "m", **options))
    stepper = Stepper(engine.network)
    rows = random_rows(architecture(**options), (9, 9, 5))
    expected = engine.predict(rows)
    states = [stepper.start for _ in rows]
    for token in range(9):
        some = [number for number, row in enumerate(rows) if token < len(row)]
        stepped = stepper.run([job(rows[number][token : token + 1], states[number]) for number in some])
        for number, found in zip(some, stepped, strict=True):
            states[number] = found.state
            np.testing.assert_allclose(found.logits[0], expected[number, token], atol=2e-6)
    alone = stepper.start
    for token in range(9):
        (found,) = stepper.run([job(rows[0][token : token + 1], alone)])
        alone = found.state
    np.testing.assert_allclose(found.logits[0], expected[0, 8], atol=2e-6)
    np.testing.assert_allclose(numbers(stepper, alone), numbers(stepper, states[0]), atol=2e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_with_layers_below_the_split_is_one_of_positions(tmp_path: Path, bidirectional: bool) -> None:
    options: Any = {"cell": "minlstm", "bidirectional": bidirectional, "window_words": 3, "head": "mean", "layers": 2}
    bundle = tiny_bundle(tmp_path / "m", **options)
    engine = Engine(bundle)
    rows = random_rows(architecture(**options), (12,))
    gates = engine.trace(rows).gates(0)
    assert word_shares(engine.network, rows[0], gates, {}) is None
    found = contributions(bundle.manifest, engine.head_weight, engine.head_bias, gates)
    assert found is not None
    assert found["of"] == "top-layer positions"
    assert "window" not in found["method"]


def test_the_equations_say_what_the_input_is(tmp_path: Path) -> None:
    plain = tiny_bundle(tmp_path / "plain", cell="minlstm").manifest.equations
    wide = tiny_bundle(tmp_path / "wide", cell="minlstm", window_words=3).manifest.equations
    said = "  (in layer 0 x_t = [e_{t-1}, e_t, e_{t+1}], e_t being the vector of word t)"
    assert {gate: text.removesuffix(said) for gate, text in wide.items()} == plain
    assert [gate for gate in wide if wide[gate] != plain[gate]] == ["forget", "input", "candidate"]
    card = (tmp_path / "wide" / "1" / "README.md").read_text("utf-8")
    assert "Each step of its first layer reads 3 words: x_t = [e_{t-1}, e_t, e_{t+1}]" in card
    assert "the effect of each token's deletion is exact, from one pass" in card
    assert "a token's share" not in card


def changed(bundle: Bundle, **fields: Any) -> Path:
    """A bundle with another manifest, or without a field that is None."""
    file = bundle.file(MANIFEST)
    manifest = json.loads(file.read_text("utf-8")) | fields
    file.write_text(json.dumps({name: value for name, value in manifest.items() if value is not None}), "utf-8")
    return bundle.path


def test_a_bundle_from_before_there_were_windows_reads_one_word(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "m", cell="mingru")
    row = random_rows(architecture(cell="mingru"), (9,))
    before = Engine(bundle).predict(row)
    older = bundles.load(changed(bundle, window_words=None))
    assert "window_words" not in json.loads(older.file(MANIFEST).read_text("utf-8"))
    assert older.manifest.window_words == 1
    assert older.manifest.window == (0, 0)
    np.testing.assert_array_equal(Engine(older).predict(row), before)


@pytest.mark.parametrize(
    ("cell", "words", "reason"),
    [
        ("lstm", 3, "window_words belongs to the cells mingru and minlstm, and only to them"),
        ("mingru", 0, "window_words: Input should be greater than or equal to 1"),
        ("mingru", 10, "window_words: Input should be less than or equal to 9"),
        ("mingru", 2.0, "window_words: Input should be a valid integer"),
    ],
)
def test_a_manifest_with_a_window_that_cannot_be_is_refused(
    tmp_path: Path, cell: Kind, words: float, reason: str
) -> None:
    with pytest.raises(BundleError, match=reason):
        bundles.load(changed(tiny_bundle(tmp_path / "m", cell=cell), window_words=words))
