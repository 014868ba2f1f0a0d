"""Export: what a bundle holds, the certificate, and every way in which it must refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from service.errors import BundleError
from service.model.bundle import (
    CARD,
    FILES,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    Bundle,
    CharacterNetwork,
    Head,
    Precision,
    Score,
    Task,
    discover,
    load,
)
from service.model.engine import Engine, Trace
from service.model.tokenizer import Tokenizer
from service.scoring.parity import GATES_TOLERANCE, LOGITS_TOLERANCE, batches
from tests import spoilt
from tests.bundles import KINDS, ORIGIN, Kind, Rows, architecture, draft, network, random_rows, tiny_bundle, tokenizer
from tests.bundles import table as table_of
from training.export.bundle import certify, export
from training.export.onnx import graph
from training.export.onnx.builder import Builder
from training.export.onnx.embedding import round_to_storage
from training.export.onnx.nodes import STEPS
from training.nets.networks import Architecture, Dropouts, Network, WordBits

SCORES = (
    Score(data="sst2 dev", metric="accuracy", value=0.875, examples=872, truncated=1),
    Score(data="sst2 dev", metric="macro_f1", value=0.8125, examples=872, truncated=1),
)


def scored(_: Bundle) -> tuple[Score, ...]:
    return SCORES


def exported(folder: Path, net: Network | None = None, score: Callable[[Bundle], tuple[Score, ...]] = scored) -> Bundle:
    net = net or network(architecture())
    return export(net, tokenizer(net.architecture), ORIGIN, "CC0-1.0", folder, score)


def left_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.exists() else []


def test_a_bundle_is_whole_and_can_be_loaded(tmp_path: Path) -> None:
    bundle = exported(tmp_path / "sentiment-bilstm")
    assert (bundle.name, bundle.version, bundle.path) == ("sentiment-bilstm", 1, tmp_path / "sentiment-bilstm" / "1")
    assert {path.name for path in bundle.path.iterdir()} == {*FILES, MANIFEST}
    assert load(bundle.path) == bundle
    assert list(discover(tmp_path)) == [("sentiment-bilstm", [1])]


def test_the_manifest_says_what_the_network_is(tmp_path: Path) -> None:
    shape = architecture(task="ner", cell="gru", layers=2, hidden=6)
    manifest = exported(tmp_path / "ner", network(shape)).manifest
    assert manifest.schema_version == 1
    for field in ("task", "cell", "gru_reset", "directions", "layers", "hidden", "head", "labels", "features"):
        assert getattr(manifest, field) == getattr(shape, field), field
    assert manifest.token_limit == 4096
    assert manifest.licence == "CC0-1.0"
    assert manifest.origin == ORIGIN
    assert manifest.quality == SCORES
    assert set(manifest.files) == set(FILES)


def test_the_certificate_covers_both_graphs_and_the_gates(tmp_path: Path) -> None:
    parity = exported(tmp_path / "m").manifest.parity
    assert 0 < parity.model < LOGITS_TOLERANCE
    assert 0 < parity.trace < LOGITS_TOLERANCE
    assert 0 < parity.gates < GATES_TOLERANCE
    assert (parity.logits_tolerance, parity.gates_tolerance) == (LOGITS_TOLERANCE, GATES_TOLERANCE)
    assert parity.batches >= 10
    document = json.loads((tmp_path / "m" / "1" / MANIFEST).read_text("utf-8"))
    assert document["parity"]["model"] == parity.model


def test_the_certificate_is_over_many_lengths_and_batch_sizes() -> None:
    drawn = batches(architecture().features, np.random.default_rng(0))
    counts = [[len(row) for row in rows] for rows in drawn]
    alone = {lengths[0] for lengths in counts if len(lengths) == 1}
    assert {1, 2, 400} <= alone
    assert max(map(len, counts)) == 64
    assert all(len(set(lengths)) > 3 for lengths in counts if len(lengths) > 1), "ragged"


@pytest.mark.parametrize(("cell", "head"), list(product(KINDS, ["last", "mean", "max", "attention", "tagger"])))
def test_every_kind_of_network_is_exported(tmp_path: Path, cell: Kind, head: Head) -> None:
    task: Task = "ner" if head == "tagger" else "sentiment"
    for bidirectional, layers in ((False, 1), (True, 2)):
        bundle = tiny_bundle(
            tmp_path / "m", task=task, cell=cell, head=head, bidirectional=bidirectional, layers=layers, hidden=4
        )
        assert bundle.manifest.head == head
        assert Engine(bundle).warm_up() > 0


@pytest.mark.parametrize("characters", ["cnn", "lstm"])
@pytest.mark.parametrize("word_bits", [4, 8, 16])
def test_taggers_with_characters_and_a_crf_are_exported(
    tmp_path: Path, characters: CharacterNetwork, word_bits: WordBits
) -> None:
    bundle = tiny_bundle(tmp_path / "m", task="ner", characters=characters, crf=True, word_bits=word_bits, hidden=4)
    manifest = bundle.manifest
    assert manifest.characters == characters
    assert manifest.features[-1].columns == 12
    assert manifest.crf is not None
    assert np.any(manifest.crf.transitions)
    assert Engine(bundle).warm_up() > 0
    with safe_open(bundle.file(WEIGHTS), "numpy") as weights:
        assert weights.get_tensor("embedding.word").dtype == {4: np.uint8, 8: np.int8, 16: np.float16}[word_bits]
        stored = weights.get_tensor("embedding.character").dtype
        assert stored == (np.float16 if characters == "lstm" else np.float32), "the CNN's are no embeddings: products"


def test_a_temperature_divides_the_logits_and_the_crf(tmp_path: Path) -> None:
    shape = architecture(task="ner", crf=True)
    rows = random_rows(shape, (5, 3))
    plain, warm = (
        export(
            network(shape), tokenizer(shape), ORIGIN, "CC0-1.0", tmp_path / "m", lambda _: [], temperature=temperature
        )
        for temperature in (1.0, 2.0)
    )
    assert warm.manifest.temperature == 2.0
    assert Engine(warm).predict(rows)[0] == pytest.approx(Engine(plain).predict(rows)[0] / 2, abs=1e-5)
    assert plain.manifest.crf is not None
    assert warm.manifest.crf is not None
    assert np.array(warm.manifest.crf.start) == pytest.approx(np.array(plain.manifest.crf.start) / 2)


def test_versions_count_up(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    assert exported(folder).version == 1
    assert exported(folder).version == 2
    (folder / "2").rename(folder / "41")
    (folder / "notes").mkdir()
    assert exported(folder).version == 42
    assert list(discover(tmp_path)) == [("m", [1, 41, 42])]


def test_the_same_network_gives_the_same_bundle(tmp_path: Path) -> None:
    one, two = exported(tmp_path / "m"), exported(tmp_path / "m")
    assert one.manifest == two.manifest


def test_the_score_is_taken_through_the_draft_in_the_serving_runtime(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def score(bundle: Bundle) -> tuple[Score, ...]:
        seen.append(sorted(path.name for path in bundle.path.iterdir()))
        assert bundle.path != tmp_path / "m" / "1"
        assert Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features).split("a film")
        assert np.isfinite(Engine(bundle).predict(random_rows(architecture(), (3, 5)))).all()
        return SCORES

    bundle = exported(tmp_path / "m", score=score)
    assert seen == [sorted(FILES)]
    card = bundle.file(CARD).read_text("utf-8")
    assert "| sst2 dev | 872 | 1 | accuracy | 0.8750 |" in card
    assert "| sst2 dev | 872 | 1 | macro f1 | 0.8125 |" in card


def test_embeddings_are_rounded_to_half_precision_before_anything_is_measured(tmp_path: Path) -> None:
    net = network(architecture())
    bundle = exported(tmp_path / "m", net)
    table = load_file(bundle.file(WEIGHTS))["embedding.word"]
    assert table.dtype == np.float16
    kept = table_of(net).numpy()
    np.testing.assert_array_equal(kept, table.astype(np.float32))


def test_a_network_in_training_mode_is_exported_as_it_will_be_served(tmp_path: Path) -> None:
    shape = architecture()
    torch.manual_seed(1)
    net = Network(shape, Dropouts(0.5, 0.5, words=0.5)).train()
    exported(tmp_path / "m", net)
    assert not net.training


# Refusals. Whatever stops an export, nothing that could be taken for a bundle is left.


def corrupt(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Alter the weights file between its writing and the certificate."""
    write = graph.write

    def spoilt(net: Network, folder: Path, precision: Precision) -> None:
        write(net, folder, precision)
        arrays = {name: array.copy() for name, array in load_file(folder / WEIGHTS).items()}
        change(arrays)
        save_file(arrays, folder / WEIGHTS)

    monkeypatch.setattr(graph, "write", spoilt)


@pytest.mark.parametrize(
    ("name", "by"),
    [("head.bias", 1e-3), ("recurrent.0.R", 1e-2), ("recurrent.0.B", 1e-2), ("embedding.word", 1.0)],
)
def test_refused_when_a_weight_was_corrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, by: float
) -> None:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] += np.asarray(by, arrays[name].dtype)

    corrupt(monkeypatch, change)
    with pytest.raises(BundleError, match="do not agree with torch") as caught:
        exported(tmp_path / "m")
    assert str(tmp_path) not in str(caught.value)
    assert left_below(tmp_path) == []


@pytest.mark.parametrize("head", ["last", "mean", "max", "tagger"])
def test_refused_when_an_answer_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: Head) -> None:
    corrupt(monkeypatch, lambda arrays: arrays["recurrent.0.W"].fill(np.nan))
    with pytest.raises(BundleError, match="not finite"):
        exported(tmp_path / "m", network(architecture(task="ner" if head == "tagger" else "sentiment", head=head)))
    assert left_below(tmp_path) == []


def test_refused_when_the_network_itself_answers_no_number(tmp_path: Path) -> None:
    net = network(architecture(cell="gru", head="mean"))
    net.head.bias.data.fill_(float("nan"))
    with pytest.raises(BundleError):
        exported(tmp_path / "m", net)
    assert left_below(tmp_path) == []


@pytest.mark.parametrize("where", ["model", "trace", "gates"])
def test_one_answer_that_is_no_number_is_enough(tmp_path: Path, where: str) -> None:
    net = network(architecture())
    round_to_storage(net)
    right = Engine(draft(net, tmp_path / "draft"))

    def spoil(array: NDArray[np.float32], really: bool) -> NDArray[np.float32]:
        if really:
            array.flat[0] = np.nan
        return array

    class Wrong(Engine):
        def __init__(self) -> None:
            """Answers as `right` does, but for one number."""

        def predict(self, rows: Sequence[Rows]) -> NDArray[np.float32]:
            return spoil(right.predict(rows), where == "model")

        def trace(self, rows: Sequence[Rows]) -> Trace:
            found = right.trace(rows)
            emitted = {key: spoil(array, where == "gates") for key, array in found.emitted.items()}
            return replace(found, logits=spoil(found.logits, where == "trace"), emitted=emitted)

    with pytest.raises(BundleError, match="do not agree"):
        certify(net, Wrong())


def test_refused_when_only_a_gate_has_the_wrong_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logits are right, and so are all numbers, but `update` is its complement."""
    original = STEPS["gru", "after"]

    def swapped(body: Builder, *rest: object) -> dict[str, str]:
        gates = original.equations(body, *rest)  # type: ignore[arg-type]  # passed on as they came
        return gates | {"update": gates["reset"], "reset": gates["update"]}

    monkeypatch.setitem(STEPS, ("gru", "after"), replace(original, equations=swapped))
    with pytest.raises(BundleError, match="gates by"):
        exported(tmp_path / "m", network(architecture(cell="gru")))
    assert left_below(tmp_path) == []


@pytest.mark.parametrize(("build", "which"), [("_fused", "model.onnx"), ("_stepwise", "trace.onnx")])
def test_refused_when_only_one_graph_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str, which: str
) -> None:
    right = getattr(graph, build)

    def wrong(builder: Builder, shape: Architecture) -> bytes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(graph._POOLING, "max", graph._mean)
            return right(builder, shape)

    monkeypatch.setattr(graph, build, wrong)
    with pytest.raises(BundleError, match="do not agree") as caught:
        exported(tmp_path / "m")
    found = re.search(rf"(\S+) \({which}\)", str(caught.value))
    assert found
    assert float(found[1]) > LOGITS_TOLERANCE
    assert left_below(tmp_path) == []


@pytest.mark.parametrize("change", spoilt.CHANGES.values(), ids=spoilt.CHANGES)
def test_refused_when_only_the_step_of_streams_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    spoilt.steps(monkeypatch, change)
    with pytest.raises(BundleError, match="the steps of streams do not agree with torch and the traced gates"):
        exported(tmp_path / "m", network(architecture(bidirectional=False)))
    assert left_below(tmp_path) == []


def test_nothing_is_left_when_scoring_fails(tmp_path: Path) -> None:
    def score(_: Bundle) -> tuple[Score, ...]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exported(tmp_path / "m", score=score)
    assert left_below(tmp_path) == []


def test_certify_judges_a_draft(tmp_path: Path) -> None:
    net = network(architecture())
    round_to_storage(net)
    engine = Engine(draft(net, tmp_path / "draft"))
    assert certify(net, engine).model < 1e-6
    net.head.bias.data[0] += 1e-3
    with pytest.raises(BundleError, match=r"logits differ by 1\.0e-03 \(model\.onnx\) and 1\.0e-03 \(trace\.onnx\)"):
        certify(net, engine)
