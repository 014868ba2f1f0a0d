"""Runs with gates, states and units set by hand, against the equations in float64; and what a request may set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from service.errors import InvalidField
from service.model.bundle import Bundle
from service.model.contributions import contributions
from service.model.engine import Engine
from service.model.equations import MINIMAL, Direction, gates
from service.model.interventions import (
    LARGEST_STATE,
    Interventions,
    Setting,
    apply,
    check_settings,
    check_tokens,
    run,
    values_set,
    within,
    without,
)
from service.model.loading import loader
from service.model.tokenizer import Encoded
from tests import clamped
from tests.bundles import (
    KINDS,
    ORIGIN,
    Kind,
    Options,
    architecture,
    draft,
    network,
    random_rows,
    tiny_bundle,
    tokenizer,
)
from training.export.bundle import export

SHAPES: list[Options] = [
    {"bidirectional": False},
    {"head": "mean"},
    {"head": "attention"},
    {"head": "last", "layers": 2},
    {"task": "ner", "layers": 2},
    {"task": "ner", "crf": True, "bidirectional": False},
    {"task": "ner", "characters": "cnn"},
    {"task": "ner", "characters": "lstm"},
    {"word_bits": 8},
    {"word_bits": 4, "head": "mean"},
]
WINDOWS: list[Options] = [
    {"bidirectional": False, "window_words": 3},
    {"window_words": 3, "layers": 2},
    {"task": "ner", "characters": "cnn", "window_words": 2, "bidirectional": False},
    {"task": "ner", "window_words": 4},
]
"""For minimal cells."""
CASES = 200
INT8 = len(SHAPES)
"""The number of the shape that is exported as integers."""


_folders = TemporaryDirectory(prefix="interventions-")


def options_of(kind: Kind, shape: int) -> Options:
    """Of the shapes with windows, those are negative."""
    return Options(**((WINDOWS[shape] if shape < 0 else SHAPES[shape]) | Options(cell=kind)))


@cache
def made(kind: Kind, shape: int) -> tuple[Bundle, Engine]:
    folder = Path(_folders.name) / f"{kind}-{shape}"
    if shape == INT8:
        form = architecture(hidden=16)
        bundle = export(network(form), tokenizer(form), ORIGIN, "CC0-1.0", folder, lambda _: [], precision="int8")
    else:
        bundle = draft(network(architecture(**options_of(kind, shape))), folder)
    return bundle, Engine(bundle)


def drawn(bundle: Bundle, length: int, random: np.random.Generator) -> Setting:
    """One random setting: any gate, some units or all, some tokens or all, a value in the gate's range."""
    manifest = bundle.manifest
    gate = random.choice(np.array(gates(manifest.cell, manifest.form), object))
    low, high = max(gate.low, -3.0), min(gate.high, 3.0)
    ends = [low, high, float(random.uniform(low, high))]

    def some(count: int) -> tuple[int, ...] | None:
        if random.random() < 0.3:
            return None
        return tuple(random.choice(count, random.integers(1, count + 1), replace=False).tolist())

    directions: tuple[Direction, ...] = manifest.directions
    return Setting(
        layer=int(random.integers(manifest.layers)),
        direction=directions[int(random.integers(len(directions)))],
        gate=gate.name,
        value=ends[int(random.integers(3))],
        units=some(manifest.hidden),
        tokens=some(length),
    )


@pytest.mark.parametrize("case", range(CASES))
def test_an_intervened_run_follows_the_equations(case: int) -> None:
    """200 random interventions over every cell, direction, layer, head, table and precision."""
    random = np.random.default_rng(case)
    kind = KINDS[case % len(KINDS)]
    shape = int(random.integers(-len(WINDOWS) if kind in MINIMAL else 0, INT8 + (kind == "lstm")))
    bundle, engine = made(kind, shape)
    lengths = tuple(random.integers(1, 12, size=int(random.integers(1, 4))).tolist())
    columns = architecture(**(Options() if shape == INT8 else options_of(kind, shape)))
    rows = random_rows(columns, lengths, case)
    settings = [[drawn(bundle, length, random) for _ in range(random.integers(1, 4))] for length in lengths]
    trace = run(engine.network, rows, settings)
    for number, row in enumerate(rows):
        logits, expected = clamped.run(bundle, row, settings[number])
        found = trace.gates(number)
        assert set(found) == set(expected)
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, rtol=2e-5, atol=2e-6, err_msg=str((key, settings[number])))
        own = trace.logits[number][: len(row)] if bundle.manifest.head == "tagger" else trace.logits[number]
        np.testing.assert_allclose(own, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "shape"), [*((kind, 4) for kind in KINDS), *product(sorted(MINIMAL), (-1, -2, -3, -4))]
)
def test_a_run_with_nothing_set_is_the_graphs_trace(kind: Kind, shape: int) -> None:
    _, engine = made(kind, shape)
    rows = random_rows(architecture(**options_of(kind, shape)), (30, 1, 17))
    plain, trace = engine.trace(rows), run(engine.network, rows, [()] * 3)
    for number, row in enumerate(rows):
        for key, values in plain.gates(number).items():
            np.testing.assert_allclose(trace.gate(key, number), values, atol=2e-6)
        of_row = slice(len(row)) if plain.logits.ndim == 3 else slice(None)
        np.testing.assert_allclose(trace.logits[number, of_row], plain.logits[number, of_row], atol=5e-6)


def test_what_is_set_stays_as_it_was_set_and_earlier_tokens_are_as_before() -> None:
    _, engine = made("lstm", 0)
    rows = random_rows(architecture(), (10,))
    plain = engine.trace(rows).gates(0)
    found = run(engine.network, rows, [[Setting(0, "forward", "forget", 0.25, (3, 7), (5,))]]).gates(0)
    assert found[0, "forward", "forget"][5, [3, 7]].tolist() == [0.25, 0.25]
    for key, values in plain.items():
        np.testing.assert_allclose(found[key][:5], values[:5], atol=1e-6)
    assert np.abs(found[0, "forward", "hidden"][6:] - plain[0, "forward", "hidden"][6:]).max() > 1e-4


def test_the_backward_reader_is_changed_at_the_token_and_before_it() -> None:
    _, engine = made("gru", 1)
    rows = random_rows(architecture(), (10, 14))
    plain = engine.trace(rows)
    settings: list[Sequence[Setting]] = [[Setting(0, "backward", "update", 1.0, None, (5,))], ()]
    found = run(engine.network, rows, settings)
    key: tuple[int, Direction, str] = (0, "backward", "hidden")
    np.testing.assert_allclose(found.gate(key, 0)[6:], plain.gate(key, 0)[6:], atol=1e-6)
    assert np.abs(found.gate(key, 0)[:6] - plain.gate(key, 0)[:6]).max(axis=1).min() > 1e-6
    np.testing.assert_allclose(found.gate(key, 1), plain.gate(key, 1), atol=1e-6)  # another row of the batch


def test_the_later_of_two_settings_of_one_value_counts() -> None:
    _, engine = made("lstm", 0)
    rows = random_rows(architecture(), (4,))
    first, second = Setting(0, "forward", "input", 1.0), Setting(0, "forward", "input", 0.0, (2,), (1,))
    found = run(engine.network, rows, [[first, second]]).gate((0, "forward", "input"), 0)
    assert found[1, 2] == 0.0
    assert (np.delete(found, 1, axis=0) == 1.0).all()


@pytest.mark.parametrize("kind", ["lstm", "peephole", "gru", "gru-before"])
@pytest.mark.parametrize("shape", [0, 1, 2, 3, 4])
def test_the_split_of_an_intervened_run_adds_up(kind: Kind, shape: int) -> None:
    bundle, engine = made(kind, shape)
    manifest = bundle.manifest
    row = random_rows(architecture(**SHAPES[shape]), (9,))[0]
    explain = 4 if manifest.head == "tagger" else None
    for number in range(12):
        random = np.random.default_rng(number)
        settings = [drawn(bundle, len(row), random) for _ in range(4)]
        trace = run(engine.network, [row], [settings])
        held = values_set(manifest, settings, len(row))
        found = contributions(
            manifest, engine.head_weight, engine.head_bias, trace.gates(0), explain, engine.head_query, held
        )
        assert found is not None
        logits = trace.logits[0] if explain is None else trace.logits[0, explain]
        np.testing.assert_allclose(found["bias"] + found["tokens"].sum(axis=0), logits, atol=1e-4)
        np.testing.assert_allclose(found["logits"], logits, atol=1e-4)


@pytest.mark.parametrize(("kind", "gate"), [("lstm", "cell"), ("gru", "hidden")])
def test_a_state_that_is_set_owes_nothing_to_the_tokens_before_it(kind: Kind, gate: str) -> None:
    bundle, engine = made(kind, 0)
    row = random_rows(architecture(bidirectional=False, head="last"), (8,))[0]
    manifest = bundle.manifest.model_copy(update={"head": "last"})
    settings = [Setting(0, "forward", gate, 0.5, None, (4,))]
    trace = run(engine.network, [row], [settings])
    held = values_set(manifest, settings, len(row))
    found = contributions(manifest, engine.head_weight, engine.head_bias, trace.gates(0), None, None, held)
    assert found is not None
    assert (found["tokens"][:4] == 0).all()
    assert (found["tokens"][4:] != 0).all()


# What a request may set


def setting(**changed: object) -> Setting:
    plain: dict[str, object] = {"layer": 0, "direction": "forward", "gate": "forget", "value": 0.5}
    return Setting(**(plain | changed))  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("changed", "pointer", "words"),
    [
        ({"layer": 1}, "/set/0/layer", "layer 0 alone"),
        ({"layer": -1}, "/set/0/layer", "out of range"),
        ({"direction": "backward"}, "/set/0/direction", "it has forward"),
        ({"gate": "update"}, "/set/0/gate", "lstm has no gate 'update'; it has forget, input"),
        ({"value": 1.01}, "/set/0/value", "forget lies in 0 to 1"),
        ({"value": 1.0000001}, "/set/0/value", "1.0000001 is out of range"),
        ({"value": -0.01}, "/set/0/value", "forget lies in 0 to 1"),
        ({"gate": "candidate", "value": -1.5}, "/set/0/value", "candidate lies in -1 to 1"),
        ({"gate": "hidden", "value": 2.0}, "/set/0/value", "hidden lies in -1 to 1"),
        ({"gate": "cell", "value": 2 * LARGEST_STATE}, "/set/0/value", "cell lies in -1e+06 to 1e+06"),
        ({"value": float("nan")}, "/set/0/value", "out of range"),
        ({"units": (8,)}, "/set/0/units/0", "units 0 to 7"),
        ({"units": (1, -2)}, "/set/0/units/1", "out of range"),
        ({"units": (1, 3, 1)}, "/set/0/units/2", "twice"),
        ({"units": ()}, "/set/0/units", "empty"),
        ({"tokens": ()}, "/set/0/tokens", "empty"),
        ({"tokens": (0, -1)}, "/set/0/tokens/1", "out of range"),
        ({"tokens": (0, 0)}, "/set/0/tokens/1", "twice"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_place(changed: dict[str, object], pointer: str, words: str) -> None:
    bundle, _ = made("lstm", 0)
    with pytest.raises(InvalidField) as refused:
        check_settings(bundle.manifest, [setting(**changed)])
    assert refused.value.problems[0].pointer == pointer
    assert words in refused.value.problems[0].detail


def test_the_first_problem_of_each_wrong_setting_is_told() -> None:
    bundle, _ = made("lstm", 0)
    wrong = [setting(value=2.0, layer=9), setting(), setting(value=3.0)]
    with pytest.raises(InvalidField) as refused:
        check_settings(bundle.manifest, wrong)
    assert [each.pointer for each in refused.value.problems] == ["/set/0/layer", "/set/2/value"]


def test_the_ends_of_every_gates_range_are_right() -> None:
    for kind in KINDS:
        manifest = made(kind, 0)[0].manifest
        for gate in gates(manifest.cell, manifest.form):
            ends = (max(gate.low, -LARGEST_STATE), min(gate.high, LARGEST_STATE))
            check_settings(manifest, [setting(gate=gate.name, value=end) for end in ends])


@pytest.mark.parametrize(
    ("interventions", "pointer", "words"),
    [
        (Interventions(dropped=(5,)), "/drop/0", "input 1 has tokens 0 to 4"),
        (Interventions(dropped=(1, 1)), "/drop/1", "twice"),
        (Interventions(dropped=(0, -1)), "/drop/1", "out of range"),
        (Interventions(dropped=(0, 1, 2, 3, 4)), "/drop", "input 1 keeps no token"),
        (Interventions((setting(), setting(tokens=(2, 6)))), "/set/1/tokens/1", "input 1 has tokens 0 to 4"),
        (Interventions((setting(tokens=(2, 3)),), (3,)), "/set/0/tokens/1", "token 3 is dropped"),
    ],
)
def test_token_numbers_have_to_be_there_in_every_input(interventions: Interventions, pointer: str, words: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check_tokens(interventions, [9, 5, 7])
    assert refused.value.problems[0].pointer == pointer
    assert words in refused.value.problems[0].detail


def test_token_numbers_that_every_input_has_are_right() -> None:
    check_tokens(Interventions((setting(tokens=(0, 3)),), (4, 1, 2)), [9, 5, 7])


# Dropping tokens


def encoded(sentences: Sequence[tuple[int, int]] | None = None) -> Encoded:
    words = ["a", "bb", "ccc", "dd", "e", "fff"]
    text = " ".join(words)
    starts = [sum(len(word) + 1 for word in words[:number]) for number in range(len(words))]
    spans = [(start, start + len(word)) for start, word in zip(starts, words, strict=True)]
    source = Encoded(text, spans, np.arange(12, dtype=np.int32).reshape(6, 2), False)
    source.sentences = sentences
    return source


def test_dropped_tokens_leave_the_others_where_they_are() -> None:
    found, kept = without(encoded(), (4, 1))
    assert kept == [0, 2, 3, 5]
    assert [token["text"] for token in found.tokens()] == ["a", "ccc", "dd", "fff"]
    assert found.rows[:, 0].tolist() == [0, 4, 6, 10]
    assert found.sentences is None


def test_a_sentence_that_loses_all_its_tokens_is_gone() -> None:
    assert without(encoded([(0, 2), (2, 4), (4, 6)]), (1, 2, 3))[0].sentences == [(0, 1), (1, 3)]


def test_settings_follow_their_tokens() -> None:
    applied = apply(encoded(), Interventions((setting(tokens=(5, 2)), setting()), (1, 3)), explain=4)
    assert applied.settings == (setting(tokens=(3, 1)), setting())
    assert (applied.explain, list(applied.kept)) == (2, [0, 2, 4, 5])


def test_a_setting_of_tokens_elsewhere_is_left_out() -> None:
    assert within([setting(tokens=(0, 1)), setting(tokens=(1, 4)), setting()], range(3, 6)) == (
        setting(tokens=(1,)),
        setting(),
    )


def test_the_explained_token_cannot_be_dropped() -> None:
    with pytest.raises(InvalidField) as refused:
        apply(encoded(), Interventions(dropped=(2,)), explain=2)
    assert refused.value.problems[0].pointer == "/explain"


def test_nothing_applied_leaves_an_input_as_it_is() -> None:
    source = encoded()
    applied = apply(source, Interventions(), explain=3)
    assert applied.encoded is source
    assert (list(applied.kept), applied.settings, applied.explain) == ([0, 1, 2, 3, 4, 5], (), 3)


def test_a_loaded_model_keeps_what_runs_need(tmp_path: Path) -> None:
    """The contents of its files are given back; the weights stay, as views."""
    model = loader("cpu", 1, 4096)(tiny_bundle(tmp_path / "m"))
    row = random_rows(architecture(), (5,))
    found = run(model.engine.network, row, [()])
    np.testing.assert_allclose(found.logits, model.engine.trace(row).logits, atol=2e-6)
