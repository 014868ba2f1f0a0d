"""The portable graph in two runtimes against the float64 reference, and what it may be made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Unpack

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import load_file

from service.model.bundle import WEIGHTS, CharacterNetwork, Head, Task
from service.model.engine import Engine, pad
from tests import reference
from tests.bundles import KINDS, Kind, Options, Rows, architecture, draft, network, random_rows
from training.export.onnx import graph
from training.export.onnx.embedding import round_to_storage
from training.export.onnx.portable import OPSET, portable
from training.nets.networks import Network, WordBits

HEADS: tuple[Head, ...] = ("last", "mean", "max", "attention", "tagger")
SHAPES = [
    *product(KINDS, [False, True], [1], HEADS),
    *product(KINDS, [True], [2], ["last", "tagger"]),
    *product(KINDS, [False], [3], ["max"]),
]
RAGGED = (9, 4, 2, 1, 23, 9)
PLAIN = (
    "Add Cast Concat ConstantOfShape Div Equal Exp Expand Floor GRU Gather Gemm Greater GreaterOrEqual Identity LSTM "
    "Less MatMul Max Min Mul Neg Pad RNN Range ReduceMax ReduceSum Reshape Scan Shape Sigmoid Slice Softmax Split "
    "Squeeze Sub Tanh Transpose Unsqueeze Where"
)
"""What every runtime was seen to read right. A new one has to be run in all of them first."""
Logits = NDArray[np.float32]


class Made:
    """A random network, rounded to what a bundle stores, its served graphs, and its portable ones."""

    def __init__(self, folder: Path, **options: Unpack[Options]) -> None:
        self.net: Network = network(architecture(**options))
        round_to_storage(self.net)
        self.shape = self.net.architecture
        bundle = draft(self.net, folder)
        self.engine = Engine(bundle)
        self.arrays = load_file(bundle.file(WEIGHTS))
        self.single, self.half = (portable(self.shape, self.arrays, {"a": "b"}, half=half) for half in (False, True))


def by_onnxruntime(data: bytes) -> Callable[[list[Rows]], Logits]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["logits"], feed(rows))[0]


def by_evaluator(data: bytes) -> Callable[[list[Rows]], Logits]:
    evaluator = ReferenceEvaluator(onnx.load_from_string(data))

    def run(rows: list[Rows]) -> Logits:
        with np.errstate(over="ignore"):  # of its sigmoid in float16
            answer: Logits = evaluator.run(None, feed(rows))[0]
        return answer

    return run


def feed(rows: list[Rows]) -> dict[str, NDArray[np.int32]]:
    return dict(zip(("tokens", "lengths"), pad(rows), strict=True))


RUNTIMES = {"onnxruntime": by_onnxruntime, "evaluator": by_evaluator}


def task_of(head: Head) -> Task:
    return "ner" if head == "tagger" else "sentiment"


@pytest.mark.parametrize(("cell", "bidirectional", "layers", "head"), SHAPES)
def test_two_runtimes_answer_as_the_equations_do(
    tmp_path: Path, cell: Kind, bidirectional: bool, layers: int, head: Head
) -> None:
    made = Made(tmp_path, task=task_of(head), head=head, cell=cell, bidirectional=bidirectional, layers=layers)
    batches = [random_rows(made.shape, lengths, seed=7) for lengths in (RAGGED, (1,), (1, 1), (12,))]
    expected = [[reference.answer(made.net, row).logits for row in rows] for rows in batches]
    for runtime, (data, tolerance) in product(RUNTIMES.values(), ((made.single, 1e-5), (made.half, 1e-2))):
        run = runtime(data)
        for rows, wanted in zip(batches, expected, strict=True):
            answer = run(rows)
            assert answer.dtype == np.float32
            for number, row in enumerate(rows):
                cut = slice(len(row)) if head == "tagger" else slice(None)
                assert_allclose(answer[number][cut], wanted[number], rtol=0, atol=tolerance)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("characters", "word_bits"), [("cnn", 16), ("lstm", 16), ("lstm", 8), ("cnn", 4), (None, 4)])
def test_characters_and_small_word_vectors(
    tmp_path: Path, runtime: str, characters: CharacterNetwork | None, word_bits: WordBits
) -> None:
    made = Made(tmp_path, task="ner", characters=characters, word_bits=word_bits, crf=True)
    rows = random_rows(made.shape, RAGGED)
    if characters:
        rows[2][0, -12:] = 0  # a token without a character
        rows[0][3, -3:] = 0
    expected = made.engine.predict(rows)
    assert_allclose(RUNTIMES[runtime](made.single)(rows), expected, rtol=0, atol=1e-5)
    assert_allclose(RUNTIMES[runtime](made.half)(rows), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize(("cell", "head"), list(product(KINDS, HEADS)))
def test_it_answers_as_the_served_graph_does(tmp_path: Path, cell: Kind, head: Head) -> None:
    made = Made(tmp_path, task=task_of(head), head=head, cell=cell)
    rows = random_rows(made.shape, RAGGED)
    for answer, wanted, row in zip(by_onnxruntime(made.single)(rows), made.engine.predict(rows), rows, strict=True):
        cut = slice(len(row)) if head == "tagger" else slice(None)
        assert_allclose(answer[cut], wanted[cut], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, tuple[Network, Callable[..., Logits]]]:
    folder, found = tmp_path_factory.mktemp("portable"), {}
    for cell in KINDS:
        made = Made(folder / cell, cell=cell, head="last", layers=2)
        found[cell] = (made.net, by_onnxruntime(made.single))
    return found


@settings(max_examples=40, deadline=None)
@given(
    cell=st.sampled_from(KINDS), lengths=st.lists(st.integers(1, 40), min_size=1, max_size=9), seed=st.integers(0, 99)
)
def test_no_row_depends_on_the_batch(
    sessions: dict[Kind, tuple[Network, Callable[..., Logits]]], cell: Kind, lengths: list[int], seed: int
) -> None:
    net, run = sessions[cell]
    rows = random_rows(net.architecture, lengths, seed)
    together = run(rows)
    for number, row in enumerate(rows):
        assert_allclose(together[number], run([row])[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("characters", [None, "lstm", "cnn"])
@pytest.mark.parametrize(("cell", "head"), list(product(KINDS, HEADS)))
def test_it_holds_nothing_that_runtimes_misread(
    tmp_path: Path, cell: Kind, head: Head, characters: CharacterNetwork | None
) -> None:
    made = Made(tmp_path, task=task_of(head), head=head, cell=cell, characters=characters)
    for data in (made.single, made.half):
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
        assert [each.name for each in model.graph.input] == ["tokens", "lengths"]
        assert [each.name for each in model.graph.output] == ["logits"]
        assert {each.key: each.value for each in model.metadata_props} == {"a": "b", "relies_on": ""}
        for node in nodes(model.graph):
            assert node.op_type in PLAIN.split()
            assert not node.domain
            if node.op_type in ("LSTM", "GRU", "RNN"):
                read = [name for name in node.input[3:5] if name]
                assert read == [node.input[3]], "sequence_lens"
                assert len(node.input) <= 7, "peepholes"
                assert {each.name for each in node.attribute} <= {"hidden_size", "linear_before_reset"}


def test_a_scan_reads_nothing_of_the_outer_graph_and_emits_copies(tmp_path: Path) -> None:
    model = onnx.load_from_string(Made(tmp_path, cell="peephole", layers=2).single)
    scans = [node for node in model.graph.node if node.op_type == "Scan"]
    assert len(scans) == 4
    for scan in scans:
        body = next(each.g for each in scan.attribute if each.name == "body")
        own = {each.name for each in (*body.input, *body.initializer)}
        for node in body.node:
            assert own.issuperset(node.input)
            own.update(node.output)
        *states, emitted = body.output
        assert len(states) == 2
        assert len(scan.output) == 3
        assert [node.op_type for node in body.node if emitted.name in node.output] == ["Identity"]
        assert not any(emitted.name in node.input for node in body.node)


def test_what_follows_from_weights_alone_is_computed_for_a_body(tmp_path: Path) -> None:
    made = Made(tmp_path, cell="peephole", word_bits=8)  # its R is float16, and widened outside of the Scan
    model = onnx.load_from_string(made.single)
    bodies = [each.g for node in model.graph.node for each in node.attribute if each.name == "body"]
    assert all(each.data_type == TensorProto.FLOAT for body in bodies for each in body.initializer)
    rows = random_rows(made.shape, RAGGED)
    assert_allclose(by_onnxruntime(made.single)(rows), made.engine.predict(rows), rtol=0, atol=1e-6)


def test_a_body_that_reads_an_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path, cell="peephole")
    monkeypatch.setattr(graph, "_peepholes", lambda builder, *_: [builder.node("Identity", "lengths")] * 3)
    with pytest.raises(ValueError, match="which follows from lengths"):
        portable(made.shape, made.arrays, {})


def test_every_initializer_is_inside_and_read(tmp_path: Path) -> None:
    for characters in ("lstm", "cnn"):
        made = Made(tmp_path / characters, task="ner", cell="peephole", characters=characters)
        for data in (made.single, made.half):
            found = onnx.load_from_string(data).graph
            read = {name for node in found.node for name in node.input}
            for tensor in found.initializer:
                assert tensor.data_location == TensorProto.DEFAULT
                assert tensor.name in read


@pytest.mark.parametrize("cell", KINDS)
def test_float16_is_below_the_head_alone(tmp_path: Path, cell: Kind) -> None:
    made = Made(tmp_path, cell=cell)
    found = onnx.load_from_string(made.half).graph
    wide = {each.name: each for each in found.initializer if each.data_type == TensorProto.FLOAT}
    assert {"head.weight", "head.bias"} <= set(wide)
    assert sum(each.size for each in map(numpy_helper.to_array, wide.values())) < 50
    bodies = [each for node in found.node for attribute in node.attribute for each in attribute.g.initializer]
    assert all(each.data_type == TensorProto.FLOAT16 for each in bodies)
    assert len(made.half) < len(made.single)


def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (Made(tmp_path / name, cell="peephole") for name in "ab")
    assert one.single == two.single
    assert_array_equal(one.engine.head_bias, two.engine.head_bias)


def nodes(of: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in of.node:
        yield node
        for attribute in node.attribute:
            yield from nodes(attribute.g)
