"""A bundle whose graphs and weights are not the network of its manifest is refused when it is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import BundleError
from service.model import bundle as bundles
from service.model import network_check
from service.model.bundle import MANIFEST, Bundle
from service.model.engine import Engine
from service.model.loading import loader
from service.model.weights_layout import HEAD_BIAS
from tests import spoilt
from tests.bundles import KINDS, ORIGIN, Kind, Options, architecture, network, tiny_bundle, tokenizer
from training.export.bundle import export

MODELS = Path(__file__).parents[3] / "models"
TASKS: tuple[Options, ...] = ({}, {"task": "ner", "characters": "cnn"}, {"task": "ner", "characters": "lstm"})


def integers(folder: Path) -> Bundle:
    shape = architecture()
    return export(network(shape), tokenizer(shape), ORIGIN, "none", folder, lambda _: [], precision="int8")


def claimed(bundle: Bundle, **fields: Any) -> Bundle:
    """The bundle again, from the disk, with other fields in its manifest."""
    path = bundle.file(MANIFEST)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")
    return bundles.load(bundle.path)


def refusal(bundle: Bundle) -> str:
    with pytest.raises(BundleError) as caught:
        loader("cpu", 1, 100)(bundle)
    message = str(caught.value)
    assert "\n" not in message
    assert str(bundle.path) not in message
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_exported_is_loaded(tmp_path: Path, kind: Kind) -> None:
    for number, options in enumerate(TASKS):
        both: Options = {**options, "cell": kind, "layers": 2}
        assert loader("cpu", 1, 100)(tiny_bundle(tmp_path / str(number), **both)).seconds_per_token > 0


@pytest.mark.parametrize("words", [2, 3, 4])
@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_windows_are_loaded(tmp_path: Path, words: int, cell: Kind, bidirectional: bool) -> None:
    made = tiny_bundle(tmp_path / "m", cell=cell, window_words=words, bidirectional=bidirectional)
    assert loader("cpu", 1, 100)(made).seconds_per_token > 0


def test_integers_are_loaded(tmp_path: Path) -> None:
    assert loader("cpu", 1, 100)(integers(tmp_path / "m")).seconds_per_token > 0


@pytest.mark.parametrize(("kind", "reset"), [("gru", "before"), ("gru-before", "after")])
def test_the_other_reset_of_a_gru(tmp_path: Path, kind: Kind, reset: str) -> None:
    made = claimed(tiny_bundle(tmp_path / "m", cell=kind), gru_reset=reset)
    said = f"trace.onnx is not the network of the manifest (cell gru, gru_reset {reset}, window_words 1, head max,"
    assert said in refusal(made)


@pytest.mark.parametrize("head", ["last", "mean", "max"])
@pytest.mark.parametrize("made_with", ["last", "mean", "max"])
def test_another_head(tmp_path: Path, made_with: Any, head: str) -> None:
    if head != made_with:
        made = claimed(tiny_bundle(tmp_path / "m", head=made_with), head=head)
        assert f"trace.onnx is not the network of the manifest (cell lstm, window_words 1, head {head}," in refusal(
            made
        )


@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
@pytest.mark.parametrize(("made_with", "words"), [(1, 3), (3, 1), (3, 2), (2, 3)])
def test_another_window(tmp_path: Path, cell: Kind, made_with: int, words: int) -> None:
    made = claimed(tiny_bundle(tmp_path / "m", cell=cell, window_words=made_with), window_words=words)
    assert f"by the manifest it is {words} (window_words) times " in refusal(made)


def test_another_number_type(tmp_path: Path) -> None:
    made = claimed(tiny_bundle(tmp_path / "float"), precision="int8")
    assert "has no tensor recurrent.0.W.scale: its weights are float32, by the manifest the precision is int8" in (
        refusal(made)
    )
    made = claimed(integers(tmp_path / "int"), precision="float32")
    assert "has a tensor recurrent.0.W.scale: its weights are int8, by the manifest the precision is float32" in (
        refusal(made)
    )


@pytest.mark.parametrize(("characters", "other"), [("cnn", "lstm"), ("lstm", "cnn")])
def test_another_network_of_characters(tmp_path: Path, characters: Any, other: str) -> None:
    made = claimed(tiny_bundle(tmp_path / "m", task="ner", characters=characters), characters=other)
    assert (
        f"weights.safetensors does not fit the manifest (cell lstm, window_words 1, head tagger, characters {other},"
        in refusal(made)
    )


def test_a_network_with_parts_of_no_known_use_is_not_compared(tmp_path: Path) -> None:
    engine = Engine(tiny_bundle(tmp_path / "m", head="mean"))
    wrong = replace(engine.network, manifest=engine.network.manifest.model_copy(update={"head": "max"}))
    engine.network = wrong
    with pytest.raises(BundleError, match="is not the network of the manifest"):
        network_check.check(engine)
    engine.network = replace(wrong, arrays={**wrong.arrays, "residual": np.zeros(1, np.float32)})
    network_check.check(engine)


def test_logits_that_are_not_finite(tmp_path: Path) -> None:
    engine = Engine(tiny_bundle(tmp_path / "m"))
    bias = np.full(2, np.nan, np.float32)
    engine.network = replace(engine.network, arrays={**engine.network.arrays, HEAD_BIAS: bias})
    with pytest.raises(BundleError, match="the logits differ by nan"):
        network_check.check(engine)


@pytest.mark.parametrize("change", spoilt.CHANGES.values(), ids=spoilt.CHANGES)
@pytest.mark.parametrize("options", [{}, {"task": "ner"}, {"cell": "gru", "layers": 2}, {"cell": "minlstm"}], ids=str)
def test_another_step_of_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, options: Options
) -> None:
    forward: Options = {**options, "bidirectional": False}
    made = tiny_bundle(tmp_path / "m", **forward)
    assert loader("cpu", 1, 100)(made).seconds_per_token > 0
    spoilt.steps(monkeypatch, change)
    graph = "model.onnx" if options.get("cell") == "minlstm" else "trace.onnx"
    assert f"token by token, as streams are read, the answer is not that of {graph}: the logits differ" in refusal(made)


def test_a_model_that_reads_backward_needs_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt.steps(monkeypatch, spoilt.swap)
    assert loader("cpu", 1, 100)(tiny_bundle(tmp_path / "m")).seconds_per_token > 0


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/*/model.json")), ids=lambda path: path.parent.parent.name)
def test_every_shipped_bundle_is_loaded(path: Path) -> None:
    assert loader("cpu", 1, 100)(bundles.load(path.parent)).seconds_per_token > 0
