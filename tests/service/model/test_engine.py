"""One bundle in ONNX Runtime: what it answers, what it refuses, and that threads do not disturb each other."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from service.errors import BundleError
from service.model.bundle import MODEL_GRAPH, TRACE_GRAPH, WEIGHTS, Bundle, Head
from service.model.engine import Engine, Trace, available_providers, pad
from service.model.equations import gate_names
from tests.bundles import KINDS, ONE_GRAPH, Kind, Options, Rows, architecture, draft, network, random_rows, tiny_bundle

HEADS: list[Head] = ["last", "mean", "max", "tagger"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "sentiment", layers=2)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Engine:
    return Engine(bundle)


def rows_of(lengths: tuple[int, ...], seed: int = 0) -> list[Rows]:
    return random_rows(architecture(), lengths, seed)


def test_a_batch_of_none_never_reaches_the_runtime(engine: Engine) -> None:
    for run in (engine.predict, engine.trace):
        with pytest.raises(ValueError, match="at least one row"):
            run([])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", KINDS)
def test_predict_and_trace_agree(tmp_path: Path, cell: Kind, head: Head) -> None:
    shape = architecture(task="ner" if head == "tagger" else "sentiment", cell=cell, head=head)
    engine = Engine(tiny_bundle(tmp_path / "m", task=shape.task, cell=cell, head=head))
    rows = random_rows(shape, (3, 40, 1, 17))
    predicted, traced = engine.predict(rows), engine.trace(rows).logits
    assert predicted.shape == traced.shape == ((4, 40, 5) if head == "tagger" else (4, 2))
    for number, row in enumerate(rows):
        cut = slice(len(row)) if head == "tagger" else slice(None)
        assert predicted[number][cut] == pytest.approx(traced[number][cut], abs=1e-5)


def test_a_trace_names_every_gate(engine: Engine) -> None:
    trace = engine.trace(rows_of((2, 7)))
    for row, length in enumerate((2, 7)):
        found = trace.gates(row)
        assert list(found) == list(product(range(2), ("forward", "backward"), gate_names("lstm")))
        assert all(array.shape == (length, 8) and array.dtype == np.float32 for array in found.values())
        assert all(np.shares_memory(array, trace.emitted[key[0], key[2]]) for key, array in found.items())


def test_rows_read_backward_come_back_in_the_order_of_the_tokens() -> None:
    read = np.arange(2 * 2 * 2, dtype=np.float32).reshape(2, 2, 2, 1)
    trace = Trace(np.zeros((2, 2), np.float32), np.array([2, 1], np.int32), ("forward", "backward"), {(0, "a"): read})
    assert [trace.gate((0, way, "a"), 0)[:, 0].tolist() for way in trace.directions] == [[0, 4], [6, 2]]
    assert [trace.gate((0, way, "a"), 1)[:, 0].tolist() for way in trace.directions] == [[1], [3]]


def test_the_head_is_at_hand(engine: Engine, bundle: Bundle) -> None:
    """Forward units first: from the states of a trace and the head follow the logits."""
    assert engine.head_weight.shape == (2, 16)
    assert engine.head_bias.shape == (2,)
    assert engine.head_weight.dtype == engine.head_bias.dtype == np.float32
    (row,) = rows_of((9,))
    trace = engine.trace([row])
    states = np.concatenate([trace.gate((1, way, "hidden"), 0) for way in ("forward", "backward")], axis=1)
    assert bundle.manifest.head == "max"
    expected = engine.head_weight @ states.max(axis=0) + engine.head_bias
    assert trace.logits[0] == pytest.approx(expected, abs=1e-6)


def test_eight_threads_get_what_one_gets(engine: Engine) -> None:
    batches = [rows_of(tuple(np.random.default_rng(n).integers(1, 40, 1 + n % 7).tolist()), seed=n) for n in range(40)]
    predicted, traced = [engine.predict(rows) for rows in batches], [engine.trace(rows) for rows in batches]
    with ThreadPoolExecutor(8) as pool:
        for found, expected in zip(pool.map(engine.predict, batches * 4), predicted * 4, strict=True):
            np.testing.assert_array_equal(found, expected)
        for made, wanted in zip(pool.map(engine.trace, batches), traced, strict=True):
            np.testing.assert_array_equal(made.logits, wanted.logits)
            for row in range(len(made.lengths)):
                again = wanted.gates(row)
                for key, array in made.gates(row).items():
                    np.testing.assert_array_equal(array, again[key])


def test_several_threads_of_one_run_answer_the_same(bundle: Bundle, engine: Engine) -> None:
    rows = rows_of((30, 5, 30))
    assert Engine(bundle, threads=2).predict(rows) == pytest.approx(engine.predict(rows), abs=1e-6)


def test_padding() -> None:
    rows = [np.full((length, 2), length, np.int32) for length in (2, 4, 1)]
    tokens, lengths = pad(rows)
    assert tokens.dtype == lengths.dtype == np.dtype(np.int32)
    assert tokens.shape == (3, 4, 2)
    assert lengths.tolist() == [2, 4, 1]
    assert tokens[..., 0].tolist() == [[2, 2, 0, 0], [4, 4, 4, 4], [1, 0, 0, 0]]


def test_it_says_where_it_runs(engine: Engine) -> None:
    assert engine.provider == "cpu"
    assert "CPUExecutionProvider" in available_providers()


@pytest.mark.skipif("CUDAExecutionProvider" in available_providers(), reason="this runtime has CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_it_says_that_cuda_is_not_what_it_runs_on(bundle: Bundle) -> None:
    assert Engine(bundle, provider="cuda").provider == "cpu"


def test_warming_up_measures(engine: Engine) -> None:
    assert 0 < engine.warm_up() < 0.1


# Refusals.


def refusal(bundle: Bundle, use: Callable[[Engine], object] = lambda engine: engine.warm_up()) -> str:
    """What is said of a bundle that does not fit, in one line and without a path of this machine."""
    with pytest.raises(BundleError) as caught:
        use(Engine(bundle))
    message = str(caught.value)
    assert "\n" not in message
    assert str(bundle.path) not in message
    assert str(bundle.path.parent) not in message
    return message


def altered(bundle: Bundle, **fields: object) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update=fields))


@pytest.fixture
def spoilt(tmp_path: Path) -> Bundle:
    """A bundle of the test's own, to be spoilt."""
    return draft(network(architecture(cell="gru", head="mean")), tmp_path / "deep" / "draft")


@pytest.mark.parametrize("name", [MODEL_GRAPH, TRACE_GRAPH])
@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x07\x12\x04torc"])
def test_a_file_that_is_no_graph(spoilt: Bundle, name: str, content: bytes) -> None:
    spoilt.file(name).write_bytes(content)
    assert name in refusal(spoilt)


@pytest.mark.parametrize("name", [MODEL_GRAPH, TRACE_GRAPH])
def test_a_graph_that_is_cut_short(spoilt: Bundle, name: str) -> None:
    spoilt.file(name).write_bytes(spoilt.file(name).read_bytes()[:-200])
    assert name in refusal(spoilt)


def test_weights_that_are_missing_or_cut_short(spoilt: Bundle) -> None:
    data = spoilt.file(WEIGHTS).read_bytes()
    spoilt.file(WEIGHTS).write_bytes(data[: len(data) // 2])
    assert "cannot be read" in refusal(spoilt)
    spoilt.file(WEIGHTS).unlink()
    assert refusal(spoilt) == "weights.safetensors: No such file or directory"


def test_weights_whose_header_does_not_name_the_head(spoilt: Bundle) -> None:
    data = spoilt.file(WEIGHTS).read_bytes()
    spoilt.file(WEIGHTS).write_bytes(data.replace(b'"head.bias"', b'"head.bogu"'))
    assert WEIGHTS in refusal(spoilt)


def test_graphs_in_each_others_place(spoilt: Bundle) -> None:
    model, trace = (spoilt.file(name).read_bytes() for name in (MODEL_GRAPH, TRACE_GRAPH))
    spoilt.file(TRACE_GRAPH).write_bytes(model)
    assert "trace.onnx takes tokens, lengths and gives logits; by the manifest" in refusal(spoilt)
    spoilt.file(MODEL_GRAPH).write_bytes(trace)
    assert "model.onnx takes tokens, lengths and gives logits, 0.update" in refusal(spoilt)


def test_one_graph_and_one_session_serve_predictions_and_gates(tmp_path: Path) -> None:
    for cell in ONE_GRAPH:
        bundle = draft(network(architecture(cell=cell, layers=2)), tmp_path / cell)
        assert not bundle.file(TRACE_GRAPH).exists()
        engine = Engine(bundle)
        assert engine._model is engine._trace
        rows = random_rows(architecture(), (3, 9, 1))
        np.testing.assert_array_equal(engine.predict(rows), engine.trace(rows).logits)
        assert engine.placement.recurrent == {"cpu": 2}, "a Scan for each layer"
        assert engine.warm_up() > 0


def test_a_graph_without_gates_where_one_serves_both(tmp_path: Path) -> None:
    other = draft(network(architecture()), tmp_path / "other")
    bundle = draft(network(architecture(cell="mingru")), tmp_path / "draft")
    for name in (MODEL_GRAPH, WEIGHTS):
        bundle.file(name).write_bytes(other.file(name).read_bytes())
    assert "model.onnx takes tokens, lengths and gives logits; by the manifest" in refusal(bundle)


@pytest.mark.parametrize(
    "fields",
    [
        {"cell": "lstm", "gru_reset": None},
        {"layers": 2},
        {"directions": ("forward",)},
        {"directions": ("forward",), "layers": 2},
        {"hidden": 9},
        {"labels": ("a", "b", "c")},
        {"head": "tagger", "task": "ner"},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_a_manifest_of_another_network(spoilt: Bundle, fields: dict[str, object]) -> None:
    assert refusal(altered(spoilt, **fields))


@pytest.mark.parametrize(
    ("options", "said", "reason"),
    [
        (
            {"cell": "lstm"},
            {"cell": "peephole"},
            "has no tensor recurrent.0.P, by the manifest (cell peephole, head max) it has one",
        ),
        ({"cell": "peephole"}, {"cell": "lstm"}, "has a tensor recurrent.0.P, by the manifest (cell lstm, head max)"),
        ({"head": "attention"}, {"head": "last"}, "has a tensor head.query, by the manifest (cell lstm, head last)"),
        ({"head": "last"}, {"head": "attention"}, "has no tensor head.query"),
    ],
)
def test_a_manifest_of_another_cell_or_head(
    tmp_path: Path, options: Options, said: dict[str, str], reason: str
) -> None:
    bundle = tiny_bundle(tmp_path / "m", **options)
    with pytest.raises(BundleError, match=re.escape(reason)):
        Engine(replace(bundle, manifest=bundle.manifest.model_copy(update=said)))


def test_a_manifest_with_too_few_features(tmp_path: Path) -> None:
    bundle = draft(network(architecture(task="ner")), tmp_path / "draft")
    assert "the graphs do not run" in refusal(altered(bundle, features=bundle.manifest.features[:2]))


def test_tables_with_fewer_rows_than_the_manifest_says(tmp_path: Path) -> None:
    bundle = draft(network(architecture(task="ner")), tmp_path / "draft")
    word, *others = bundle.manifest.features
    longer = word.model_copy(update={"size": word.size + 1})
    assert f"{word.size} rows for word, not {longer.size}" in refusal(altered(bundle, features=(longer, *others)))


def test_numbers_that_are_not_finite(spoilt: Bundle) -> None:
    arrays = {name: array.copy() for name, array in load_file(spoilt.file(WEIGHTS)).items()}
    arrays["head.bias"][:] = np.nan
    save_file(arrays, spoilt.file(WEIGHTS))
    assert refusal(spoilt) == "weights.safetensors: 'head.bias' holds a number that is not finite, or over 1e+06"
