"""Graphs that this ONNX Runtime does not read as they were certified are refused when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from service.errors import BundleError
from service.model import self_check
from service.model.bundle import MODEL_GRAPH, TRACE_GRAPH, Bundle, Manifest
from service.model.engine import Engine
from service.model.loading import loader
from tests.bundles import KINDS, ONE_GRAPH, Kind, architecture, draft, network, tiny_bundle


def edited(bundle: Bundle, change: Callable[[onnx.ModelProto], None], name: str = MODEL_GRAPH) -> Bundle:
    """The same with another graph, as if it had been made elsewhere."""
    model = onnx.load(bundle.file(name), load_external_data=False)
    change(model)
    bundle.file(name).write_bytes(model.SerializeToString())
    return bundle


def without_lengths(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type in ("LSTM", "GRU", "RNN"):
            node.input[4] = ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_what_was_exported_passes(tmp_path: Path, kind: Kind, task: str) -> None:
    shape = architecture(cell=kind, task="ner" if task == "ner" else "sentiment", layers=2)
    assert Engine(draft(network(shape), tmp_path)).warm_up() > 0


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "gru-before"])
@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_a_graph_that_ignores_lengths_is_refused(tmp_path: Path, kind: Kind, task: str) -> None:
    shape = architecture(cell=kind, task="ner" if task == "ner" else "sentiment")
    bundle = edited(draft(network(shape), tmp_path), without_lengths)
    with pytest.raises(BundleError, match="in a batch other logits than alone: they differ by") as refused:
        Engine(bundle).warm_up()
    assert f"This is ONNX Runtime {ort.__version__}; the bundle was certified with" in str(refused.value)
    assert "(`sequence_lens`) are not read as ONNX defines them" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_a_graph_whose_operator_is_another_is_refused(tmp_path: Path) -> None:
    def other_reset(model: onnx.ModelProto) -> None:
        (gru,) = (node for node in model.graph.node if node.op_type == "GRU")
        (reset,) = (each for each in gru.attribute if each.name == "linear_before_reset")
        reset.i = 1 - reset.i

    bundle = edited(draft(network(architecture(cell="gru")), tmp_path), other_reset)
    with pytest.raises(BundleError, match=r"model.onnx and trace.onnx disagree: their logits differ by \S+, the limit"):
        Engine(bundle).warm_up()


def test_a_trace_of_another_network_is_refused(tmp_path: Path) -> None:
    def other_direction(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == "Tanh":
                node.op_type = "Sigmoid"
            for attribute in node.attribute:
                for inner in attribute.g.node:
                    if inner.op_type == "Tanh":
                        inner.op_type = "Sigmoid"

    bundle = edited(draft(network(architecture()), tmp_path), other_direction, TRACE_GRAPH)
    with pytest.raises(BundleError, match="disagree"):
        Engine(bundle).warm_up()


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return draft(network(architecture()), tmp_path).manifest


def test_numbers_that_are_not_finite_are_refused(manifest: Manifest) -> None:
    def answer(rows: self_check.Rows) -> NDArray[np.float32]:
        logits = np.zeros((len(rows), 2), np.float32)
        logits[1:2] = np.nan
        return logits

    with pytest.raises(BundleError, match="nan"):
        self_check.check(answer, answer, manifest, "1")


def test_the_tolerance_is_the_certificates_where_that_is_more(manifest: Manifest) -> None:
    def answer(rows: self_check.Rows) -> NDArray[np.float32]:
        return np.full((len(rows), 2), 0.4 if len(rows) > 1 else 0.0, np.float32)

    with pytest.raises(BundleError, match=r"differ by 0.4, the limit is 1e-04"):
        self_check.check(answer, answer, manifest, "1")
    wide = manifest.parity.model_copy(update={"logits_tolerance": 0.5})
    self_check.check(answer, answer, manifest.model_copy(update={"parity": wide}), "1")


@pytest.mark.parametrize("kind", KINDS)
def test_the_served_graph_says_what_it_relies_on(tmp_path: Path, kind: Kind) -> None:
    bundle = draft(network(architecture(cell=kind)), tmp_path)
    model = onnx.load(bundle.file(MODEL_GRAPH), load_external_data=False)
    expected = "" if kind in ONE_GRAPH else "sequence_lens"
    assert {each.key: each.value for each in model.metadata_props} == {"relies_on": expected}
    assert Engine(bundle).relies_on == tuple(expected.split())
    if kind in ONE_GRAPH:
        return
    trace = onnx.load(bundle.file(TRACE_GRAPH), load_external_data=False)
    assert {each.key: each.value for each in trace.metadata_props} == {"relies_on": ""}


def test_a_trace_that_reads_characters_by_an_lstm_relies_on_lengths_too(tmp_path: Path) -> None:
    bundle = draft(network(architecture(task="ner", characters="lstm")), tmp_path)
    trace = onnx.load(bundle.file(TRACE_GRAPH), load_external_data=False)
    assert {each.key: each.value for each in trace.metadata_props} == {"relies_on": "sequence_lens"}


def test_graphs_from_before_the_key_rely_on_lengths(tmp_path: Path) -> None:
    def old(model: onnx.ModelProto) -> None:
        del model.metadata_props[:]

    assert Engine(edited(draft(network(architecture()), tmp_path), old)).relies_on == ("sequence_lens",)
    assert self_check.relies_on({}) == ("sequence_lens",)
    assert self_check.relies_on({"relies_on": ""}) == ()


def test_models_point_to_the_page_of_runtimes(tmp_path: Path) -> None:
    told = loader("cpu", 1, 100)(tiny_bundle(tmp_path / "reviews")).describe()
    assert told["relies_on"] == ["sequence_lens"]
    page = Path(__file__).parents[3] / str(told["runtimes"])
    assert page.exists()
