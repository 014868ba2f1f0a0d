"""A model repository for the tests: both tasks, every cell, one direction and two, one layer and two, every head."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from tests.bundles import tiny_bundle

HIDDEN = 16

write_model = partial(tiny_bundle, hidden=HIDDEN)


def write_repository(repository: Path) -> None:
    """Write version 1 of each of the models that the tests ask for."""
    torch.set_num_threads(1)  # networks this small are ten times slower with threads on a busy machine
    write_model(repository / "sentiment-bilstm")
    write_model(repository / "sentiment-lstm", bidirectional=False, layers=2, head="mean")
    write_model(repository / "sentiment-gru", cell="gru", bidirectional=False, head="last")
    write_model(repository / "sentiment-bigru", cell="gru", layers=2, head="last")
    write_model(repository / "ner-bilstm", task="ner")
    write_model(repository / "ner-bigru", task="ner", cell="gru")
    write_model(repository / "sentiment-rnn", cell="rnn", bidirectional=False)
    write_model(repository / "sentiment-birnn", cell="rnn", layers=2, head="mean")
    write_model(repository / "sentiment-peephole", cell="peephole", bidirectional=False, head="last")
    write_model(repository / "sentiment-bipeephole", cell="peephole", layers=2)
    write_model(repository / "sentiment-gru-before", cell="gru-before", bidirectional=False, head="mean")
    write_model(repository / "ner-bigru-before", task="ner", cell="gru-before", layers=2)
    write_model(repository / "sentiment-peephole-full", cell="peephole-full", head="mean")
    write_model(repository / "sentiment-mingru", cell="mingru", bidirectional=False, head="attention")
    write_model(repository / "sentiment-biminlstm", cell="minlstm", layers=2)
    write_model(repository / "ner-bimingru", task="ner", cell="mingru")
    write_model(repository / "sentiment-mingru-window", cell="mingru", bidirectional=False, window_words=3)
    write_model(repository / "ner-biminlstm-window", task="ner", cell="minlstm", window_words=3)
