"""Contributions against a reference written straight from the cells' equations and the explicit product formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import InvalidField
from service.model import contributions as shares_of
from service.model.bundle import Head, Manifest
from service.model.contributions import Contributions, check_explain, contributions, note
from service.model.equations import CellName, Direction

UNITS, INPUTS, LABELS = 5, 3, ("a", "b", "c")
ONE: tuple[Direction, ...] = ("forward",)
BOTH: tuple[Direction, ...] = ("forward", "backward")
HEADS: tuple[Head, ...] = ("last", "mean", "max", "tagger")

Array = NDArray[np.float64]
Steps = dict[str, Array]
Gates = dict[tuple[int, Direction, str], NDArray[np.float32]]


def model(cell: CellName, head: Head, directions: tuple[Direction, ...] = ONE, layers: int = 1) -> Manifest:
    parts = {"cell": cell, "head": head, "directions": directions, "layers": layers, "hidden": UNITS, "labels": LABELS}
    return Manifest.model_construct(None, **parts)  # type: ignore[arg-type]  # the parts that are asked for


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# The cells, one step at a time. `w` gives a matrix over [h_{t-1}, x_t] and a bias by a symbol.


def lstm_step(w: Mapping[str, Array], x: Array, h: Array, c: Array) -> Steps:
    seen = np.concatenate([h, x])
    f = sigmoid(w["f"] @ seen + w["b_f"] + w["p_f"] * c)
    i = sigmoid(w["i"] @ seen + w["b_i"] + w["p_i"] * c)
    g = np.tanh(w["g"] @ seen + w["b_g"])
    state = f * c + i * g
    o = sigmoid(w["o"] @ seen + w["b_o"] + w["p_o"] * state)
    return {"forget": f, "input": i, "output": o, "candidate": g, "cell": state, "hidden": o * np.tanh(state)}


def gru_step(w: Mapping[str, Array], x: Array, h: Array, c: Array) -> Steps:
    seen = np.concatenate([h, x])
    z = sigmoid(w["i"] @ seen + w["b_i"] - w["b_f"])
    r = sigmoid(w["f"] @ seen)
    g = np.tanh(w["g"] @ np.concatenate([r * h, x]) + w["b_g"])
    return {"update": z, "reset": r, "candidate": g, "hidden": (1 - z) * h + z * g}


def mingru_step(w: Mapping[str, Array], x: Array, h: Array, c: Array) -> Steps:
    z, g = sigmoid(w["i"][:, UNITS:] @ x - w["b_f"]), np.tanh(w["g"][:, UNITS:] @ x + w["b_g"])
    return {"update": z, "candidate": g, "hidden": (1 - z) * h + z * g}


def minlstm_step(w: Mapping[str, Array], x: Array, h: Array, c: Array) -> Steps:
    f, i = (sigmoid(w[name][:, UNITS:] @ x + w[f"b_{name}"]) for name in "fi")
    g = np.tanh(w["g"][:, UNITS:] @ x + w["b_g"])
    kept, taken = f / (f + i), i / (f + i)
    return {"forget": kept, "input": taken, "candidate": g, "hidden": kept * h + taken * g}


STEP: dict[CellName, Callable[[Mapping[str, Array], Array, Array, Array], Steps]] = {
    "lstm": lstm_step,
    "peephole": lstm_step,
    "gru": gru_step,
    "mingru": mingru_step,
    "minlstm": minlstm_step,
}
SPLIT: tuple[CellName, ...] = tuple(STEP)


def simulate(
    cell: CellName,
    length: int,
    directions: tuple[Direction, ...],
    layer: int = 0,
    dtype: type[np.floating] = np.float64,
) -> Gates:
    """The gates of a cell with random weights on random inputs, as float32."""
    random = np.random.default_rng(length + 7 * len(directions) + 100 * layer)
    inputs = random.normal(size=(length, INPUTS)).astype(dtype)
    gates: Gates = {}
    for direction in directions:
        weights = {name: random.normal(size=(UNITS, UNITS + INPUTS)).astype(dtype) for name in "fiog"}
        weights |= {f"b_{name}": random.normal(size=UNITS).astype(dtype) for name in "fiog"}
        weights["b_f"] = weights["b_f"] + dtype(2)
        scale = dtype(1 if cell == "peephole" else 0)
        weights |= {f"p_{name}": scale * random.normal(size=UNITS).astype(dtype) for name in "fio"}
        h = c = np.zeros(UNITS, dtype)
        steps = []
        for x in inputs if direction == "forward" else inputs[::-1]:
            step = STEP[cell](weights, x, h, c)
            h, c = step["hidden"], step.get("cell", c)
            steps.append(step)
        for name in steps[0]:
            rows = np.stack([step[name] for step in steps])
            rows = rows if direction == "forward" else rows[::-1]
            gates[layer, direction, name] = rows.astype(np.float32)
    return gates


def head_of(directions: tuple[Direction, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(5)
    width = UNITS * len(directions)
    return (
        random.normal(size=(len(LABELS), width)).astype(np.float32),
        random.normal(size=len(LABELS)).astype(np.float32),
    )


def state_shares(cell: CellName, g: Callable[[str], Array]) -> Array:
    """What step k gave to h_t, by the explicit products: [k, t, units], in reading order, float64."""
    updates = cell in ("gru", "mingru")
    kept = 1 - g("update") if updates else g("forget")
    written = g("update" if updates else "input") * g("candidate")
    counts = g("output") * np.tanh(g("cell")) / g("cell") if cell in ("lstm", "peephole") else np.ones_like(kept)
    length = len(kept)
    shares = np.zeros((length, *kept.shape))
    for k in range(length):
        products = np.cumprod(np.vstack([np.ones((1, kept.shape[1])), kept[k + 1 :]]), axis=0)
        shares[k, k:] = products * written[k] * counts[k:]
    return shares


def reference(
    manifest: Manifest, weight: NDArray[np.float32], gates: Gates, explain: int | None
) -> tuple[Array, Array]:
    """Contributions [tokens, labels] and pooled states, one direction and head at a time."""
    tokens, pooled = [], []
    for direction in manifest.directions:
        order = slice(None) if direction == "forward" else slice(None, None, -1)

        def gate(name: str, direction: Direction = direction, order: slice = order) -> Array:
            return gates[manifest.layers - 1, direction, name][order].astype(np.float64)

        shares = state_shares(manifest.cell, gate)[order][:, order]
        hidden = gate("hidden")[order]
        length = len(hidden)
        if manifest.head == "mean":
            tokens.append(shares.mean(axis=1))
            pooled.append(hidden.mean(axis=0))
        elif manifest.head == "max":
            peaks = [column.index(max(column)) for column in hidden.T.tolist()]
            tokens.append(np.stack([shares[:, t, unit] for unit, t in enumerate(peaks)], axis=1))
            pooled.append(hidden.max(axis=0))
        else:
            last = length - 1 if direction == "forward" else 0
            at = last if explain is None else explain
            tokens.append(shares[:, at])
            pooled.append(hidden[at])
    return np.hstack(tokens) @ weight.T.astype(np.float64), np.concatenate(pooled)


def split(manifest: Manifest, gates: Gates, explain: int | None = None) -> Contributions:
    found = contributions(manifest, *head_of(manifest.directions), gates, explain)
    assert found is not None
    assert note(manifest, explain) is None
    return found


@pytest.mark.parametrize("length", [1, 2, 17, 200])
@pytest.mark.parametrize("directions", [ONE, BOTH])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", SPLIT)
def test_shares_match_the_explicit_product_formula(
    cell: CellName, head: Head, directions: tuple[Direction, ...], length: int
) -> None:
    manifest, gates = model(cell, head, directions), simulate(cell, length, directions)
    weight, bias = head_of(directions)
    for explain in (0, length // 3, length - 1) if head == "tagger" else (None,):
        found = split(manifest, gates, explain)
        tokens, pooled = reference(manifest, weight, gates, explain)
        np.testing.assert_allclose(found["tokens"], tokens, atol=1e-10)
        np.testing.assert_allclose(found["logits"], weight.astype(np.float64) @ pooled + bias, atol=1e-12)
        np.testing.assert_allclose(found["bias"] + found["tokens"].sum(axis=0), found["logits"], atol=1e-5)


@pytest.mark.parametrize("directions", [ONE, BOTH])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", SPLIT)
def test_shares_add_up_over_400_tokens_of_float32_steps(
    cell: CellName, head: Head, directions: tuple[Direction, ...]
) -> None:
    gates = simulate(cell, 400, directions, dtype=np.float32)
    found = split(model(cell, head, directions), gates, 123 if head == "tagger" else None)
    np.testing.assert_allclose(found["bias"] + found["tokens"].sum(axis=0), found["logits"], atol=1e-5)


def test_one_pass_over_the_tokens_serves_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    accumulate = shares_of._accumulate

    def counting(counted: Array, kept: Array) -> None:
        passes.append(counted.shape)
        accumulate(counted, kept)

    monkeypatch.setattr(shares_of, "_accumulate", counting)
    split(model("lstm", "mean", BOTH), simulate("lstm", 9, BOTH))
    assert passes == [(9, 2, UNITS)]


def test_arrays_are_what_json_can_take_as_they_are() -> None:
    found = split(model("lstm", "mean", BOTH), simulate("lstm", 9, BOTH))
    assert found["labels"] == list(LABELS)
    arrays = (found["bias"], found["tokens"], found["logits"])
    assert [array.shape for array in arrays] == [(3,), (9, 3), (3,)]
    assert all(array.dtype == np.float64 and array.flags.c_contiguous for array in arrays)
    assert "Murdoch and Szlam 2017" in found["method"]


@pytest.mark.parametrize("cell", ["lstm", "gru", "mingru", "minlstm"])
def test_the_top_layer_is_split_and_the_answer_says_so(cell: CellName) -> None:
    below, top = simulate(cell, 6, BOTH, layer=0), simulate(cell, 6, BOTH, layer=1)
    deep, flat = model(cell, "last", BOTH, layers=2), model(cell, "last", BOTH)
    found = split(deep, below | top)
    alone = split(flat, {(0, direction, gate): rows for (_, direction, gate), rows in top.items()})
    assert (found["of"], alone["of"]) == ("top-layer positions", "tokens")
    assert found["tokens"].tolist() == alone["tokens"].tolist()


def test_a_share_of_an_empty_cell_counts_as_the_limit_says() -> None:
    columns = {
        "input": [0.5, 0.5],
        "candidate": [0.5, -0.25],
        "forget": [0.9, 0.5],
        "output": [0.25, 0.75],
        "cell": [0.25, 0.0],
        "hidden": [0.25 * np.tanh(0.25), 0.0],
    }
    gates: Gates = {(0, "forward", name): np.array(rows, np.float32)[:, None] for name, rows in columns.items()}
    found = contributions(model("lstm", "last"), np.ones((3, 1), np.float32), np.zeros(3, np.float32), gates)
    assert found is not None
    assert found["tokens"].tolist() == [[0.75 * 0.125] * 3, [0.75 * -0.125] * 3]
    assert found["logits"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("cell", SPLIT)
def test_closed_gates_give_no_nan(cell: CellName) -> None:
    gates = {key: np.zeros_like(rows) for key, rows in simulate(cell, 400, BOTH).items()}
    found = split(model(cell, "mean", BOTH), gates)
    assert not found["tokens"].any()
    assert found["logits"].tolist() == found["bias"].tolist()


def test_of_equal_peaks_the_first_token_is_split() -> None:
    gates: Gates = {
        (0, direction, name): np.full((2, 1), 0.5, np.float32)
        for direction in BOTH
        for name in ("update", "candidate", "hidden")
    }
    gates[0, "forward", "update"][0] = 1
    gates[0, "backward", "update"][1] = 1
    weight = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    found = contributions(model("gru", "max", BOTH), weight, np.zeros(3, np.float32), gates)
    assert found is not None
    assert found["tokens"].tolist() == [[0.5, 0.25, 0.75], [0.0, 0.25, 0.25]]
    assert found["logits"].tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize("cell", ["lstm", "gru", "mingru", "minlstm"])
def test_an_attention_head_weighs_each_state_by_the_query(cell: CellName) -> None:
    manifest, gates = model(cell, "attention", BOTH), simulate(cell, 9, BOTH)
    weight, bias = head_of(BOTH)
    query = np.random.default_rng(6).normal(size=2 * UNITS).astype(np.float32)
    states = np.hstack([gates[manifest.layers - 1, direction, "hidden"] for direction in BOTH]).astype(np.float64)
    attention = np.exp(states @ query) / np.exp(states @ query).sum()
    found = contributions(manifest, weight, bias, gates, query=query)
    assert found is not None
    assert found["logits"] == pytest.approx(bias + weight @ (attention @ states), abs=1e-6)
    assert found["bias"] + found["tokens"].sum(axis=0) == pytest.approx(found["logits"], abs=1e-5)
    alone = [split(model(cell, "tagger", BOTH), gates, explain=t)["tokens"] for t in range(9)]
    expected = sum(share * tokens for share, tokens in zip(attention, alone, strict=True))
    assert found["tokens"] == pytest.approx(expected, abs=1e-6)


def test_the_elman_cell_has_none_and_says_why() -> None:
    hidden: Gates = {(0, "forward", "hidden"): np.zeros((4, UNITS), np.float32)}
    for manifest, explain in ((model("rnn", "last"), None), (model("rnn", "tagger"), 1)):
        assert contributions(manifest, *head_of(ONE), hidden, explain) is None
        assert "no additive state" in (note(manifest, explain) or "")


def test_a_tagger_wants_the_number_of_a_token() -> None:
    manifest, gates = model("lstm", "tagger"), simulate("lstm", 4, ONE)
    assert contributions(manifest, *head_of(ONE), gates) is None
    assert "explain" in (note(manifest, None) or "")
    for explain in (-1, 4):
        with pytest.raises(InvalidField) as caught:
            contributions(manifest, *head_of(ONE), gates, explain)
        assert caught.value.problems[0].pointer == "/explain"


def test_a_classifier_is_split_whole_whatever_explain_says() -> None:
    manifest, gates = model("lstm", "mean"), simulate("lstm", 4, ONE)
    assert split(manifest, gates, 99)["tokens"].tolist() == split(manifest, gates)["tokens"].tolist()


def test_explain_must_lie_in_every_input() -> None:
    check_explain(None, [1, 2])
    check_explain(1, [2, 3])
    with pytest.raises(InvalidField, match="token 2 is out of range: input 1 has tokens 0 to 1"):
        check_explain(2, [3, 2])
    with pytest.raises(InvalidField, match="token -1 is out of range: input 0 has token 0 alone"):
        check_explain(-1, [1])
