"""The conditional random field against every label sequence written out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.model.crf import marginals, viterbi
from service.model.decoding import legal
from training.nets.crf import CRF

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
LENGTHS = (4, 1, 3, 2)


@pytest.fixture
def field() -> CRF:
    torch.manual_seed(3)
    made = CRF(LABELS)
    torch.nn.init.normal_(made.transitions)
    torch.nn.init.normal_(made.start)
    return made.double()


@pytest.fixture
def emissions() -> torch.Tensor:
    torch.manual_seed(4)
    return 2 * torch.randn(len(LENGTHS), max(LENGTHS), len(LABELS), dtype=torch.float64)


def is_legal(path: tuple[int, ...]) -> bool:
    for position, label in enumerate(path):
        before = LABELS[path[position - 1]] if position else "O"
        if LABELS[label].startswith("I-") and before[2:] != LABELS[label][2:]:
            return False
    return True


def everything(field: CRF, emissions: torch.Tensor, row: int) -> dict[tuple[int, ...], float]:
    """Every legal sequence of a row, and its score."""
    found = {}
    moves, begins, emitted = (each.detach().numpy() for each in (field.transitions, field.start, emissions))
    for path in itertools.product(range(len(LABELS)), repeat=LENGTHS[row]):
        if is_legal(path):
            score = begins[path[0]] + sum(emitted[row, t, label] for t, label in enumerate(path))
            found[path] = float(score + sum(moves[a, b] for a, b in itertools.pairwise(path)))
    return found


def chances(field: CRF, emissions: torch.Tensor, row: int) -> dict[tuple[int, ...], float]:
    scores = everything(field, emissions, row)
    total = math.fsum(math.exp(score) for score in scores.values())
    return {path: math.exp(score) / total for path, score in scores.items()}


def arrays(field: CRF, emissions: torch.Tensor) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    moves, begins = legal(LABELS)
    transitions = moves + field.transitions.detach().numpy()
    return emissions.numpy(), np.array(LENGTHS), transitions, begins + field.start.detach().numpy()


def test_the_loss_is_the_likelihood_of_the_targets(field: CRF, emissions: torch.Tensor) -> None:
    targets = torch.full((len(LENGTHS), max(LENGTHS)), -100)
    logs = 0.0
    for row, length in enumerate(LENGTHS):
        path = (1, 2, 0, 3)[:length]
        targets[row, :length] = torch.tensor(path)
        logs += math.log(chances(field, emissions, row)[path])
    loss = field.loss(emissions, targets, torch.tensor(LENGTHS))
    assert loss.item() == pytest.approx(-logs / sum(LENGTHS), abs=1e-9)


def test_its_gradient_is_finite_and_leaves_forbidden_scores_alone(field: CRF, emissions: torch.Tensor) -> None:
    targets = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    field.loss(emissions.requires_grad_(), targets, torch.tensor(LENGTHS)).backward()
    assert field.transitions.grad is not None
    assert emissions.grad is not None
    assert torch.isfinite(field.transitions.grad).all()
    assert torch.isfinite(emissions.grad).all()
    assert not field.transitions.grad[~field.allowed].any()
    assert not emissions.grad[1, 1:].any()  # padding


def test_the_partition_is_the_sum_over_all_sequences_and_its_gradient_the_marginals(
    field: CRF, emissions: torch.Tensor
) -> None:
    lengths = torch.tensor(LENGTHS)
    logs = field.partition(emissions.requires_grad_(), lengths)
    (found,) = torch.autograd.grad(logs.sum(), emissions)
    emissions = emissions.detach()
    for row, length in enumerate(LENGTHS):
        scores = everything(field, emissions, row)
        assert logs[row].item() == pytest.approx(math.log(math.fsum(map(math.exp, scores.values()))), abs=1e-9)
        expected = np.zeros((length, len(LABELS)))
        for path, chance in chances(field, emissions, row).items():
            expected[np.arange(length), path] += chance
        assert found[row, :length].numpy() == pytest.approx(expected, abs=1e-9)
        assert not found[row, length:].any()


def stepwise(field: CRF, emissions: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The forward algorithm in logarithms, for autograd."""
    transitions, start = field.scores()
    alpha = start + emissions[:, 0]
    for step in range(1, emissions.shape[1]):
        reached = (alpha[:, :, None] + transitions).logsumexp(1) + emissions[:, step]
        alpha = torch.where((step < lengths)[:, None], reached, alpha)
    return alpha.logsumexp(1)


@pytest.mark.parametrize("lengths", [LENGTHS, (4, 4, 4, 4), (1, 1, 1, 1), (2, 3, 4, 3)])
@pytest.mark.parametrize("strength", [1.0, 10.0])
def test_its_gradients_are_those_of_autograd(
    field: CRF, emissions: torch.Tensor, lengths: tuple[int, ...], strength: float
) -> None:
    """With a weight of its own for each row, and where one label is as good as sure."""
    inputs = (strength * emissions[:, : max(lengths)]).requires_grad_(), field.transitions, field.start
    weights = torch.tensor([0.5, -2.0, 3.0, 0.25], dtype=torch.float64)
    ends = torch.tensor(lengths)
    logs, expected = field.partition(inputs[0], ends), stepwise(field, inputs[0], ends)
    assert logs.detach().numpy() == pytest.approx(expected.detach().numpy(), rel=1e-12)
    found = torch.autograd.grad((logs * weights).sum(), inputs)
    wanted = torch.autograd.grad((expected * weights).sum(), inputs, allow_unused=True)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.numpy() == pytest.approx(0.0 if theirs is None else theirs.numpy(), abs=1e-10)


def test_the_gradient_at_a_transition_is_how_often_it_is_expected(field: CRF, emissions: torch.Tensor) -> None:
    logs = field.partition(emissions, torch.tensor(LENGTHS))
    moved, begun = torch.autograd.grad(logs.sum(), (field.transitions, field.start))
    pairs, firsts = np.zeros((len(LABELS), len(LABELS))), np.zeros(len(LABELS))
    for row in range(len(LENGTHS)):
        for path, chance in chances(field, emissions, row).items():
            firsts[path[0]] += chance
            for pair in itertools.pairwise(path):
                pairs[pair] += chance
    assert moved.numpy() == pytest.approx(pairs, abs=1e-12)
    assert begun.numpy() == pytest.approx(firsts, abs=1e-12)


@pytest.mark.parametrize("strength", [50.0, 1e4])
def test_long_rows_and_strong_emissions_keep_loss_and_gradient_finite(strength: float) -> None:
    field = CRF(LABELS)
    torch.nn.init.normal_(field.transitions, std=500.0)
    emissions = (strength * torch.randn(2, 2000, len(LABELS))).requires_grad_()
    targets, lengths = torch.zeros(2, 2000, dtype=torch.long), torch.tensor([2000, 7])
    loss = field.loss(emissions, targets, lengths)
    loss.backward()
    assert emissions.grad is not None
    assert field.transitions.grad is not None
    for each in (loss, emissions.grad, field.transitions.grad):
        assert torch.isfinite(each).all()
    assert not emissions.grad[1, 7:].any()
    assert loss > strength / 2


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_score_beyond_its_limit_counts_alike_in_sequence_sum_and_bundle(temperature: float) -> None:
    """The likelihood stays one: no score can grow for ever because the sum no longer follows it."""
    made = CRF(LABELS).double()
    with torch.no_grad():
        made.transitions[0, 0], made.start[1] = 150, -150
    targets = torch.zeros(1, 6, dtype=torch.int64)
    loss = made.loss(torch.zeros(1, 6, len(LABELS), dtype=torch.float64), targets, torch.tensor([6]), temperature)
    loss.backward()
    assert 0 <= loss.item() < 1e-6
    assert made.transitions.grad is not None
    assert made.transitions.grad[0, 0] == 0
    kept = made.as_manifest(temperature)
    assert (kept.transitions[0][0], kept.start[1]) == (100, -100)


def test_emissions_that_are_no_numbers_give_no_loss(field: CRF, emissions: torch.Tensor) -> None:
    targets, lengths = torch.zeros(emissions.shape[:2], dtype=torch.long), torch.tensor(LENGTHS)
    for bad in (math.nan, math.inf):
        emissions[0, 1, 2] = bad
        assert not torch.isfinite(field.loss(emissions, targets, lengths))


def test_the_partition_is_as_precise_as_the_emissions(field: CRF, emissions: torch.Tensor) -> None:
    single = CRF(LABELS)
    with torch.no_grad():
        single.transitions.copy_(field.transitions)
        single.start.copy_(field.start)
    found = single.partition(emissions, torch.tensor(LENGTHS))
    assert found.dtype == torch.float64
    assert found.detach().numpy() == pytest.approx(field.partition(emissions, torch.tensor(LENGTHS)).tolist(), abs=1e-6)


def test_the_best_sequence_is_the_best_of_all(field: CRF, emissions: torch.Tensor) -> None:
    paths = viterbi(*arrays(field, emissions))
    for row, length in enumerate(LENGTHS):
        scores = everything(field, emissions, row)
        assert tuple(paths[row, :length].tolist()) == max(scores, key=lambda path: scores[path])


def test_marginals_and_spans_are_sums_over_all_sequences(field: CRF, emissions: torch.Tensor) -> None:
    given = arrays(field, emissions)
    continues = np.array([[b.startswith("I-") and a[2:] == b[2:] for b in LABELS] for a in LABELS])
    wanted = np.array([[1, 2, 0, 3], [3, 0, 0, 0], [3, 4, 4, 0], [1, 2, 0, 0]])
    found = marginals(*given, continues, wanted)
    for row, length in enumerate(LENGTHS):
        each = chances(field, emissions, row)
        for t in range(length):
            expected = math.fsum(p for path, p in each.items() if path[t] == wanted[row, t])
            assert found.tokens[row, t] == pytest.approx(expected, abs=1e-12)
        for first, end in itertools.combinations(range(length + 1), 2):
            labels = tuple(wanted[row, first:end].tolist())
            if not is_legal(labels):
                continue
            expected = math.fsum(
                p
                for path, p in each.items()
                if path[first:end] == labels and not (end < length and continues[path[end - 1], path[end]])
            )
            assert found.spans(*np.array([[row], [first], [end]])) == pytest.approx([expected], abs=1e-12)


def test_long_texts_and_strong_scores_stay_finite(field: CRF) -> None:
    emissions = 1e4 * np.random.default_rng(0).normal(size=(2, 3000, len(LABELS)))
    _, _, transitions, start = arrays(field, torch.zeros(1, 1, len(LABELS), dtype=torch.float64))
    lengths = np.array([3000, 10])
    paths = viterbi(emissions, lengths, 500 * transitions, start)
    found = marginals(emissions, lengths, 500 * transitions, start, np.zeros((len(LABELS),) * 2, bool), paths)
    for array in (found.tokens[0], found.begins[0], found.steps[0], found.ends[0]):
        assert np.isfinite(array).all()
        assert (array >= 0).all()


def test_the_manifest_keeps_no_score_of_what_is_forbidden(field: CRF) -> None:
    kept = field.as_manifest(temperature=2.0)
    moves, _ = legal(LABELS)
    assert not np.array(kept.transitions)[np.isinf(moves)].any()
    allowed = np.isfinite(moves)
    assert np.array(kept.transitions)[allowed] == pytest.approx(field.transitions.detach().numpy()[allowed] / 2)
