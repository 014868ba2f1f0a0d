"""Networks against the equations in float64; padding, directions, heads and dropout."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.model.bundle import Head, Task
from service.model.engine import pad
from service.model.equations import MINIMAL
from tests import reference
from tests.bundles import KINDS, Kind, Rows, architecture, named, network, random_rows, table
from training.nets.initial import Initial, InputStart
from training.nets.networks import EMBEDDING_SIZES, Architecture, Dropouts, Network, reorder, reversal

HEADS: list[Head] = ["last", "mean", "max", "tagger"]


def shape_of(cell: Kind, head: Head, bidirectional: bool = True, layers: int = 1, hidden: int = 6) -> Architecture:
    task: Task = "ner" if head == "tagger" else "sentiment"
    return architecture(task=task, cell=cell, bidirectional=bidirectional, layers=layers, hidden=hidden, head=head)


def logits(net: Network, rows: list[Rows], filler: int = 0) -> np.ndarray:
    """Logits of a padded batch whose padding holds `filler`."""
    tokens, lengths = pad(rows)
    for number, length in enumerate(lengths):
        tokens[number, length:] = filler
    with torch.inference_mode():
        return net(torch.from_numpy(tokens), torch.from_numpy(lengths.astype(np.int64))).numpy()


@pytest.mark.parametrize(("cell", "bidirectional", "layers"), list(product(KINDS, [False, True], [1, 2, 3])))
def test_logits_are_those_of_the_equations(cell: Kind, bidirectional: bool, layers: int) -> None:
    for head in HEADS:
        shape = shape_of(cell, head, bidirectional, layers)
        net, rows = network(shape), random_rows(shape, (1, 2, 9, 30, 9))
        actual = logits(net, rows)
        for number, row in enumerate(rows):
            expected = reference.answer(net, row).logits
            found = actual[number, : len(row)] if head == "tagger" else actual[number]
            assert found.shape == expected.shape
            assert found == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(("cell", "head"), list(product(KINDS, HEADS)))
def test_what_stands_in_the_padding_does_not_matter(cell: Kind, head: Head) -> None:
    shape = shape_of(cell, head, layers=2)
    net, rows = network(shape), random_rows(shape, (1, 4, 11))
    one, other = logits(net, rows, filler=0), logits(net, rows, filler=5)
    for number, row in enumerate(rows):
        cut = slice(len(row)) if head == "tagger" else slice(None)
        np.testing.assert_array_equal(one[number][cut], other[number][cut])


NETWORKS = {(cell, head): network(shape_of(cell, head, layers=2)) for cell, head in product(KINDS, HEADS)}


@settings(max_examples=40, deadline=None)
@given(
    cell=st.sampled_from(KINDS),
    head=st.sampled_from(HEADS),
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=9),
    seed=st.integers(0, 1000),
)
def test_a_row_of_a_batch_gets_what_it_gets_alone(cell: Kind, head: Head, lengths: list[int], seed: int) -> None:
    net = NETWORKS[cell, head]
    rows = random_rows(net.architecture, lengths, seed)
    together = logits(net, rows)
    for number, row in enumerate(rows):
        alone = logits(net, [row])[0]
        # torch's matrix products may round otherwise in another batch; the runtime that serves is held to be exact.
        assert together[number][: len(alone)] == pytest.approx(alone, abs=1e-6)


def test_the_backward_reader_begins_at_the_last_token() -> None:
    """Of two readers with one set of weights, each reads the mirrored text as the other does the text."""
    shape = shape_of("lstm", "tagger")
    net = network(shape)
    forward, backward = net.recurrent()[0].directions()
    backward.load_state_dict(forward.state_dict())
    net.head.weight.data[:, shape.hidden :] = net.head.weight.data[:, : shape.hidden].flip(0)
    net.head.bias.data.zero_()
    (row, longer) = random_rows(shape, (7, 12))
    plain, mirrored = logits(net, [row, longer])[0, :7], logits(net, [row[::-1], longer])[0, :7]
    assert plain[::-1, ::-1] == pytest.approx(mirrored, abs=1e-6)


def test_rows_are_turned_within_their_lengths_and_gradients_turned_back() -> None:
    lengths = torch.tensor([4, 1, 3])
    positions = reversal(lengths, 4)
    states = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    turned = reorder(states, positions)
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(turned[row, :length], states[row, :length].flip(0))
        assert torch.equal(turned[row, length:], states[row, length:])
    assert torch.autograd.gradcheck(lambda given: reorder(given, positions), states)
    mirrored = states.detach().transpose(1, 2).contiguous().transpose(1, 2)  # however it lies in memory
    assert torch.equal(reorder(mirrored, positions), turned)


@pytest.mark.parametrize(("bidirectional", "width"), [(False, 6), (True, 12)])
def test_shapes(bidirectional: bool, width: int) -> None:
    shape = shape_of("gru", "tagger", bidirectional, layers=3)
    net = network(shape)
    assert shape.width == width
    assert net.head.weight.shape == (5, width)
    assert len(net.recurrent()) == 3
    assert [len(layer.directions()) for layer in net.recurrent()] == [1 + bidirectional] * 3
    sizes = [EMBEDDING_SIZES[feature.name] for feature in shape.features]
    assert net.embed(torch.zeros(2, 4, len(sizes), dtype=torch.int32)).shape == (2, 4, sum(sizes))


def test_the_reset_belongs_to_the_gru() -> None:
    assert shape_of("gru", "max").gru_reset == "after"
    assert shape_of("gru-before", "max").gru_reset == "before"
    assert shape_of("lstm", "max").gru_reset is None


def test_dropout_is_for_training_alone() -> None:
    shape = shape_of("lstm", "max", layers=2)
    net = Network(shape, Dropouts(0.5, 0.5, words=0.5))
    rows = random_rows(shape, (8, 8, 8))
    net.eval()
    np.testing.assert_array_equal(logits(net, rows), logits(net, rows))
    net.train()
    assert not np.array_equal(logits(net, rows), logits(net, rows))


def test_dropout_drops_a_unit_for_a_whole_text_and_keeps_the_mean() -> None:
    shape = shape_of("lstm", "tagger", hidden=64)
    net = Network(shape, Dropouts(0.25, 0.25))
    seen: list[torch.Tensor] = []
    net.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rows = random_rows(shape, (20,) * 8)
    tokens, lengths = pad(rows)
    net.train()
    with torch.inference_mode():
        net(torch.from_numpy(tokens), torch.from_numpy(lengths.astype(np.int64)))
        whole = net.embed(torch.from_numpy(tokens))
    kept = seen[0] != 0
    assert torch.equal(kept, kept[:, :1].expand_as(kept)), "one mask for all steps"
    assert not torch.equal(kept[0], kept[1]), "and one for each text"
    # 8 masks of 140 units: the mean has a standard deviation of 0.013.
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.08)
    assert seen[0][kept].numpy() == pytest.approx((whole[kept] / 0.75).numpy(), rel=1e-5)


def test_each_kind_of_dropout_is_where_it_says() -> None:
    shape = shape_of("lstm", "tagger", bidirectional=False, layers=2, hidden=64)
    rows = random_rows(shape, (20, 20))
    tokens, lengths = pad(rows)

    def seen(dropouts: Dropouts) -> list[torch.Tensor]:
        net, found = Network(shape, dropouts=dropouts), []
        for layer in net.recurrent():
            layer.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0] == 0))
        net.train()
        with torch.inference_mode():
            net(torch.from_numpy(tokens), torch.from_numpy(lengths.astype(np.int64)))
        return found

    embedded, between = seen(Dropouts(embeddings=0.5))
    assert bool(embedded.any())
    assert not between.any()
    embedded, between = seen(Dropouts(layers=0.5))
    assert not embedded.any()
    assert torch.equal(between, between[:, :1].expand_as(between))
    _, plain = seen(Dropouts(layers=0.5, locked=False))
    assert not torch.equal(plain, plain[:, :1].expand_as(plain)), "a new mask at each step"
    assert float(plain.float().mean()) == pytest.approx(0.5, abs=0.05)  # five standard deviations


@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
def test_a_cell_without_recurrent_weights_refuses_to_drop_them(cell: Kind) -> None:
    with pytest.raises(ValueError, match=f"{cell} has no recurrent weights"):
        Network(shape_of(cell, "mean"), dropouts=Dropouts(weights=0.1))


@pytest.mark.parametrize("cell", [cell for cell in KINDS if named(cell)[0] not in MINIMAL])
def test_weight_drop_drops_recurrent_weights_in_training_alone(cell: Kind) -> None:
    shape = shape_of(cell, "mean", layers=2)
    net = network(shape)
    rows = random_rows(shape, (1, 1)), random_rows(shape, (9, 9))
    whole = [logits(net, each) for each in rows]
    dropped = Network(shape, dropouts=Dropouts(weights=0.9))
    dropped.load_state_dict(net.state_dict())
    assert np.array_equal(logits(dropped.eval(), rows[1]), whole[1])
    dropped.train()
    assert logits(dropped, rows[0]) == pytest.approx(whole[0], abs=1e-6), "the first step has no past to drop"
    assert not np.allclose(logits(dropped, rows[1]), whole[1], atol=1e-4)
    for layer in dropped.recurrent():
        for each in layer.directions():
            each.weight_drop = 1e-12  # on the way of dropped weights, without dropping any
    assert logits(dropped, rows[1]) == pytest.approx(whole[1], abs=1e-6)


def test_initialisation_by_name() -> None:
    shape = shape_of("lstm", "max", hidden=80)
    squares: dict[InputStart, tuple[float, float]] = {
        "xavier": (2 / (100 + 80), 2 / (80 + 80)),
        "he": (2 / 100, 2 / 80),
    }
    for start, (square, recurrent) in squares.items():
        net = Network(shape, initial=Initial(input=start, recurrent=start, forget_bias=2.5))
        for gate, part in net.recurrent()[0].directions()[1].weights().items():
            assert float(part.w.square().mean()) == pytest.approx(square, rel=0.1)  # five standard deviations
            assert part.r is not None
            assert float(part.r.square().mean()) == pytest.approx(recurrent, rel=0.1)
            assert torch.equal(part.w_bias + part.r_bias, torch.full((80,), 2.5 if gate == "forget" else 0.0))


def test_word_dropout_makes_words_unknown_and_leaves_other_features_alone() -> None:
    shape = shape_of("lstm", "tagger")
    net = Network(shape, Dropouts(words=0.3))
    (row,) = random_rows(shape, (4000,))
    row[:, 0] = 3
    net.train()
    with torch.inference_mode():
        embedded = net.embed(torch.from_numpy(row)[None])[0]
        net.eval()
        whole = net.embed(torch.from_numpy(row)[None])[0]
        unknown = table(net)[0]
    words = EMBEDDING_SIZES["word"]
    dropped = (embedded[:, :words] == unknown).all(dim=1)
    assert float(dropped.float().mean()) == pytest.approx(0.3, abs=0.04)  # five standard deviations
    assert torch.equal(embedded[~dropped], whole[~dropped])
    assert torch.equal(embedded[:, words:], whole[:, words:])


def test_embedding_tables_start_with_unit_variance_over_the_row() -> None:
    shape = shape_of("lstm", "tagger")
    nets = [Network(shape) for _ in range(3)]
    for feature in shape.features:
        columns = EMBEDDING_SIZES[feature.name]
        weight = torch.cat([table(net, feature.name) for net in nets])
        assert float(weight.abs().max()) <= (3 / columns) ** 0.5
        # The smallest table has 3 * 64 numbers: six standard deviations.
        assert float(weight.std()) == pytest.approx(columns**-0.5, rel=0.2)
