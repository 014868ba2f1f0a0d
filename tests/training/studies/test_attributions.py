"""Explanations against what their definitions say, and against captum where it is installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from service.errors import BundleError
from tests.bundles import KINDS, ORIGIN, Kind, Options, architecture, draft, network, random_rows, tokenizer
from training.export.bundle import export
from training.studies import attributions
from training.studies.attributions import METHODS, STEPS, Array, Case, Subject, chosen, gradients

SHAPES: list[Options] = [
    {"head": "last"},
    {"head": "mean", "bidirectional": False},
    {"head": "max"},
    {"head": "attention"},
    {"head": "attention", "layers": 2},
    {"task": "ner"},
]
GATED: tuple[Kind, ...] = ("lstm", "peephole", "gru", "gru-before")
_folders = TemporaryDirectory(prefix="attributions-")


@cache
def subject(kind: Kind, shape: int) -> Subject:
    made = network(architecture(**(SHAPES[shape] | Options(cell=kind))))
    return Subject(draft(made, Path(_folders.name) / f"{kind}-{shape}"))


def case(shape: int, tokens: int = 9, seed: int = 0) -> Case:
    form = architecture(**SHAPES[shape])
    return Case(random_rows(form, (tokens,), seed)[0], 1, 4 if form.task == "ner" else None)


def logit(of: Subject, one: Case) -> float:
    found = of.logits(one.row)
    return float(found[one.label] if one.explained is None else found[one.explained, one.label])


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("kind", GATED)
def test_what_reads_the_trace_adds_up(kind: Kind, shape: int) -> None:
    of, one = subject(kind, shape), case(shape)
    bias = of.engine.head_bias[one.label]
    for name in ("split", "state-differences"):
        shares = METHODS[name].explain(of, one)
        assert shares.sum() + bias == pytest.approx(logit(of, one), abs=1e-4), name


@pytest.mark.parametrize("shape", [0, 3, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_leaving_one_out_is_what_it_says(kind: Kind, shape: int) -> None:
    of, one = subject(kind, shape), case(shape)
    shares = METHODS["leave-one-out"].explain(of, one)
    for token in range(len(one.row)):
        if token == one.explained:
            assert shares[token] == 0
            continue
        place = None if one.explained is None else one.explained - (token < one.explained)
        without = Case(np.delete(one.row, token, axis=0), one.label, place)
        assert shares[token] == pytest.approx(logit(of, one) - logit(of, without), abs=1e-5)


@pytest.mark.parametrize("shape", [1, 3])
@pytest.mark.parametrize("kind", GATED)
def test_whole_steps_are_what_deletion_changes_when_the_gates_are_held(kind: Kind, shape: int) -> None:
    """Against the additive recurrence run again without the step, linear in the state as the split is."""
    of, one = subject(kind, shape), case(shape)
    parts = attributions.traced(of, one)
    expected = np.zeros(len(one.row))
    for direction, t in parts:

        def run(left_out: int | None, t: attributions.Traced = t) -> float:
            state, total = np.zeros(t.state.shape[1]), 0.0
            for step in range(len(t.state)):
                if step != left_out:
                    state = t.kept[step] * state + t.written[step]
                total += float((t.counted[step] * t.weight[step] * state).sum())
            return total

        changes = [run(None) - run(step) for step in range(len(one.row))]
        expected += changes[::-1] if direction == "backward" else changes
    np.testing.assert_allclose(METHODS["whole-steps"].explain(of, one), expected, atol=1e-9)


@pytest.mark.parametrize("shape", [0, 1, 2, 3, 4])
def test_states_are_the_head_over_the_other_states(shape: int) -> None:
    of, one = subject("lstm", shape), case(shape)
    shares = METHODS["states"].explain(of, one)
    if SHAPES[shape]["head"] == "last":
        assert (shares[1:-1] == 0).all()
        assert (shares[[0, -1]] != 0).all()
    else:
        assert (shares != 0).any()
    assert len(shares) == len(one.row)


@pytest.mark.parametrize("shape", range(len(SHAPES)))
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_differences(kind: Kind, shape: int) -> None:
    of, one = subject(kind, shape), case(shape)
    made = of.network.double()
    try:
        with torch.no_grad():
            inputs = made.embed(torch.tensor(one.row)[None]).double()
        found = gradients(of, one, inputs)[0].numpy()
        step, random = 1e-5, np.random.default_rng(1)
        moved = random.normal(size=found.shape)
        moves = torch.tensor(step * moved)[None]
        ends = [attributions.answer(of, one, inputs + sign * moves).item() for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((found * moved).sum()), rel=1e-4, abs=1e-8)
    finally:
        made.float()


@pytest.mark.parametrize("shape", [0, 3, 5])
@pytest.mark.parametrize("kind", GATED)
def test_integrated_gradients_add_up_to_the_change_from_inputs_of_zeros(kind: Kind, shape: int) -> None:
    of, one = subject(kind, shape), case(shape)
    shares = METHODS["integrated-gradients"].explain(of, one)
    with torch.no_grad():
        inputs = of.network.embed(torch.tensor(one.row)[None])
        change = attributions.answer(of, one, inputs) - attributions.answer(of, one, 0 * inputs)
    assert shares.sum() == pytest.approx(change.item(), abs=5e-3)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_reach_every_word_of_a_window(tmp_path: Path, bidirectional: bool) -> None:
    """Each word's gradient is through all windows that hold it."""
    options = Options(cell="mingru", head="mean", bidirectional=bidirectional, window_words=3)
    of = Subject(draft(network(architecture(**options)), tmp_path))
    one = Case(random_rows(architecture(**options), (9,))[0], 1, None)
    with torch.no_grad():
        inputs = of.network.embed(torch.tensor(one.row)[None])
        change = attributions.answer(of, one, inputs) - attributions.answer(of, one, 0 * inputs)
    assert attributions.answer(of, one, inputs).item() == pytest.approx(logit(of, one), abs=1e-5)
    shares = METHODS["integrated-gradients"].explain(of, one)
    assert len(shares) == 9
    assert shares.sum() == pytest.approx(change.item(), abs=5e-3)


@pytest.mark.parametrize(
    ("kind", "shape"), [("lstm", 3), ("lstm", 5), ("gru", 1), ("gru-before", 4), ("peephole", 2), ("peephole-full", 0)]
)
def test_captum_finds_the_same_gradients(kind: Kind, shape: int) -> None:
    captum = pytest.importorskip("captum.attr", reason="the extra captum is not installed")
    of, one = subject(kind, shape), case(shape)
    with torch.no_grad():
        inputs = of.network.embed(torch.tensor(one.row)[None])
    inputs.requires_grad_(True)  # captum warns where it is not

    def forward(points: torch.Tensor) -> torch.Tensor:
        return attributions.answer(of, one, points)

    plain = captum.InputXGradient(forward).attribute(inputs)[0].sum(-1).detach().numpy()
    np.testing.assert_allclose(METHODS["gradient-x-input"].explain(of, one), plain, atol=1e-6)
    whole = captum.IntegratedGradients(forward).attribute(
        inputs, baselines=0 * inputs, n_steps=STEPS, method="riemann_middle"
    )
    np.testing.assert_allclose(
        METHODS["integrated-gradients"].explain(of, one), whole[0].sum(-1).detach().numpy(), atol=1e-5
    )


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_relevance_is_kept_where_biases_are_zero(shape: int) -> None:
    """Without biases, and with next to no epsilon, every rule of Arras et al. shares out all that arrives."""
    made = network(architecture(**(SHAPES[shape] | Options(cell="lstm"))))
    for name, parameter in made.named_parameters():
        if "bias" in name:
            parameter.data.zero_()
    of = Subject(draft(made, Path(_folders.name) / f"unbiased-{shape}"))
    one = case(shape, tokens=5)
    shares = relevance(of, one, epsilon=1e-12)
    assert shares.sum() == pytest.approx(logit(of, one), abs=1e-4)


def relevance(of: Subject, one: Case, epsilon: float) -> Array:
    before = attributions.EPSILON
    attributions.EPSILON = epsilon
    try:
        return METHODS["lrp"].explain(of, one)
    finally:
        attributions.EPSILON = before


def test_noise_is_the_same_for_the_same_input() -> None:
    of, one = subject("lstm", 3), case(3)
    first, again = (METHODS["random"].explain(of, one) for _ in range(2))
    assert (first == again).all()
    assert (first != METHODS["random"].explain(of, case(3, seed=9))).any()


def test_methods_that_cannot_explain_a_model_are_left_out_or_refused() -> None:
    plain = subject("rnn", 3).manifest
    used, left_out = chosen(plain, None)
    assert set(left_out) == {"split", "whole-steps", "state-differences", "lrp"}
    assert set(used) == set(METHODS) - set(left_out)
    with pytest.raises(BundleError, match="split cannot explain this model: The Elman cell"):
        chosen(plain, ["split"])
    assert list(chosen(plain, ["random", "leave-one-out"])[0]) == ["random", "leave-one-out"]
    assert "states" in chosen(subject("lstm", 5).manifest, None)[1]
    assert "lrp" in chosen(subject("peephole-full", 3).manifest, None)[1]


def test_a_model_of_integers_is_explained_without_gradients(tmp_path: Path) -> None:
    form = architecture(hidden=16)
    bundle = export(network(form), tokenizer(form), ORIGIN, "CC0-1.0", tmp_path, lambda _: [], precision="int8")
    used, left_out = chosen(bundle.manifest, None)
    assert {"gradient-x-input", "integrated-gradients"} <= set(left_out)
    of, one = Subject(bundle), Case(random_rows(form, (6,))[0], 1)
    for name, method in used.items():
        assert np.isfinite(method.explain(of, one)).all(), name
