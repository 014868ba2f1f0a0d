"""Truncated BPTT: the same as whole texts where they fit a window, and where not, the gradient that it says it is."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from service.model.bundle import Head, Task
from service.model.engine import pad
from tests.bundles import KINDS, Kind, Rows, architecture, network, random_rows, table
from tests.training.loop.test_fit import CPU, FAST, same, sentences, texts, weights
from training.data.batches import IGNORED, Batch, Sample
from training.loop.fit import Recipe, fit, seed_everything
from training.loop.truncated import DOCUMENT_LOSSES, DocumentLoss, cut, refusal
from training.nets.networks import Dropouts, Network, Passage

HEADS: list[Head] = ["last", "mean", "max", "attention", "tagger"]
ONE_STEP = Recipe(epochs=1, batch_rows=100, optimiser="sgd", learning_rate=1.0, schedule="constant", clip=1e9)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def one_way(head: Head, cell: Kind = "lstm", layers: int = 1, words: int = 1) -> Network:
    task: Task = "ner" if head == "tagger" else "sentiment"
    shape = architecture(task=task, cell=cell, bidirectional=False, layers=layers, hidden=5, head=head)
    return network(replace(shape, window_words=words))


def samples_of(net: Network, lengths: tuple[int, ...]) -> list[Sample]:
    labels = np.random.default_rng(3)
    count, tagger = len(net.architecture.labels), net.architecture.head == "tagger"
    rows = random_rows(net.architecture, lengths)
    return [Sample(each, labels.integers(0, count, len(each) if tagger else 1)) for each in rows]


def batch_of(samples: list[Sample]) -> Batch:
    padded, lengths = pad([sample.rows for sample in samples])
    targets = [torch.from_numpy(sample.targets) for sample in samples]
    together = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED)
    wanted = together[:, 0] if len(targets[0]) == 1 else together
    ends = torch.from_numpy(lengths.astype(np.int64))
    return Batch(torch.from_numpy(padded), ends, wanted, list(range(len(samples))))


def read_in_windows(net: Network, rows: list[Rows], width: int) -> list[Tensor]:
    """The logits of each text: a tagger's of all its tokens, a classifier's at its end."""
    batch = batch_of([Sample(each, np.zeros(1, np.int64)) for each in rows])
    batch = replace(batch, targets=torch.zeros(len(rows), dtype=torch.long))
    tagger, passage = net.architecture.head == "tagger", Passage()
    found: list[list[Tensor]] = [[] for _ in rows]
    for kept, window in cut(batch, "sentiment", width, "end"):
        passage.cut(kept)
        logits = net(window.tokens, window.lengths, passage)
        for row, position in enumerate(window.positions):
            found[position].append(logits[row, : window.lengths[row]] if tagger else logits[row][None])
    return [torch.cat(each) if tagger else each[-1][0] for each in found]


@pytest.mark.parametrize(
    ("cell", "words", "width"), [*((cell, 1, 4) for cell in KINDS), ("mingru", 3, 4), ("minlstm", 4, 2)]
)
@pytest.mark.parametrize("head", HEADS)
def test_a_text_read_in_windows_has_the_logits_of_the_whole_text(
    head: Head, cell: Kind, words: int, width: int
) -> None:
    """The state is carried over, through every layer, and so are what the head pools and the words before."""
    net = one_way(head, cell, layers=2, words=words)
    rows = random_rows(net.architecture, (1, 3, 4, 5, 12, 17))
    with torch.inference_mode():
        for found, row in zip(read_in_windows(net, rows, width), rows, strict=True):
            whole = net(torch.from_numpy(row)[None], torch.tensor([len(row)]))[0]
            torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)
        alone = net(torch.from_numpy(rows[-1][16:])[None], torch.tensor([1]))[0]
    assert not torch.allclose(found[-1], alone[-1], atol=1e-4), "another answer than from a zero state"


def test_a_window_has_its_own_part_of_lengths_and_targets() -> None:
    tagged = batch_of(samples_of(one_way("tagger"), (7, 3)))
    (all_rows, first), (kept, second), (_, third) = cut(tagged, "ner", 3, "windows")
    assert (all_rows.tolist(), kept.tolist(), second.positions) == ([0, 1], [0], [0])
    assert [each.lengths.tolist() for each in (first, second, third)] == [[3, 3], [3], [1]]
    assert torch.equal(torch.cat([first.targets[:1], second.targets, third.targets], 1), tagged.targets[:1])
    document = batch_of(samples_of(one_way("max"), (7, 3)))
    marked = {
        loss: [
            [target != IGNORED for target in window.targets.tolist()]
            for _, window in cut(document, "sentiment", 3, loss)
        ]
        for loss in DOCUMENT_LOSSES
    }
    assert marked == {"windows": [[True, True], [True], [True]], "end": [[False, True], [False], [True]]}


@pytest.mark.parametrize("loss", DOCUMENT_LOSSES)
@pytest.mark.parametrize("head", HEADS)
def test_windows_that_hold_every_text_change_nothing_bit_for_bit(head: Head, loss: DocumentLoss) -> None:
    def trained(bptt: int) -> dict[str, Tensor]:
        seed_everything(1)
        shape = one_way(head).architecture
        net = Network(shape, Dropouts(0.2, 0.3, 0.1, words=0.05))
        samples = sentences() if head == "tagger" else texts()
        recipe = replace(FAST, epochs=2, bptt=bptt, bptt_loss=loss, label_smoothing=0.1, accumulate=2)
        fit(net, samples, recipe, lambda _: 0.0, lambda _: None, CPU)
        return weights(net)

    whole = trained(0)
    assert same(trained(11), whole), "the longest has 11 tokens"
    assert not same(trained(3), whole)


def expected_gradients(net: Network, samples: list[Sample], width: int, loss: DocumentLoss) -> dict[str, Tensor]:
    """By the definition, text by text and step by step: for each window the whole text up to its end is read anew, and
    every state before the window counts as a constant."""
    net = network(net.architecture).double()
    losses: list[Tensor] = []
    for sample in samples:
        embedded = net.embed(torch.from_numpy(sample.rows)[None])[0]
        length = len(embedded)
        for start in range(0, length, width):
            end = min(start + width, length)
            steps: list[tuple[Tensor, ...] | None] = [None] * len(net.recurrent())
            tops = []
            for at in range(end):
                value = embedded[at]
                for number, layer in enumerate(net.recurrent()):
                    _, state = layer.directions()[0].read(value[None, None], steps[number])
                    carried = state if at >= start else tuple(part.detach() for part in state)
                    steps[number], value = carried, carried[0][0]
                tops.append(value)
            states = torch.stack(tops)
            if net.architecture.head == "tagger":
                target = torch.from_numpy(sample.targets)
                losses += nn.functional.cross_entropy(net.head(states[start:]), target[start:end], reduction="none")
            elif loss == "windows" or end == length:
                pooled = _pooled(net, states, start)
                losses.append(nn.functional.cross_entropy(net.head(pooled)[None], torch.from_numpy(sample.targets)))
    torch.stack(losses).mean().backward()
    return {name: each.grad.float() for name, each in net.named_parameters() if each.grad is not None}


def _pooled(net: Network, states: Tensor, start: int) -> Tensor:
    """Of all states so far; those before `start` count as constants, and so do their scores."""
    match net.architecture.head:
        case "last":
            return states[-1]
        case "mean":
            return states.mean(0)
        case "max":
            return states.amax(0)
    assert net.query is not None
    scores = torch.cat([(states[:start] @ net.query).detach(), states[start:] @ net.query])
    return scores.softmax(0) @ states


@pytest.mark.parametrize("loss", DOCUMENT_LOSSES)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", ["lstm", "peephole", "peephole-full", "gru-before", "mingru", "minlstm"])
def test_gradients_are_those_of_the_definition(cell: Kind, head: Head, loss: DocumentLoss) -> None:
    net = one_way(head, cell, layers=2)
    samples = samples_of(net, (2, 5, 6, 11))
    expected = expected_gradients(net, samples, 3, loss)
    before = weights(net)
    fit(net, samples, replace(ONE_STEP, bptt=3, bptt_loss=loss), lambda _: 0.0, lambda _: None, CPU)
    for name, after in weights(net).items():
        if name in expected:
            torch.testing.assert_close(before[name] - after, expected[name], rtol=1e-4, atol=2e-6, msg=name)
    whole = network(net.architecture)
    fit(whole, samples, ONE_STEP, lambda _: 0.0, lambda _: None, CPU)
    assert not torch.allclose(weights(whole)["embeddings.word.weight"], weights(net)["embeddings.word.weight"])


def test_a_loss_at_the_end_reaches_the_last_window_alone() -> None:
    net = one_way("max")
    rows = np.arange(1, 11, dtype=np.int32)[:, None]

    def reached(loss: DocumentLoss) -> list[int]:
        fresh = network(net.architecture)
        before = table(fresh).clone()
        sample = Sample(rows, np.array([1]))
        fit(fresh, [sample], replace(ONE_STEP, bptt=4, bptt_loss=loss), lambda _: 0.0, lambda _: None, CPU)
        return (table(fresh) != before).any(1).nonzero()[:, 0].tolist()

    assert reached("end") == [9, 10], "the text's last two words make its last window"
    assert reached("windows") == list(range(1, 11))


def test_dropped_units_and_weights_stay_dropped_for_a_whole_text() -> None:
    net = Network(one_way("max", layers=2).architecture, dropouts=Dropouts(0.5, 0.5, 0.5)).train()
    seen: list[Tensor] = []
    for layer in net.recurrent():
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] == 0))
    batch, passage, masks = batch_of(samples_of(net, (9, 4, 8))), Passage(), []
    for kept, window in cut(batch, "sentiment", 4, "windows"):
        passage.cut(kept)
        net(window.tokens, window.lengths, passage)
        masks.append(dict(passage.weights))
    below, above = seen[0::2], seen[1::2]
    for first, second, third in (below, above):
        assert torch.equal(first[[0, 2], 0], second[:, 0])
        assert torch.equal(first[[0], 0], third[:, 0])
        assert not torch.equal(first[0, 0], first[1, 0])
    assert all(mask is masks[0][number] for each in masks for number, mask in each.items())
    assert masks[0][0] is not None


class Kept:
    """Bytes that autograd keeps for the way back: now, and at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> Any:
        size = tensor.numel() * tensor.element_size()
        held = _Held(tensor)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(held, self._free, size)
        return held

    def _free(self, size: int) -> None:
        self.now -= size


class _Held:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize("head", ["max", "tagger"])
def test_what_is_kept_for_the_way_back_does_not_grow_with_the_text(head: Head) -> None:
    def most(length: int, bptt: int) -> int:
        net, kept = one_way(head), Kept()
        samples = samples_of(net, (length,))
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda held: held.tensor):
            fit(net, samples, replace(ONE_STEP, bptt=bptt), lambda _: 0.0, lambda _: None, CPU)
        assert kept.now == 0
        return kept.most

    assert most(800, 50) == most(100, 50)
    assert most(800, 0) > 7 * most(100, 0)


@pytest.mark.parametrize(
    ("directions", "crf", "why"),
    [
        (("forward", "backward"), False, "the backward direction cannot be carried over"),
        (("forward",), True, "a CRF's is one of the whole sequence"),
        (("forward",), False, None),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(directions: Any, crf: bool, why: str | None) -> None:
    found = refusal(directions, crf)
    assert found is None if why is None else why in str(found)


def test_a_backward_reader_has_one_window() -> None:
    net, passage = network(architecture()), Passage()
    tokens, lengths = torch.ones(2, 3, 1, dtype=torch.int32), torch.tensor([3, 3])
    net(tokens, lengths, passage)
    with pytest.raises(ValueError, match="cannot be carried over"):
        net(tokens, lengths, passage)
