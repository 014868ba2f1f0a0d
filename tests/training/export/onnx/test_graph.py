"""The two graphs against torch, against the equations, and against the traps of building them by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from service.model.bundle import MODEL_GRAPH, TRACE_GRAPH, WEIGHTS, Head, Task
from service.model.engine import Engine, pad
from service.model.equations import gate_names
from tests import reference
from tests.bundles import KINDS, ONE_GRAPH, Kind, Rows, architecture, draft, network, random_rows, table
from training.export.onnx.embedding import round_to_storage
from training.nets.cells import word_of
from training.nets.networks import Architecture, Network

HEADS: list[Head] = ["last", "mean", "max", "tagger"]
SHAPES = list(product(KINDS, [False, True], [1, 2, 3]))
RAGGED = (1, 5, 23, 2, 40, 23)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


def shape_of(cell: Kind, head: Head, bidirectional: bool = True, layers: int = 1, hidden: int = 8) -> Architecture:
    task: Task = "ner" if head == "tagger" else "sentiment"
    return architecture(task=task, cell=cell, bidirectional=bidirectional, layers=layers, hidden=hidden, head=head)


def pair(folder: Path, shape: Architecture, seed: int = 7) -> tuple[Network, Engine]:
    """A network and its two graphs, running."""
    parts = (shape.cell, shape.form, len(shape.directions), shape.layers, shape.head, shape.hidden, seed)
    name = "-".join(map(str, parts))
    net = network(shape, seed)
    round_to_storage(net)
    return net, Engine(draft(net, folder / name))


def graphs_of(cell: str) -> list[str]:
    """The graphs of a bundle, by name: one where the cell has no fused operator."""
    return [MODEL_GRAPH] if cell in ONE_GRAPH else [MODEL_GRAPH, TRACE_GRAPH]


def by_torch(net: Network, rows: list[Rows]) -> NDArray[np.float32]:
    tokens, lengths = pad(rows)
    with torch.inference_mode():
        logits: NDArray[np.float32] = net(torch.from_numpy(tokens), torch.from_numpy(lengths.astype(np.int64))).numpy()
    return logits


def check(net: Network, engine: Engine, rows: list[Rows]) -> None:
    """Logits of both graphs against torch's, row by row, without the padding."""
    expected, predicted, traced = by_torch(net, rows), engine.predict(rows), engine.trace(rows).logits
    assert expected.shape == predicted.shape == traced.shape
    assert expected.dtype == predicted.dtype == traced.dtype == np.float32
    for number, row in enumerate(rows):
        cut = slice(len(row)) if net.architecture.head == "tagger" else slice(None)
        assert_allclose(predicted[number][cut], expected[number][cut], rtol=0, atol=1e-5)
        assert_allclose(traced[number][cut], expected[number][cut], rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("cell", "bidirectional", "layers"), SHAPES)
def test_both_graphs_answer_as_torch_does(
    folder: Path, cell: Kind, bidirectional: bool, layers: int, head: Head
) -> None:
    shape = shape_of(cell, head, bidirectional, layers)
    net, engine = pair(folder, shape)
    check(net, engine, random_rows(shape, RAGGED))
    check(net, engine, random_rows(shape, (1,)))
    check(net, engine, random_rows(shape, (12,)))


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "head"), list(product(KINDS, HEADS)))
def test_at_every_length_and_in_large_batches(folder: Path, cell: Kind, head: Head) -> None:
    shape = shape_of(cell, head, layers=2, hidden=16)
    net, engine = pair(folder, shape)
    for length in (1, 2, 3, 10, 50, 133, 400):
        check(net, engine, random_rows(shape, (length,), seed=length))
    lengths = np.random.default_rng(5).integers(1, 61, 63).tolist()
    check(net, engine, random_rows(shape, [*lengths, 400]))
    check(net, engine, random_rows(shape, [20] * 64))


@pytest.mark.parametrize(("cell", "bidirectional", "layers"), SHAPES)
def test_traced_gates_are_those_of_the_equations(folder: Path, cell: Kind, bidirectional: bool, layers: int) -> None:
    shape = shape_of(cell, "mean", bidirectional, layers)
    net, engine = pair(folder, shape)
    rows = random_rows(shape, (3, 60, 1, 17))
    trace = engine.trace(rows)
    for number, row in enumerate(rows):
        expected = reference.answer(net, row)
        found = trace.gates(number)
        assert list(found) == list(product(range(layers), shape.directions, gate_names(shape.cell)))
        assert set(found) == set(expected.gates)
        for key, array in found.items():
            assert array.shape == (len(row), shape.hidden)
            assert array.dtype == np.float32
            assert_allclose(array, expected.gates[key], rtol=0, atol=2e-6, err_msg=str(key))


@pytest.mark.slow
@pytest.mark.parametrize("cell", KINDS)
def test_gates_stay_with_the_equations_over_400_tokens_and_large_states(folder: Path, cell: Kind) -> None:
    shape = shape_of(cell, "last", layers=2, hidden=32)
    net = network(shape)
    for layer in net.recurrent():
        for parameter in layer.parameters():
            # Gates near 0 and 1, and cells far from 0. Networks that feed more back are chaotic then: whatever rounding
            # does to one state grows from step to step, in the reference as in the graph.
            parameter.data *= {"rnn": 1, "peephole": 1.5}.get(cell, 2)
    round_to_storage(net)
    engine = Engine(draft(net, folder / f"long-{cell}"))
    (row,) = random_rows(shape, (400,))
    expected, trace = reference.answer(net, row), engine.trace([row])
    if cell in ("lstm", "peephole"):
        assert np.abs(expected.gates[0, "forward", "cell"]).max() > 5
    for key, array in trace.gates(0).items():
        # A cell is a sum: its rounding error is that of the largest value which it has gone through.
        largest = np.abs(expected.gates[key]).max()
        assert_allclose(array, expected.gates[key], rtol=1e-5, atol=max(1e-4, 1e-5 * largest), err_msg=str(key))


@pytest.fixture(scope="module")
def engines(folder: Path) -> dict[tuple[Kind, Head], Engine]:
    """One engine of each kind, for all examples of a property."""
    return {(cell, head): pair(folder, shape_of(cell, head, layers=2))[1] for cell, head in product(KINDS, HEADS)}


@settings(max_examples=60, deadline=None)
@given(
    cell=st.sampled_from(KINDS),
    head=st.sampled_from(HEADS),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
)
def test_alone_or_in_any_batch_exactly_the_same(
    engines: dict[tuple[Kind, Head], Engine], cell: Kind, head: Head, lengths: list[int], seed: int
) -> None:
    engine = engines[cell, head]
    rows = random_rows(shape_of(cell, head, layers=2), lengths, seed)
    predicted, traced = engine.predict(rows), engine.trace(rows)
    for number, row in enumerate(rows):
        cut = slice(len(row)) if head == "tagger" else slice(None)
        alone = engine.trace([row])
        # ONNX Runtime's operator for Elman networks takes another kernel for one row than for several.
        rounding = 1e-6 if cell == "rnn" else 0
        assert_allclose(predicted[number][cut], engine.predict([row])[0][cut], rtol=0, atol=rounding)
        assert_array_equal(traced.logits[number][cut], alone.logits[0][cut])
        expected = alone.gates(0)
        for key, array in traced.gates(number).items():
            assert_array_equal(array, expected[key])


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("cell", "head"), list(product(KINDS, HEADS)))
def test_what_stands_in_the_padding_does_not_matter(folder: Path, cell: Kind, head: Head) -> None:
    shape = shape_of(cell, head, layers=2)
    pair(folder, shape, seed=8)
    tokens, lengths = pad(random_rows(shape, (3, 9, 1)))
    other = tokens.copy()
    for number, length in enumerate(lengths):
        other[number, length:] = 6
    for name in graphs_of(cell):
        run = session(folder / f"{shape.cell}-{shape.form}-2-2-{head}-8-8" / name)
        one, two = (run.run(None, {"tokens": each, "lengths": lengths}) for each in (tokens, other))
        for number, length in enumerate(lengths):
            cut = slice(length) if head == "tagger" else slice(None)
            assert_array_equal(one[0][number][cut], two[0][number][cut])
            for array, again in zip(one[1:], two[1:], strict=True):
                for way in range(2):  # the directions' rows stand one after the other
                    place = np.s_[:length, way * len(lengths) + number]
                    assert_array_equal(array[place], again[place])


# What the graphs are made of.


def models(folder: Path, shape: Architecture) -> dict[str, onnx.ModelProto]:
    path = draft(network(shape), folder / f"files-{shape.cell}-{shape.form}-{shape.layers}-{shape.head}").path
    found = {file.name: onnx.load(str(file), load_external_data=False) for file in sorted(path.glob("*.onnx"))}
    assert list(found) == graphs_of(word_of(shape.cell, shape.form))
    return found


def graphs(outer: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside it."""
    yield outer
    for node in outer.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


@pytest.mark.parametrize("cell", KINDS)
def test_no_two_values_share_a_name(folder: Path, cell: Kind) -> None:
    for model in models(folder, shape_of(cell, "tagger", layers=3)).values():
        names: Counter[str] = Counter()
        for part in graphs(model.graph):
            names.update(value.name for value in part.input)
            names.update(value.name for value in part.initializer)
            names.update(output for node in part.node for output in node.output)
        assert not [name for name, times in names.items() if times > 1]


def test_the_trace_graph_scans_once_a_layer(folder: Path) -> None:
    trace = models(folder, shape_of("lstm", "mean", layers=3))[TRACE_GRAPH]
    scans = [node for node in trace.graph.node if node.op_type == "Scan"]
    assert len(scans) == 3, "both directions step together"
    for part in list(graphs(trace.graph))[1:]:
        assert not part.initializer, "weights live in the outer graph, once"
        products = [node for node in part.node if node.op_type in ("Gemm", "MatMul")]
        assert len(products) == 2, "only the recurrent product of each direction is done step by step"


@pytest.mark.parametrize("cell", ["mingru", "minlstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_minimal_cells_step_is_one_product_and_one_sum(folder: Path, cell: Kind, bidirectional: bool) -> None:
    shape = shape_of(cell, "max", bidirectional, layers=2)
    (model,) = models(folder / f"steps-{bidirectional}", shape).values()
    scans = [node for node in model.graph.node if node.op_type == "Scan"]
    assert len(scans) == 2, "one for each layer, both directions together"
    for body in list(graphs(model.graph))[1:]:
        assert [node.op_type for node in body.node] == ["Mul", "Add"]
    assert [output.name for output in model.graph.output] == [
        "logits",
        *(f"{layer}.{gate}" for layer in range(2) for gate in gate_names(shape.cell)),
    ]


def test_both_shut_gates_of_a_minimal_lstm_are_exact_far_below_zero(folder: Path) -> None:
    shape = shape_of("minlstm", "last", bidirectional=False)
    net = network(shape)
    cell = net.recurrent()[0].directions()[0]
    cell.stacked().w_bias.data[: 2 * shape.hidden] = -30.0
    cell.stacked().w_bias.data[: shape.hidden] -= 1.0  # of the forget gates, e times less
    cell.stacked().w.data[: 2 * shape.hidden] = 0.0
    round_to_storage(net)
    engine = Engine(draft(net, folder / "far-below"))
    rows = random_rows(shape, (9,))
    taken = engine.trace(rows).gate((0, "forward", "input"), 0)
    assert_allclose(taken, 1 / (1 + np.exp(-1.0)), rtol=1e-5)
    check(net, engine, rows)


@pytest.mark.parametrize(("cell", "head"), list(product(KINDS, HEADS)))
def test_weights_lie_once_in_one_file_beside_both_graphs(folder: Path, cell: Kind, head: Head) -> None:
    shape = shape_of(cell, head, layers=2, hidden=16)
    found = models(folder, shape)
    weights = folder / f"files-{shape.cell}-{shape.form}-2-{head}" / WEIGHTS
    assert {path.name for path in weights.parent.iterdir() if path.suffix == ".safetensors"} == {WEIGHTS}
    start, size = 8 + int.from_bytes(weights.read_bytes()[:8], "little"), weights.stat().st_size
    net = network(shape)
    words = sum(table(net, feature.name).numel() for feature in shape.features)
    rest = sum(parameter.numel() for parameter in net.parameters()) - words
    assert size - start == pytest.approx(2 * words + 4 * rest, rel=0.02), "float16 embeddings, the rest float32"
    used = set()
    for name, model in found.items():
        for tensor in model.graph.initializer:
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                assert tensor.ByteSize() < 400, f"{name}: {tensor.name} is held in the graph"
                continue
            place = {entry.key: entry.value for entry in tensor.external_data}
            assert place["location"] == WEIGHTS
            offset, length = int(place["offset"]), int(place["length"])
            assert start <= offset < offset + length <= size
            used.add((name, offset, length))
        assert (weights.parent / name).stat().st_size < 40_000
    assert {name for name, _, _ in used} == set(found)
    assert sum(length for name, _, length in used if name == MODEL_GRAPH) == size - start


@pytest.mark.parametrize("cell", [cell for cell in KINDS if cell not in ONE_GRAPH])
def test_the_fused_graph_is_small_and_as_other_providers_want_it(folder: Path, cell: Kind) -> None:
    model = models(folder, shape_of(cell, "mean"))[MODEL_GRAPH]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert len(model.graph.node) < 25
    operator = {"peephole": "LSTM", "gru-before": "GRU"}.get(cell, cell.upper())
    (recurrent,) = [node for node in model.graph.node if node.op_type == operator]
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in recurrent.attribute}
    expected = {"hidden_size": 8, "direction": b"bidirectional"}
    if operator == "GRU":
        expected["linear_before_reset"] = int(cell == "gru")
    assert attributes == expected
    assert recurrent.input[4] == "lengths"
    assert list(recurrent.input[5:]) == (["", "", "recurrent.0.P"] if cell == "peephole" else [])
    assert list(recurrent.output[1:]) == [], "no output that nothing reads"


def test_inputs_and_outputs_are_dynamic(folder: Path) -> None:
    for model in models(folder, shape_of("gru", "tagger", layers=2)).values():
        sizes = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in [*model.graph.input, *model.graph.output]
        }
        assert sizes.pop("tokens") == ["batch", "time", "features"]
        assert sizes.pop("lengths") == ["batch"]
        assert sizes.pop("logits") == ["batch", "time", 5]
        assert all(size == ["time", "rows", 8] for size in sizes.values()), "a row for each input and direction"


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    shape = shape_of("gru", "last", layers=2)
    one, two = (draft(network(shape), tmp_path / name) for name in ("one", "two"))
    for file in (MODEL_GRAPH, TRACE_GRAPH, WEIGHTS):
        assert one.file(file).read_bytes() == two.file(file).read_bytes()
