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
from training.commands.gate_statistics import gate_statistics
from training.data.corpora import CorpusError
from training.scoring.gate_drift import MAX_TEXTS, measure


def test_the_command_writes_the_manifest_and_leaves_the_files(tmp_path: Path) -> None:
    made = tiny_bundle(tmp_path / "sentiment-gru", cell="gru")
    data = tmp_path / "dev.tsv"
    data.write_text("text\tlabel\na great film\tpositive\na dull film\tnegative\nbad\tnegative\n", encoding="utf-8")
    assert made.manifest.gate_statistics is None
    gate_statistics.main([str(tmp_path / "sentiment-gru"), "--data", str(data)], standalone_mode=False)
    after = bundles.load(made.path).manifest
    assert after.model_copy(update={"gate_statistics": None}) == made.manifest
    assert after.gate_statistics is not None
    assert (after.gate_statistics.texts, after.gate_statistics.tokens) == (3, 7)
    assert {gate.gate for gate in after.gate_statistics.gates if gate.horizon} == {"update"}
    for (_, _, _, what), counts in restored(after.gate_statistics).counts.items():
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
