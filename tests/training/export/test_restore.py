"""A network read back from its bundle: the very one that was exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from service.model.bundle import CARD, FILES, WEIGHTS, CharacterNetwork, Head, Task, load
from service.model.engine import Engine
from tests.bundles import KINDS, Kind, Options, architecture, draft, network, random_rows, tiny_bundle
from training.commands.export import export
from training.export.onnx.embedding import Quantised, round_to_storage
from training.export.restore import network as restored
from training.nets.networks import WordBits


@pytest.mark.parametrize(("cell", "words"), [*((cell, 1) for cell in KINDS), ("mingru", 3), ("minlstm", 2)])
@pytest.mark.parametrize(("head", "bidirectional", "layers"), [("last", False, 1), ("tagger", True, 2)])
def test_the_network_comes_back(
    tmp_path: Path, cell: Kind, words: int, head: Head, bidirectional: bool, layers: int
) -> None:
    task: Task = "ner" if head == "tagger" else "sentiment"
    options: Options = {"task": task, "cell": cell, "head": head, "window_words": words, "layers": layers}
    shape = architecture(**options | Options(bidirectional=bidirectional))
    made = network(shape)
    round_to_storage(made)
    back = restored(draft(made, tmp_path / "one"))
    assert back.architecture == shape
    (row,) = random_rows(shape, (9,))
    tokens, lengths = torch.from_numpy(row)[None], torch.tensor([9])
    with torch.inference_mode():
        np.testing.assert_allclose(back(tokens, lengths), made(tokens, lengths), rtol=0, atol=1e-6)
    again = draft(back, tmp_path / "two")
    assert again.file(WEIGHTS).read_bytes() == (tmp_path / "one" / WEIGHTS).read_bytes()


def test_attention_a_crf_and_eight_bits_come_back(tmp_path: Path) -> None:
    several: tuple[Options, ...] = ({"head": "attention"}, {"task": "ner", "crf": True, "word_bits": 8})
    for number, options in enumerate(several):
        bundle = tiny_bundle(tmp_path / f"m{number}", **options)
        export.main([str(tmp_path / f"m{number}")], standalone_mode=False)
        again = load(tmp_path / f"m{number}" / "2")
        (row,) = random_rows(restored(bundle).architecture, (9,))
        np.testing.assert_allclose(Engine(again).predict([row]), Engine(bundle).predict([row]), rtol=0, atol=1e-5)
        assert again.manifest.crf == bundle.manifest.crf


@pytest.mark.parametrize(("characters", "word_bits"), [("cnn", 4), ("lstm", 4), ("cnn", 8), ("lstm", 16)])
def test_characters_and_packed_words_come_back(
    tmp_path: Path, characters: CharacterNetwork, word_bits: WordBits
) -> None:
    bundle = tiny_bundle(tmp_path / "m", task="ner", characters=characters, crf=True, word_bits=word_bits)
    export.main([str(tmp_path / "m")], standalone_mode=False)
    again = load(tmp_path / "m" / "2")
    before, after = (load_file(each.file(WEIGHTS)) for each in (bundle, again))
    assert before.keys() == after.keys()
    for name, array in before.items():
        if name == "embedding.character":
            np.testing.assert_allclose(after[name], array, rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(after[name], array, err_msg=name)
    rows = random_rows(restored(bundle).architecture, (9, 3))
    np.testing.assert_allclose(Engine(again).predict(rows), Engine(bundle).predict(rows), rtol=0, atol=1e-5)


def test_packed_words_that_were_not_all_learned_come_back() -> None:
    table = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    packed = Quantised.of(table, coarse=7)
    back = Quantised.of_halves(*packed.halves(), packed.scale)
    assert back.coarse == 7
    np.testing.assert_array_equal(back.whole, packed.whole)
    np.testing.assert_array_equal(Quantised.of(back.rounded(), 7).whole, packed.whole)


def test_exported_again_it_is_the_next_version_with_the_same_files(tmp_path: Path) -> None:
    first = tiny_bundle(tmp_path / "m")
    export.main([str(tmp_path / "m")], standalone_mode=False)
    second = load(tmp_path / "m" / "2")
    for file in FILES:
        assert second.file(file).read_bytes() == first.file(file).read_bytes(), file
    assert second.manifest.quality == first.manifest.quality
    assert second.manifest.parity == first.manifest.parity


def test_exported_to_another_folder(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "m")
    export.main([str(tmp_path / "m" / "1"), "--out", str(tmp_path / "other")], standalone_mode=False)
    assert load(tmp_path / "other" / "1").file(CARD).read_text().startswith("# other")
