"""Word vectors of a model that ships, for a training from nothing with few examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import BundleError
from service.model.bundle import CARD, WEIGHTS, Bundle, Task
from tests.bundles import WORDS, table, tiny_bundle
from tests.training.test_run import options
from training import shipped
from training.errors import TrainingError
from training.export import restore
from training.material import Material, gather
from training.options import NO_VECTORS, FitOptions
from training.run import run

TASKS: tuple[Task, ...] = ("sentiment", "ner")


@pytest.fixture(autouse=True)
def _shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of each task ships, and knows enough words of the tests' data."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "checkout")
    monkeypatch.setattr(shipped, "_FITS", 0.3)
    for task in TASKS:
        tiny_bundle(tmp_path / "checkout" / shipped.SHIPPED[task], task=task)


def asked(folder: Path, task: Task = "sentiment", **changed: Any) -> FitOptions:
    """A small training that names no vectors unless `changed` does."""
    small = options(folder, task)
    given = {name: getattr(small, name) for name in small.model_fields_set - {"vectors"}}
    return FitOptions(**{**given, "epochs": 1, **changed})


def gathered(given: FitOptions) -> tuple[Material, list[str]]:
    lines: list[str] = []
    return gather(given, lines.append), lines


def lent(material: Material) -> bool:
    """True if the words of the shipped model begin with its vectors."""
    ours, theirs = table(material.network), restore.word_table(tiny(material))
    known = material.tokenizer._vocabulary
    both = [word for word in WORDS[1:] if word in known]
    rows = np.stack([ours[known[word]].numpy() for word in both]) if both else np.zeros((0, theirs.shape[1]))
    wanted = theirs[[WORDS.index(word) for word in both]]
    return bool(both) and rows.shape == wanted.shape and bool(np.allclose(rows, wanted, atol=1e-6))


def tiny(material: Material) -> Bundle:
    return restore.opened(shipped.FOLDER / shipped.SHIPPED[material.options.task])


def trained(given: FitOptions) -> Bundle:
    found, _ = run(given, lambda _: None, lambda _: None)
    assert found is not None
    return found


@pytest.mark.parametrize("task", TASKS)
def test_few_examples_begin_with_a_shipped_models_vectors(tmp_path: Path, task: Task) -> None:
    material, lines = gathered(asked(tmp_path, task))
    assert lent(material)
    name = shipped.SHIPPED[task]
    (line,) = [line for line in lines if line.startswith("NOTE:")]
    assert f"vectors of {name} version 1 (--vectors models/{name}/1)" in line
    assert "licence too: CC0-1.0. --vectors none takes none" in line


def test_those_beside_out_come_first(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "sentiment-bilstm", task="sentiment", seed=3)
    material, _ = gathered(asked(tmp_path))
    assert material.lent is not None
    assert material.lent.bundle is not None
    assert material.lent.bundle.path == tmp_path / "models" / "sentiment-bilstm" / "1"


def test_none_are_taken_on_request_nor_for_many_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gathered(asked(tmp_path, vectors=NO_VECTORS))[0].lent is None
    monkeypatch.setattr(shipped, "FEW", 3)
    material, lines = gathered(asked(tmp_path))
    assert (material.lent, lent(material)) == (None, False)
    assert not [line for line in lines if "vectors" in line]


def test_nor_without_a_model_that_ships_or_for_that_model_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gathered(asked(tmp_path, out=tmp_path / "models" / "sentiment-bilstm"))[0].lent is None
    weights = tmp_path / "checkout" / "sentiment-bilstm" / "1" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])  # does not match its manifest
    assert gathered(asked(tmp_path))[0].lent is None
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    assert gathered(asked(tmp_path, "ner"))[0].lent is None


def test_vectors_of_another_language_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_FITS", 0.9)
    material, lines = gathered(asked(tmp_path, "ner"))
    assert material.lent is None
    assert any("note: few examples, and ner-bilstm version 1 knows 40% of their words" in line for line in lines)


def test_the_card_names_model_and_licence_and_a_command_that_repeats_it(tmp_path: Path) -> None:
    first = trained(asked(tmp_path, out=tmp_path / "models" / "first"))
    origin = first.manifest.origin
    digest = restore.opened(tmp_path / "checkout" / "sentiment-bilstm").digest
    assert origin.data[0].startswith(
        f"word vectors of sentiment-bilstm version 1 (SHA-256 of its model.json: {digest})"
    )
    assert first.manifest.licence == "CC0-1.0; word vectors of sentiment-bilstm version 1: CC0-1.0"
    assert origin.command.endswith(" --vectors models/sentiment-bilstm/1")
    assert origin.command in first.file(CARD).read_text("utf-8")
    named = tmp_path / "checkout" / "sentiment-bilstm"
    again = trained(asked(tmp_path, out=tmp_path / "models" / "second", vectors=named))
    assert again.file(WEIGHTS).read_bytes() == first.file(WEIGHTS).read_bytes()
    assert again.manifest.licence == first.manifest.licence


def test_a_bundle_without_floats_or_no_bundle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="no version there"):
        gathered(asked(tmp_path, vectors=tmp_path / "empty"))
    named = tmp_path / "checkout" / "sentiment-bilstm"
    whole = restore.opened(named)
    smaller = Bundle("tiny", 1, whole.path, whole.manifest.model_copy(update={"precision": "int8"}))
    monkeypatch.setattr(restore, "opened", lambda _: smaller)
    with pytest.raises(TrainingError, match=r"--vectors: tiny version 1 is int8: name the float32 bundle"):
        gathered(asked(tmp_path, vectors=named))
    assert gathered(asked(tmp_path))[0].lent is None
