"""The networks over characters, and the text side of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from service.model.bundle import CharacterNetwork, Feature
from service.model.features import CHARACTERS as ROWS
from service.model.tokenizer import UNKNOWN, build
from training.nets.characters import CHARACTERS, CharacterCNN, distinct

FEATURES = [Feature(name="word", size=2), Feature(name="character", size=ROWS, columns=6)]


def characters(*tokens: str) -> np.ndarray:
    return build([UNKNOWN, "a"], FEATURES).rows(tokens)[:, 1:]


def test_characters_are_read_as_sent_with_digits_alike() -> None:
    rows = characters("Ab1", "Ab2", "ab1")
    assert rows[0].tolist() == [ord("A") - 31, ord("b") - 31, ord("0") - 31, 0, 0, 0]
    assert rows[0].tolist() == rows[1].tolist()
    assert rows[0].tolist() != rows[2].tolist()


def test_of_a_long_token_the_two_ends_are_read() -> None:
    assert characters("abcXXXXdef").tolist() == characters("abcdef").tolist()


def test_other_alphabets_fall_into_buckets_of_their_own() -> None:
    rows = characters("é東ж")
    assert ((rows[0, :3] > 95) & (rows[0, :3] < ROWS)).all()
    assert len(set(rows[0, :3].tolist())) == 3


@pytest.mark.parametrize("kind", ["cnn", "lstm"])
def test_a_token_is_read_alone_and_the_same_in_any_batch(kind: CharacterNetwork) -> None:
    torch.manual_seed(1)
    network = CHARACTERS[kind](ROWS).eval()
    rows = torch.tensor(characters("Ada", "x", "Lovelace", "Ada"))
    with torch.inference_mode():
        short = network(rows[:, :2])  # as many columns as a window has beside its first
        assert short.numpy() == pytest.approx(torch.cat([network(row[None, :2]) for row in rows]).numpy(), abs=1e-6)
        together = network.of_batch(rows.view(2, 2, -1)).flatten(0, 1)
        for token, row in zip(together, rows, strict=True):
            assert token.numpy() == pytest.approx(network(row[None])[0].numpy(), abs=1e-6)
        nothing = network.of_batch(torch.zeros(1, 1, 6, dtype=torch.int32))
    assert torch.isfinite(nothing).all()
    assert not torch.equal(together[0], together[1])


def test_a_convolution_is_a_sum_of_rows() -> None:
    torch.manual_seed(2)
    network = CharacterCNN(ROWS).eval()
    rows = torch.tensor(characters("Ada", "Lovelace"))
    tables, padded = network.tables(), torch.nn.functional.pad(rows, (1, 1))
    summed = sum(tables[k][padded[:, k : k + 6].long()] for k in range(3))
    assert isinstance(summed, torch.Tensor)
    with torch.inference_mode():
        expected = network(rows)
        assert network.convolution.bias is not None
        assert (summed.amax(1) + network.convolution.bias).numpy() == pytest.approx(expected.numpy(), abs=1e-6)


WORDS = ("Ada", "aaaa", "", "x", "Lovelace", "abcdef", "é東ж", "aXaXa", "Ada")


def test_the_network_and_its_gradients_are_those_of_the_convolution() -> None:
    """Also for tokens of one character, of as many as there are columns, with a trigram twice, and for padding."""
    torch.manual_seed(4)
    network = CharacterCNN(ROWS).double()
    rows = torch.tensor(characters(*(word or "a" for word in WORDS)))
    rows[WORDS.index("")] = 0
    weights = torch.randn(len(rows), network.width, dtype=torch.float64)
    parameters = list(network.parameters())
    for chosen in (rows, rows[:1], rows[2:3], rows[[0, 3]]):
        found, expected = network(chosen), network.convolution(network.table(chosen).transpose(1, 2)).amax(2)
        assert found.detach().numpy() == pytest.approx(expected.detach().numpy(), abs=1e-12)
        picked = weights[: len(chosen)]
        ours = torch.autograd.grad((found * picked).sum(), parameters)
        theirs = torch.autograd.grad((expected * picked).sum(), parameters)
        for one, other in zip(ours, theirs, strict=True):
            assert one.numpy() == pytest.approx(other.numpy(), abs=1e-12)
        assert not ours[0][0].any(), "padding does not learn"


def test_under_mixed_precision_the_sums_are_in_full_precision() -> None:
    torch.manual_seed(5)
    network = CharacterCNN(ROWS)
    rows = torch.tensor(characters("Ada", "Lovelace"))
    with torch.autocast("cpu", torch.bfloat16):
        found = network(rows)
    assert torch.equal(found, network(rows))


def test_each_different_row_is_there_once() -> None:
    rows = torch.tensor(characters("Ada", "x", "Ada", "y", "x", "Ada"))
    for given in (rows, rows.t().contiguous().t()):  # however it lies in memory
        different, where = distinct(given)
        assert torch.equal(different[where], rows)
        assert len(different) == 3
