"""Language-model pretraining: it predicts what it may not see, it learns, and `fit` starts from what it wrote."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from service.model.bundle import Feature
from service.model.equations import CellName, Direction
from tests.training.test_run import options as fit_options
from training import run as fitting
from training.loop.pretrain import LanguageModel, Pretraining, PretrainingError, PretrainRecipe, run, start, table_of
from training.nets.networks import Architecture, Design, Network

BOTH: tuple[Direction, ...] = ("forward", "backward")
TEXTS = "one two three four five six seven\n" * 40 + "seven six five four three two one\n" * 40


def model(cell: CellName = "lstm", directions: tuple[Direction, ...] = BOTH) -> LanguageModel:
    torch.manual_seed(3)
    shape = Architecture("sentiment", cell, directions, 1, 5, "max", (), (Feature(name="word", size=30),), 4)
    return LanguageModel(shape, 0.0).eval()


def designed(cell: CellName, hidden: int, **more: Any) -> Design:
    return Design("sentiment", cell, BOTH, 1, hidden, "max", **more)


def reading(folder: Path, **changed: Any) -> Pretraining:
    (folder / "texts.txt").write_text(TEXTS, "utf-8")
    loop = PretrainRecipe(epochs=changed.pop("epochs", 10), learning_rate=0.05, window=7, batch_rows=8, dropout=0.0)
    job = Pretraining(designed("gru", 12), (folder / "texts.txt",), (folder / "texts.txt",), None, 100, loop)
    return replace(job, **changed)


def quiet(_: object) -> None:
    """Told, and reported to."""


@pytest.mark.parametrize("way", [0, 1])
def test_a_reader_never_sees_the_word_that_it_predicts(way: int) -> None:
    tokens = torch.randint(1, 30, (1, 9), generator=torch.Generator().manual_seed(1))
    losses = model()(tokens, torch.tensor([9])).view(2, 8)[way]
    last = tokens.clone()
    last[0, -1 if way == 0 else 0] = (last[0, -1 if way == 0 else 0] + 7) % 30
    changed = model()(last, torch.tensor([9])).view(2, 8)[way]
    assert torch.equal(losses[:-1], changed[:-1])
    assert losses[-1] != changed[-1]


def test_padding_changes_nothing_and_is_not_predicted() -> None:
    generator = torch.Generator().manual_seed(2)
    short, long = (torch.randint(1, 30, (1, count), generator=generator) for count in (4, 7))
    together = torch.zeros(2, 7, dtype=torch.long)
    together[0, :4], together[1] = short, long
    losses = model()(together, torch.tensor([4, 7])).view(2, -1)
    alone = [model()(ids, torch.tensor([ids.shape[1]])).view(2, -1) for ids in (short, long)]
    torch.testing.assert_close(losses, torch.cat(alone, dim=1))


def test_it_learns_what_comes_next_and_keeps_the_words_with_the_encoder(tmp_path: Path) -> None:
    out = tmp_path / "made" / "encoder.safetensors"
    first = run(reading(tmp_path, epochs=1), out, quiet, quiet)
    last = run(reading(tmp_path), out, quiet, quiet)
    assert first is not None
    assert last is not None
    # The first of the seven words says which order it is: the rest is certain, and a perplexity of 1 within reach.
    assert last < 1.5 < first
    words, size = table_of(out)
    assert (set(words) - {"<unk>"}, size) == ({"one", "two", "three", "four", "five", "six", "seven"}, 100)
    assert [path.name for path in out.parent.iterdir()] == ["encoder.safetensors"]


def test_fit_starts_from_an_encoder(tmp_path: Path) -> None:
    plain = fit_options(tmp_path)
    encoder = tmp_path / "encoder.safetensors"
    loop = PretrainRecipe(epochs=1, batch_rows=8)
    run(Pretraining(designed("gru", 6), plain.train, (), None, 100, loop), encoder, quiet, quiet)
    made, _ = fitting.run(plain.but(start=encoder), quiet, quiet)
    assert made is not None
    assert made.manifest.features[0].size == len(table_of(encoder)[0])
    with pytest.raises(PretrainingError, match=r"another cell, size or number of directions: .*needed"):
        fitting.run(plain.but(start=encoder, hidden=7), quiet, quiet)
    with pytest.raises(PretrainingError, match="not an encoder that"):
        fitting.run(plain.but(start=plain.train[0]), quiet, quiet)


def test_a_gru_whose_reset_gate_acts_before_is_pretrained_too(tmp_path: Path) -> None:
    encoder, plain = tmp_path / "encoder.safetensors", fit_options(tmp_path)
    before = designed("gru", 6, reset="before")
    run(Pretraining(before, plain.train, (), None, 100, PretrainRecipe(epochs=1, batch_rows=8)), encoder, quiet, quiet)
    made, _ = fitting.run(plain.but(gru_reset="before", start=encoder), quiet, quiet)
    assert made is not None
    assert made.manifest.gru_reset == "before"
    with pytest.raises(PretrainingError, match="another cell"):
        fitting.run(plain.but(start=encoder), quiet, quiet)


def test_every_weight_of_the_encoder_is_taken_over_and_the_head_is_not(tmp_path: Path) -> None:
    out = tmp_path / "encoder.safetensors"
    run(reading(tmp_path, epochs=1), out, quiet, quiet)
    words, size = table_of(out)
    features = (Feature(name="word", size=len(words)),)
    network = Network(Architecture("sentiment", "gru", BOTH, 1, 12, "max", ("a", "b"), features, size))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    start(network, out)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name for name in before if name.startswith("head.")}.isdisjoint(changed)
    assert changed >= {name for name in before if not name.startswith("head.") and "bias" not in name}


def test_a_second_layer_over_both_directions_is_refused(tmp_path: Path) -> None:
    plain = reading(tmp_path)
    with pytest.raises(PretrainingError, match="would see the very words"):
        run(replace(plain, design=replace(plain.design, layers=2)), tmp_path / "out.safetensors", quiet, quiet)


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    job = reading(tmp_path)
    job = replace(job, recipe=replace(job.recipe, learning_rate=math.inf))
    with pytest.raises(PretrainingError, match="no number any more"):
        run(job, tmp_path / "out.safetensors", quiet, quiet)
