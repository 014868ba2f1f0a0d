"""A model repository for the tests: small networks with random weights, exported as the trained ones are."""

from __future__ import annotations

from pathlib import Path

import torch

from service.bundle import Feature, Head, Origin, Task
from service.equations import CellName, Direction
from service.text import SHAPES, UNKNOWN, build
from training.export import export
from training.networks import Architecture, Network

WORDS = (UNKNOWN, *"the a film is great bad good in lived london ada lovelace . , not it 's n't do and of very".split())
BOTH: tuple[Direction, ...] = ("forward", "backward")
HIDDEN = 16


def write_model(
    repository: Path,
    name: str,
    *,
    cell: CellName = "lstm",
    directions: tuple[Direction, ...] = BOTH,
    layers: int = 1,
    head: Head = "max",
    hidden: int = HIDDEN,
) -> Path:
    """Write ``repository/name/VERSION``; the head says which task. Returns the version's folder."""
    task: Task = "ner" if head == "tagger" else "sentiment"
    features = [Feature(name="word", size=len(WORDS))]
    labels: tuple[str, ...] = ("negative", "positive")
    if task == "ner":
        features += [Feature(name="shape", size=SHAPES), Feature(name="suffix", size=64)]
        labels = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    torch.manual_seed(7)
    network = Network(Architecture(task, cell, directions, layers, hidden, head, labels, tuple(features)))
    origin = Origin(data=("random weights",), command="none", seed=7, epochs=0, versions={})
    bundle = export(network, build(WORDS, features), origin, "CC0-1.0", repository / name, lambda _: [])
    return bundle.path


def write_repository(repository: Path) -> None:
    """Both tasks, both cells, one direction and two, one layer and two, and every head."""
    write_model(repository, "sentiment-bilstm")
    write_model(repository, "sentiment-lstm", directions=("forward",), layers=2, head="mean")
    write_model(repository, "sentiment-gru", cell="gru", directions=("forward",), head="last")
    write_model(repository, "sentiment-bigru", cell="gru", layers=2, head="last")
    write_model(repository, "ner-bilstm", head="tagger")
    write_model(repository, "ner-bigru", cell="gru", head="tagger")
