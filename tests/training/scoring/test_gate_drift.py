"""What a bundle's gates do over a corpus, measured and written into its manifest."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.model import bundle as bundles
from service.model.bundle import TOKENIZER
from service.model.engine import Engine
from service.model.gate_drift import BOUNDS, restored
from service.model.tokenizer import Tokenizer
from tests.bundles import tiny_bundle
from training.commands.health import health
from training.data.corpora import CorpusError
from training.scoring.gate_drift import MAX_TEXTS, measure


def test_the_command_writes_the_manifest_and_leaves_the_files(tmp_path: Path) -> None:
    made = tiny_bundle(tmp_path / "sentiment-gru", cell="gru")
    data = tmp_path / "dev.tsv"
    data.write_text("text\tlabel\na great film\tpositive\na dull film\tnegative\nbad\tnegative\n", encoding="utf-8")
    assert made.manifest.health is None
    health.main([str(tmp_path / "sentiment-gru"), "--data", str(data)], standalone_mode=False)
    after = bundles.load(made.path).manifest
    assert after.model_copy(update={"health": None}) == made.manifest
    assert after.health is not None
    assert (after.health.texts, after.health.tokens) == (3, 7)
    assert {gate.gate for gate in after.health.gates if gate.horizon} == {"update"}
    for (_, _, _, what), counts in restored(after.health).counts.items():
        assert len(counts.bins) == len(BOUNDS[what]) + 1
        assert counts.bins.sum() == 3 * made.manifest.hidden


def test_large_corpora_are_thinned_and_empty_ones_refused(tmp_path: Path) -> None:
    made = tiny_bundle(tmp_path / "sentiment-rnn", cell="rnn")
    engine = Engine(made)
    row = Tokenizer.load(made.file(TOKENIZER), made.manifest.features).encode("film", 10).rows
    measured = measure(made, engine, [row] * (2 * MAX_TEXTS), "many")
    assert measured.texts == MAX_TEXTS
    with pytest.raises(CorpusError, match="no text"):
        measure(made, engine, [], "none")
