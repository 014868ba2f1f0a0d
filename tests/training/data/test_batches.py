"""Batches: every sample once, bounds that hold, windows within the text, and padding that no loss sees."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.model.bundle import Feature
from service.model.features import SHAPES
from service.model.tokenizer import UNKNOWN, build
from training.data.batches import IGNORED, Sample, batched, encode, plan, windows
from training.data.corpora import Example

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 60), max_size=80)
SEEDS = st.none() | st.integers(0, 99)


def generator(seed: int | None) -> np.random.Generator | None:
    return None if seed is None else np.random.default_rng(seed)


def sample(length: int, targets: int = 1, features: int = 2, number: int = 0) -> Sample:
    """Rows that tell where they came from: (number, position from 1)."""
    rows = np.column_stack([np.full(length, number), np.arange(1, length + 1)])[:, :features]
    return Sample(rows.astype(np.int32), np.full(targets, number, np.int64))


@given(LENGTHS, st.integers(1, 12), st.integers(1, 200), SEEDS)
def test_every_sample_is_in_one_batch_and_every_batch_within_its_bounds(
    lengths: list[int], rows: int, tokens: int, seed: int | None
) -> None:
    batches = plan(lengths, rows, tokens, generator(seed))
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= rows
        longest = max(lengths[position] for position in batch)
        assert len(batch) == 1 or longest * len(batch) <= tokens, "one row over the bound goes alone"


@given(LENGTHS, st.integers(1, 12), st.integers(1, 200))
def test_without_a_generator_rows_come_in_order_of_length(lengths: list[int], rows: int, tokens: int) -> None:
    found = [lengths[position] for batch in plan(lengths, rows, tokens, None) for position in batch]
    assert found == sorted(lengths)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=80), st.integers(0, 99))
def test_rows_of_a_batch_are_of_like_length(lengths: list[int], seed: int) -> None:
    """In the order of all batches by length, two of them overlap by no more than a tenth."""
    batches = sorted(([lengths[n] for n in batch] for batch in plan(lengths, 8, 4000, generator(seed))), key=min)
    for shorter, longer in pairwise(batches):
        assert max(shorter) < 1.11 * min(longer) + 1


def test_a_generator_gives_other_batches_each_time_and_the_same_for_a_seed() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 200).tolist()
    source = np.random.default_rng(1)
    one, two = (plan(lengths, 16, 500, source) for _ in range(2))
    assert {frozenset(batch) for batch in one} != {frozenset(batch) for batch in two}
    assert one == plan(lengths, 16, 500, np.random.default_rng(1))
    means = [float(np.mean([lengths[position] for position in batch])) for batch in one]
    assert means != sorted(means), "batches come in no order of length"


def test_no_samples_make_no_batches() -> None:
    assert plan([], 8, 100, None) == plan([], 8, 100, np.random.default_rng(0)) == []


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(1, 30), st.integers(0, 99))
def test_a_window_is_a_run_within_its_text(lengths: list[int], width: int, seed: int) -> None:
    samples = [sample(length, number=number) for number, length in enumerate(lengths)]
    for whole, cut in zip(samples, windows(samples, width, np.random.default_rng(seed)), strict=True):
        assert len(cut.rows) == min(width, len(whole.rows))
        start = int(cut.rows[0, 1]) - 1
        np.testing.assert_array_equal(cut.rows, whole.rows[start : start + width])
        assert cut.targets is whole.targets


def test_windows_reach_both_ends_and_change_from_epoch_to_epoch() -> None:
    source = np.random.default_rng(0)
    starts = Counter(int(windows([sample(10)], 7, source)[0].rows[0, 1]) for _ in range(400))
    assert set(starts) == {1, 2, 3, 4}
    assert min(starts.values()) > 60


@given(LENGTHS, SEEDS)
def test_a_batch_holds_its_samples_and_padding_that_counts_for_nothing(lengths: list[int], seed: int | None) -> None:
    samples = [sample(length, length, number=number) for number, length in enumerate(lengths)]
    seen = []
    for batch in batched(samples, "ner", 6, 150, CPU, generator(seed)):
        rows, time, features = batch.tokens.shape
        assert features == 2
        assert batch.targets.shape == (rows, time)
        assert time == int(batch.lengths.max())
        assert (batch.lengths.dtype, batch.targets.dtype) == (torch.int64, torch.int64)
        for row, position in enumerate(batch.positions):
            length = int(batch.lengths[row])
            np.testing.assert_array_equal(batch.tokens[row, :length].numpy(), samples[position].rows)
            np.testing.assert_array_equal(batch.targets[row, :length].numpy(), samples[position].targets)
            assert (batch.targets[row, length:] == IGNORED).all()
        seen += batch.positions
    assert sorted(seen) == list(range(len(lengths)))


def test_a_text_has_one_target() -> None:
    samples = [sample(length, number=number) for number, length in enumerate((4, 2, 9))]
    (batch,) = batched(samples, "sentiment", 8, 100, CPU)
    assert batch.positions == [1, 0, 2]
    assert batch.targets.tolist() == [1, 0, 2]


def test_the_loss_passes_over_padding() -> None:
    (batch,) = batched([sample(2, 2, number=1), sample(5, 5, number=0)], "ner", 8, 100, CPU)
    loss = torch.nn.CrossEntropyLoss(ignore_index=IGNORED)
    logits = torch.randn(2, 5, 3)
    before = loss(logits.flatten(0, 1), batch.targets.flatten())
    logits[0, 2:] = 1e4
    assert torch.equal(before, loss(logits.flatten(0, 1), batch.targets.flatten()))


FEATURES = [Feature(name="word", size=4), Feature(name="shape", size=SHAPES)]
TOKENIZER = build([UNKNOWN, "do", "n't", "it"], FEATURES)


def test_texts_are_tokenised_and_tokens_are_taken_as_they_come() -> None:
    text, empty = Example("Don't it", "good"), Example("\u3000\u2028", "bad")
    (found,) = encode([text, empty], TOKENIZER, ["bad", "good"])
    np.testing.assert_array_equal(found.rows, [[1, 1], [2, 0], [3, 0]])
    assert found.targets.tolist() == [1]
    tagged = Example(("Don't", "it"), ("B-PER", "O"))
    (found,) = encode([tagged], TOKENIZER, ["O", "B-PER", "I-PER"])
    np.testing.assert_array_equal(found.rows[:, 0], [0, 3])
    assert found.targets.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", ["rows", "targets"])
def test_numbers_are_whole(dtype: str) -> None:
    (found,) = encode([Example("it", "a")], TOKENIZER, ["a", "b"])
    assert getattr(found, dtype).dtype == {"rows": np.int32, "targets": np.int64}[dtype]


def test_a_teachers_logits_stand_beside_the_rows_that_have_them() -> None:
    rows = np.ones((3, 1), np.int32)
    target = np.zeros(1, np.int64)
    samples = [Sample(rows, target), Sample(rows, target, np.array([1.0, -2.0], np.float32))]
    (batch,) = batched(samples, "sentiment", 8, 100, torch.device("cpu"))
    assert batch.soft is not None
    assert batch.soft[0].isnan().all()
    assert batch.soft[1].tolist() == [1.0, -2.0]
    assert [each.soft for each in windows(samples, 2, np.random.default_rng(1))] == [None, samples[1].soft]
    (plain,) = batched(samples[:1], "sentiment", 8, 100, torch.device("cpu"))
    assert plain.soft is None
