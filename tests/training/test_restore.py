"""A network read back from its bundle: the very one that was exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from service.bundle import CARD, FILES, WEIGHTS, Head, load
from service.engine import Engine
from service.errors import BundleError
from tests.bundles import KINDS, Kind, Options, architecture, draft, network, random_rows, tiny_bundle
from training.commands.export import export
from training.embedding import round_to_storage
from training.restore import network as restored


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize(("head", "bidirectional", "layers"), [("last", False, 1), ("tagger", True, 2)])
def test_the_network_comes_back(tmp_path: Path, cell: Kind, head: Head, bidirectional: bool, layers: int) -> None:
    task = "ner" if head == "tagger" else "sentiment"
    shape = architecture(task=task, cell=cell, bidirectional=bidirectional, layers=layers, head=head)
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
        export(tmp_path / f"m{number}")
        again = load(tmp_path / f"m{number}" / "2")
        (row,) = random_rows(restored(bundle).architecture, (9,))
        np.testing.assert_allclose(Engine(again).predict([row]), Engine(bundle).predict([row]), rtol=0, atol=1e-5)
        assert again.manifest.crf == bundle.manifest.crf


def test_what_a_bundle_does_not_keep_is_said(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "m", task="ner", characters="cnn", word_bits=4)
    with pytest.raises(BundleError, match="train it again"):
        restored(bundle)


def test_exported_again_it_is_the_next_version_with_the_same_files(tmp_path: Path) -> None:
    first = tiny_bundle(tmp_path / "m")
    export(tmp_path / "m")
    second = load(tmp_path / "m" / "2")
    for file in FILES:
        assert second.file(file).read_bytes() == first.file(file).read_bytes(), file
    assert second.manifest.quality == first.manifest.quality
    assert second.manifest.parity == first.manifest.parity


def test_exported_to_another_folder(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "m")
    export(tmp_path / "m" / "1", out=tmp_path / "other")
    assert load(tmp_path / "other" / "1").file(CARD).read_text().startswith("# other")
