"""LSTMs that compute in integers: both graphs hold the same weights, and answers alone are those in a batch."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load_file

from service.errors import BundleError
from service.model.bundle import CARD, MANIFEST, WEIGHTS, Bundle, Manifest, load
from service.model.decoding import log_softmax
from service.model.engine import Engine
from service.model.tokenizer import Tokenizer
from service.scoring.parity import GATES_TOLERANCE, LOGITS_TOLERANCE
from tests import corpora
from tests.bundles import KINDS, ORIGIN, Kind, Options, architecture, network, random_rows, tiny_bundle, tokenizer
from training.commands.export import export as export_command
from training.export import bundle as exporting
from training.export.bundle import export
from training.export.onnx import integers
from training.export.restore import network as restored
from training.scoring.evaluate import of_network

SHAPES: list[Options] = [
    {"bidirectional": True},
    {"bidirectional": False, "layers": 2, "head": "mean"},
    {"layers": 2, "head": "last"},
    {"task": "ner"},
    {"word_bits": 8},
]


def int8(folder: Path, shape: Options) -> Bundle:
    form = architecture(**(shape | Options(hidden=16)))
    return export(network(form), tokenizer(form), ORIGIN, "CC0-1.0", folder, lambda _: [], precision="int8")


def test_columns_are_brought_to_one_range_and_nothing_else_changes() -> None:
    """Before any rounding: tables and first weights make up for each other."""
    made, wanted = network(architecture(task="ner")), network(architecture(task="ner"))
    integers.prepare(made)
    for name, table in made.embeddings.items():
        assert isinstance(table.weight, torch.Tensor)
        np.testing.assert_allclose(table.weight.abs().amax(0).detach().numpy(), 1, err_msg=name)
    rows = random_rows(made.architecture, (5, 30, 12))
    cpu = torch.device("cpu")
    assert 0 < np.abs(of_network(made, cpu)(rows) - of_network(wanted, cpu)(rows)).max() < 0.1


def test_integers_times_their_scales_are_the_weights_that_were_rounded() -> None:
    made = network(architecture(hidden=16))
    integers.prepare(made)
    cells = made.recurrent()[0].directions()
    whole: NDArray[np.float32] = np.stack([cell.matrices()[1].detach().numpy() for cell in cells])
    found = integers.stored({"recurrent.0.R": whole, "head.weight": whole})
    kept, scale = found["recurrent.0.R"], found["recurrent.0.R.scale"]
    assert kept.dtype == np.int8
    assert kept.shape == (2, 18, 4 * 18)
    assert np.abs(kept.astype(int)).max() == integers.LARGEST
    back = (kept.astype(float).transpose(0, 2, 1) * scale.astype(float)[..., None]).reshape(2, 4, 18, 18)
    np.testing.assert_allclose(back[:, :, :16, :16].reshape(whole.shape), whole, rtol=1e-6)
    assert not back[:, :, 16:].any()
    assert not back[..., 16:].any()
    assert found["head.weight"] is whole


def test_two_products_fit_sixteen_bits() -> None:
    assert 2 * 255 * integers.LARGEST <= np.iinfo(np.int16).max < 2 * 255 * (integers.LARGEST + 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_graphs_hold_the_weights_and_agree(tmp_path: Path, shape: Options) -> None:
    bundle = int8(tmp_path / "m", shape)
    assert bundle.manifest.precision == "int8"
    weights = load_file(bundle.file(WEIGHTS))
    assert weights["recurrent.0.R"].dtype == weights["recurrent.0.W"].dtype == np.int8
    parity = bundle.manifest.parity
    assert parity.trace < LOGITS_TOLERANCE, "the trace graph computes in float32, with the rounded weights"
    assert parity.gates < GATES_TOLERANCE
    assert parity.batch == 0
    engine = Engine(bundle)
    rows = random_rows(architecture(**shape), (40, 40))
    predicted, traced = (np.exp(log_softmax(each)) for each in (engine.predict(rows), engine.trace(rows).logits))
    assert 0 < np.abs(predicted - traced).max() < 0.05
    assert "| precision | int8" in bundle.file(CARD).read_text()


@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_does_not_depend_on_the_batch(tmp_path: Path, shape: Options) -> None:
    """To the last bit: ranges are fixed, whatever else the batch holds, and however much of it is padding."""
    engine, form = Engine(int8(tmp_path / "m", shape)), architecture(**shape)
    rows = random_rows(form, (1, 2, 3, 50, 200, 7, 7, 31), seed=3)
    together = engine.predict(rows)
    for number, row in enumerate(rows):
        alone = engine.predict([row])[0]
        mine = together[number][: len(row)] if shape.get("task") == "ner" else together[number]
        np.testing.assert_array_equal(mine, alone)


def test_an_answer_that_depends_on_the_batch_is_not_certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would without the units and columns that fix the ranges."""
    monkeypatch.setattr(integers, "SATURATED", 0.0)
    monkeypatch.setattr(exporting, "BATCH_TOLERANCE", 0.0)
    with pytest.raises(BundleError, match="answers depend on the batch by"):
        int8(tmp_path / "m", {"bidirectional": True})
    assert not list(tmp_path.rglob(MANIFEST))


@pytest.mark.parametrize("cell", [cell for cell in KINDS if cell != "lstm"])
def test_other_cells_are_refused_with_the_reason(tmp_path: Path, cell: Kind) -> None:
    shape = architecture(cell=cell)
    with pytest.raises(BundleError, match="int8 is for the lstm: ONNX Runtime's one recurrent operator of integers"):
        export(network(shape), tokenizer(shape), ORIGIN, "none", tmp_path / "m", lambda _: [], precision="int8")
    manifest = tiny_bundle(tmp_path / "float", cell=cell).manifest.model_dump()
    with pytest.raises(ValidationError, match="int8 is for the lstm"):
        Manifest.model_validate(manifest | {"precision": "int8"})


def test_inputs_of_unknown_range_are_refused() -> None:
    with pytest.raises(BundleError, match="the features of characters have no fixed range"):
        integers.check(architecture(task="ner", characters="cnn"))


def test_word_vectors_of_fewer_bits_take_sixteen(tmp_path: Path) -> None:
    weights = load_file(int8(tmp_path / "m", {"word_bits": 8}).file(WEIGHTS))
    assert weights["embedding.word"].dtype == np.float16
    assert "embedding.word.scale" not in weights


def test_integers_are_not_exported_again(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="int8 already: export the float32 bundle"):
        restored(int8(tmp_path / "m", {}))


def test_the_command_measures_what_is_lost(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "m", hidden=16)
    dev = corpora.sentiment(tmp_path / "dev.tsv")
    export_command.main([str(tmp_path / "m"), "--int8", "--dev", str(dev)], standalone_mode=False)
    made = load(tmp_path / "m-int8" / "1")
    assert "Before it was made int8:" in made.file(CARD).read_text()
    assert "its answers do not depend on the batch" in made.file(CARD).read_text()
    before, after = made.manifest.quality_before, made.manifest.quality
    assert [score.metric for score in before] == [score.metric for score in after]
    assert len(after) == 4
    assert Tokenizer.load(made.file("tokenizer.json"), made.manifest.features)


def test_int8_without_data_is_refused(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "m")
    with pytest.raises(click.BadParameter, match="int8 costs quality"):
        export_command.main([str(tmp_path / "m"), "--int8"], standalone_mode=False)
