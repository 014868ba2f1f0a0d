"""`export --portable`: the file, what it says of itself, its certificate, and what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service.errors import BundleError
from service.model.bundle import TOKENIZER, WEIGHTS, Bundle, discover, load
from service.model.crf import viterbi
from service.model.decoding import decoder
from service.model.engine import Engine, pad
from service.model.tokenizer import Tokenizer
from service.version import VERSION
from tests.bundles import KINDS, WORDS, Kind, tiny_bundle
from training.cli import app
from training.export.onnx import portable as graphs
from training.export.portable import TOLERANCES, FloatKind, transitions, write
from training.export.restore import architecture

TEXTS = ("Ada Lovelace lived in London.", "a film", "It was not very good, and the movie is dull", "do")


def metadata(file: Path) -> dict[str, str]:
    return {each.key: each.value for each in onnx.load(file).metadata_props}


def logits(file: Path, bundle: Bundle) -> tuple[NDArray[np.float32], list[int]]:
    """What the file answers for the texts, and how many tokens each has."""
    tokenizer = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features)
    rows = [tokenizer.encode(text, 4096, truncate=False).rows for text in TEXTS]
    tokens, lengths = pad(rows)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"tokens": tokens, "lengths": lengths})[0], lengths.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_writes_one_certified_file(tmp_path: Path, kind: Kind) -> None:
    bundle = tiny_bundle(tmp_path / "models" / "reviews", cell=kind)
    for extra in ((), ("--float16",)):
        file = tmp_path / "new folder" / f"reviews{len(extra)}.onnx"
        done = CliRunner().invoke(app, ["export", str(bundle.path.parent), "--portable", str(file), *extra])
        assert done.exit_code == 0, done.output
        precision: FloatKind = "float16" if extra else "float32"
        assert f"reviews version 1, {precision}" in done.output
        assert [path.name for path in bundle.path.parent.iterdir()] == ["1"]
        assert sorted(file.parent.iterdir())[-1] == file
        parity = json.loads(metadata(file)["parity"])
        assert parity["tolerance"] == TOLERANCES[precision]
        assert 0 < parity["onnxruntime"] <= parity["tolerance"]
        assert 0 < parity["reference"] <= parity["tolerance"]
        assert parity["batches"] == 11
        assert set(parity["versions"]) == {"onnx", "onnxruntime", "torch"}
    assert not [path for path in file.parent.iterdir() if path.suffix != ".onnx"]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_window_of_words_is_in_the_file(tmp_path: Path, bidirectional: bool) -> None:
    bundle = tiny_bundle(tmp_path / "m", task="ner", cell="minlstm", bidirectional=bidirectional, window_words=3)
    assert write(bundle, tmp_path / "file.onnx").reference < 1e-6
    assert metadata(tmp_path / "file.onnx")["window_words"] == "3"
    found, lengths = logits(tmp_path / "file.onnx", bundle)
    tokenizer = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features)
    served = Engine(bundle).predict([tokenizer.encode(text, 4096).rows for text in TEXTS])
    for number, length in enumerate(lengths):
        assert_allclose(found[number, :length], served[number, :length], rtol=0, atol=2e-6)


def test_it_says_what_a_program_needs_to_know(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "reviews", cell="gru-before", layers=2, hidden=6)
    write(bundle, file := tmp_path / "reviews.onnx", "float16")
    told = metadata(file)
    expected = {"name": "reviews", "version": "1", "task": "sentiment", "cell": "gru", "gru_reset": "before"}
    expected |= {"layers": "2", "hidden": "6", "head": "max", "precision": "float16", "token_limit": "4096"}
    expected |= {"licence": "CC0-1.0", "gatelight": VERSION, "bundle_sha256": bundle.digest}
    assert told.items() >= expected.items()
    assert json.loads(told["labels"]) == ["negative", "positive"]
    assert json.loads(told["directions"]) == ["forward", "backward"]
    assert json.loads(told["features"]) == [{"name": "word", "size": len(WORDS), "columns": 1}]
    content = bundle.file(TOKENIZER).read_bytes()
    assert told["tokenizer_sha256"] == hashlib.sha256(content).hexdigest()
    assert json.loads(told["normalizer"]) == json.loads(content)["normalizer"]
    assert "transitions" not in told


@pytest.mark.parametrize("crf", [False, True])
def test_a_tagger_can_be_decoded_from_the_file_alone(tmp_path: Path, crf: bool) -> None:
    bundle = tiny_bundle(tmp_path / "names", task="ner", crf=crf, characters="cnn", hidden=12)
    write(bundle, file := tmp_path / "names.onnx")
    emissions, lengths = logits(file, bundle)
    told = json.loads(metadata(file)["transitions"])
    between, start = (np.array(told[name], np.float64) for name in ("scores", "start"))  # null becomes NaN
    between[np.isnan(between)] = start[np.isnan(start)] = -np.inf
    paths = viterbi(emissions.astype(np.float64), np.array(lengths), between, start)
    labels = json.loads(metadata(file)["labels"])
    tokenizer = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features)
    encoded = [tokenizer.encode(text, 4096, truncate=False) for text in TEXTS]
    served = decoder("ner", bundle.manifest.labels, bundle.manifest.crf)
    answers = served.decode(Engine(bundle).predict([each.rows for each in encoded]), encoded, tokens=True)
    for path, answer, length in zip(paths, answers, lengths, strict=True):
        tokens = answer["tokens"]
        assert isinstance(tokens, list)
        assert [labels[number] for number in path[:length]] == [token["label"] for token in tokens]


def test_transitions_forbid_what_is_not_iob2(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "names", task="ner", crf=True)
    found = transitions(bundle.manifest)
    assert found is not None
    learned = bundle.manifest.crf
    assert learned is not None
    assert found["start"] == [
        None if label.startswith("I-") else score
        for label, score in zip(bundle.manifest.labels, learned.start, strict=True)
    ]
    assert transitions(tiny_bundle(tmp_path / "reviews").manifest) is None


def test_a_bundle_gives_the_same_file_each_time(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "reviews", cell="peephole")
    for name in "ab":
        write(bundle, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle(tmp_path / "reviews")
    monkeypatch.setitem(TOLERANCES, "float32", 1e-12)
    monkeypatch.setitem(TOLERANCES, "float16", 1e-12)
    with pytest.raises(BundleError, match=r"logits differ by \S+ in onnxruntime, the limit"):
        write(bundle, tmp_path / "file.onnx")
    with pytest.raises(BundleError, match="leave out --float16"):
        write(bundle, tmp_path / "file.onnx", "float16")
    assert not (tmp_path / "file.onnx").exists()


def test_rows_that_are_not_turned_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs._Rows, "turned", lambda _, states: states)
    with pytest.raises(BundleError, match="does not agree"):
        write(tiny_bundle(tmp_path / "reviews", head="last"), tmp_path / "file.onnx")


def test_a_file_that_was_there_is_replaced_only_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, file = tiny_bundle(tmp_path / "reviews"), tmp_path / "file.onnx"
    file.write_text("before")
    with monkeypatch.context() as patch:
        patch.setitem(TOLERANCES, "float32", 0.0)
        with pytest.raises(BundleError):
            write(bundle, file)
    assert file.read_text() == "before"
    write(bundle, file)
    onnx.checker.check_model(file)


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["--float16"], 2, "goes with --portable FILE"),
        (["--portable", "x.onnx", "--int8"], 2, "leave out --int8"),
        (["--portable", "x.onnx", "--dev", "a.tsv", "--out", "b"], 2, "leave out --out, --dev"),
        (["--portable", "."], 1, "is a folder"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = tiny_bundle(tmp_path / "reviews")
    done = CliRunner().invoke(app, ["export", str(bundle.path), *arguments], env={"COLUMNS": "400"})
    assert done.exit_code != 0
    assert why in (done.output if status == 2 else str(done.exception))
    assert not Path("x.onnx").exists()


def test_a_bundle_of_integers_has_none(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "reviews")
    whole = replace(bundle, manifest=bundle.manifest.model_copy(update={"precision": "int8"}))
    with pytest.raises(BundleError, match="export the float32 bundle that it came from"):
        write(whole, tmp_path / "file.onnx")


def test_the_shipped_models_answer_as_they_are_served(tmp_path: Path) -> None:
    root = Path(__file__).parents[3] / "models"
    for name, versions in discover(root):
        bundle = load(root / name / str(versions[-1]))
        if bundle.manifest.precision != "float32":
            continue
        arrays = load_file(bundle.file(WEIGHTS))
        data = graphs.portable(architecture(bundle, arrays), arrays, {})
        (tmp_path / "file.onnx").write_bytes(data)
        answer, lengths = logits(tmp_path / "file.onnx", bundle)
        tokenizer = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features)
        served = Engine(bundle).predict([tokenizer.encode(text, 4096, truncate=False).rows for text in TEXTS])
        for number, length in enumerate(lengths):
            cut = slice(length) if answer.ndim == 3 else slice(None)
            assert_allclose(answer[number][cut], served[number][cut], rtol=0, atol=1e-5, err_msg=name)
        assert_array_equal(answer.shape, served.shape)
