"""``fit --start models/NAME``: a training that goes on from a bundle, with labels of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service.errors import BundleError
from service.model.bundle import CARD, TOKENIZER, WEIGHTS, Bundle, Task, load
from service.model.engine import Engine
from service.model.tokenizer import UNKNOWN, Tokenizer
from tests import corpora
from tests.bundles import KINDS, LABELS, ORIGIN, WORDS, Kind, architecture, network, table, tiny_bundle, tokenizer
from training.cli import app
from training.data.corpora import CorpusError
from training.errors import TrainingError
from training.export.bundle import export
from training.export.onnx import embedding
from training.loop.checkpoints import CheckpointError
from training.loop.fit import Progress
from training.material import Material, gather
from training.nets.networks import Table
from training.options import FitOptions
from training.run import run

TEXTS = ["Ada Lovelace lived in London, not Zanzibar!", "a very dull film", "Grace worked in New York ."]


def options(folder: Path, task: Task, **changed: Any) -> FitOptions:
    """A short training on data of its own below `folder`, from ``folder/models/parent``."""
    write, ending = (corpora.sentiment, "tsv") if task == "sentiment" else (corpora.ner, "conll")
    small: dict[str, Any] = {
        "task": task,
        "start": folder / "models" / "parent",
        "train": (write(folder / "mine" / f"train.{ending}"),),
        "dev": (write(folder / "mine" / f"dev.{ending}", start=1, step=3),),
        "epochs": 1,
        "batch_rows": 8,
        "checkpoint_every": 0,
        "device": "cpu",
        "out": folder / "models" / "child",
        "licence": "CC0-1.0",
    }
    return FitOptions(**small | changed)


def quiet(_: object) -> None:
    """Told, and reported to."""


def answers(bundle: Bundle, texts: list[str]) -> list[NDArray[np.float32]]:
    """The logits of raw texts, through the runtime."""
    tokens, engine = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features), Engine(bundle)
    return [engine.predict([tokens.encode(text, 100).rows])[0] for text in texts]


def first_answers(material: Material, texts: list[str]) -> list[NDArray[np.float32]]:
    """The logits of raw texts before the training."""
    found = []
    for text in texts:
        rows = torch.from_numpy(material.tokenizer.encode(text, 100).rows.copy())[None]  # (1, T, columns)
        with torch.inference_mode():
            found.append(material.network.eval()(rows, torch.tensor([rows.shape[1]]))[0].numpy())
    return found


@pytest.mark.parametrize("cell", KINDS)
def test_before_any_step_it_answers_as_the_model_it_began_with(tmp_path: Path, cell: Kind) -> None:
    parent = tmp_path / "models" / "parent"
    shapes: list[dict[str, Any]] = [
        {"task": "sentiment", "head": "attention"},
        {"task": "ner", "crf": True, "characters": "cnn", "bidirectional": False, "layers": 2},
    ]
    if cell == "mingru":
        shapes += [{"task": "sentiment", "window_words": 3}, {"task": "ner", "window_words": 2, "bidirectional": False}]
    if cell == "lstm":
        shapes += [{"task": "sentiment", "head": "last"}, {"task": "ner", "characters": "lstm", "word_bits": 8}]
    for shape in shapes:
        before = tiny_bundle(parent, cell=cell, **shape)
        material = gather(options(tmp_path, shape["task"]), quiet)
        mine, theirs = first_answers(material, TEXTS), answers(before, TEXTS)
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-5)
        made, was = material.network.architecture, before.manifest
        assert made.window_words == was.window_words
        assert (made.cell, made.form, made.directions, made.layers, made.hidden, made.head, made.crf) == (
            *(was.cell, was.form, was.directions, was.layers, was.hidden, was.head, was.crf is not None),
        )
        if material.network.crf is not None:
            assert was.crf is not None
            mine_crf = material.network.crf.as_manifest()
            np.testing.assert_allclose(mine_crf.transitions, was.crf.transitions, rtol=1e-6)
            np.testing.assert_allclose(mine_crf.start, was.crf.start, rtol=1e-6)


@pytest.mark.parametrize(("task", "word_bits"), [("sentiment", 16), ("sentiment", 8), ("ner", 16), ("ner", 8)])
def test_a_step_of_nearly_nothing_gives_the_models_answers_back(tmp_path: Path, task: Task, word_bits: Any) -> None:
    before = tiny_bundle(tmp_path / "models" / "parent", task=task, crf=task == "ner", word_bits=word_bits)
    made, _ = run(options(tmp_path, task, learning_rate=1e-9, dropout=0.0), quiet, quiet)
    assert made is not None
    assert ("embedding.word.scale" in load_file(made.file(WEIGHTS))) == (word_bits == 8), "the bits are the model's"
    for one, other in zip(answers(made, TEXTS), answers(before, TEXTS), strict=True):
        np.testing.assert_allclose(one * made.manifest.temperature, other, rtol=0, atol=1e-4)


def packed(folder: Path, fine: int) -> Bundle:
    """A tagger of 4 bits, of which the first `fine` rows have 8."""
    shape = architecture(task="ner", crf=True, word_bits=4)
    made = network(shape)
    word = made.embeddings["word"]
    assert isinstance(word, Table)
    word.fine = fine
    return export(made, tokenizer(shape), ORIGIN, "CC0-1.0", folder, lambda _: [])


def test_of_a_packed_table_only_the_words_of_the_data_are_rounded_anew(tmp_path: Path) -> None:
    before = packed(tmp_path / "models" / "parent", 20)
    made, _ = run(options(tmp_path, "ner", learning_rate=1e-9, dropout=0.0), quiet, quiet)
    assert made is not None
    old, new = (
        gather(options(tmp_path, "ner", start=tmp_path / "models" / name), quiet) for name in ("parent", "child")
    )
    first, second = (table(each.network) for each in (old, new))
    own = {"ada", "lovelace", "lived", "in", "london", "."}
    assert own < set(WORDS)
    for word in WORDS:
        was, now = (each[material.tokenizer.rows([word])[0, 0]] for each, material in ((first, old), (second, new)))
        coarse = WORDS.index(word) >= 20
        if word in own and coarse:
            assert (now - was).abs().max() <= was.abs().max() / 127 * 0.51, word
        else:
            assert torch.equal(now, was), word
    arrays = load_file(made.file(WEIGHTS))
    assert len(arrays["embedding.word.fine"]) - 1 == len(set(WORDS[:20]) | own | words_of(tmp_path))
    assert before.manifest.labels == made.manifest.labels


def words_of(folder: Path) -> set[str]:
    lines = (folder / "mine" / "train.conll").read_text("utf-8").lower().splitlines()
    return {line.partition("\t")[0] for line in lines if line}


def test_a_packed_tables_fine_rows_have_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed(tmp_path / "models" / "parent", 20)
    monkeypatch.setattr("training.start.FINE_ROWS", 10)
    monkeypatch.setattr(embedding, "FINE_ROWS", 10)
    word = gather(options(tmp_path, "ner"), quiet).network.embeddings["word"]
    assert isinstance(word, Table)
    assert word.fine is None, "the data have more words than that: the export decides"
    monkeypatch.setattr("training.start.FINE_ROWS", 17)
    word = gather(options(tmp_path, "ner"), quiet).network.embeddings["word"]
    assert isinstance(word, Table)
    assert word.fine == len({UNKNOWN} | words_of(tmp_path) | set(WORDS[:20]))


def test_words_that_the_model_lacks_get_rows_and_begin_as_its_unknown_word(tmp_path: Path) -> None:
    before = tiny_bundle(tmp_path / "models" / "parent", task="sentiment")
    told: list[str] = []
    material = gather(options(tmp_path, "sentiment"), told.append)
    rows = {word: int(material.tokenizer.rows([word])[0, 0]) for word in ("superb", "plot", "dull", "ada", "zebra")}
    assert rows["zebra"] == 0
    assert 0 < max(rows["superb"], rows["plot"], rows["dull"]) < rows["ada"], "those of the data stand first"
    weights, old = table(material.network), load_file(before.file(WEIGHTS))["embedding.word"].astype(np.float32)
    for word in ("superb", "plot"):
        assert torch.equal(weights[rows[word]], weights[0])
    for word in ("dull", "ada"):
        np.testing.assert_array_equal(weights[rows[word]], old[WORDS.index(word)])
    words = material.network.embeddings["word"]
    assert isinstance(words, Table)
    assert len(words.learned) <= rows["ada"], "the other rows stay as they are"
    (line,) = [line for line in told if line.startswith("begins from")]
    assert line.startswith("begins from parent version 1: ")
    assert "the others begin as its unknown word" in line


def test_the_number_of_words_is_bounded_where_it_is_given(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "parent", task="sentiment")
    every = gather(options(tmp_path, "sentiment"), quiet).network.architecture.features[0].size
    told: list[str] = []
    few = gather(options(tmp_path, "sentiment", words=12), told.append)
    (note,) = [line for line in told if "drops" in line]
    assert note.startswith("note: --words 12 drops 24 of the 33 words of parent version 1, the last of its table: ")
    assert every > 12 == few.network.architecture.features[0].size
    assert few.tokenizer.rows(["good", "ada"])[:, 0].tolist()[1] == 0
    assert few.tokenizer.rows(["good"])[0, 0] > 0
    data = tmp_path / "rare.tsv"
    data.write_text("text\tlabel\na film of zebras\tpositive\na film !\tnegative\n", "utf-8")
    rare = gather(options(tmp_path, "sentiment", train=(data,), words=len(WORDS)), quiet)
    assert rare.tokenizer.rows(["zebras", "of", "!"])[:, 0].tolist()[0] == 0, "once, and unknown to the model"
    assert set(rare.tokenizer.rows(list(WORDS))[:, 0]) == set(range(len(WORDS)))
    told.clear()
    more = gather(options(tmp_path, "sentiment", train=(data,)), told.append)
    assert not [line for line in told if "drops" in line]
    assert more.tokenizer.rows(["zebras"])[0, 0] > 0


def test_labels_in_common_keep_their_rows(tmp_path: Path) -> None:
    before = tiny_bundle(tmp_path / "models" / "parent", task="ner", crf=True)
    data = tmp_path / "other.conll"
    data.write_text("Ada\tB-PER\nLovelace\tI-PER\ntook\tO\naspirin\tB-DRUG\n\nin\tO\nit\tO\n", "utf-8")
    told: list[str] = []
    material = gather(options(tmp_path, "ner", train=(data,), dev=(data,)), told.append)
    assert material.labels == ("O", "B-DRUG", "I-DRUG", "B-PER", "I-PER")
    made, arrays = material.network, load_file(before.file(WEIGHTS))
    assert LABELS["ner"] == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    new, old = [0, 3, 4], [0, 3, 4]
    np.testing.assert_array_equal(made.head.weight[new].detach(), arrays["head.weight"][old])
    np.testing.assert_array_equal(made.head.bias[new].detach(), arrays["head.bias"][old])
    assert not np.isin(made.head.weight[1:3].detach(), arrays["head.weight"]).any()
    crf = before.manifest.crf
    assert crf is not None
    assert made.crf is not None
    assert made.crf.start[new].tolist() == pytest.approx([crf.start[each] for each in old])
    np.testing.assert_allclose(
        made.crf.transitions.detach()[new][:, new], np.array(crf.transitions)[np.ix_(old, old)], rtol=1e-6
    )
    assert not made.crf.transitions[1:3].any()
    assert not made.crf.transitions[:, 1:3].any()
    assert "note: parent version 1 lacks the labels B-DRUG, I-DRUG: they are learned from the beginning" in told
    lacking = "note: the training data lack the labels B-LOC, I-LOC of parent version 1: the new model lacks them too"
    assert lacking in told


def test_labels_are_matched_by_name_whatever_their_order(tmp_path: Path) -> None:
    labels = ("positive", "mixed", "negative")
    before = tiny_bundle(tmp_path / "models" / "parent", task="sentiment", labels=labels)
    material = gather(options(tmp_path, "sentiment"), quiet)
    assert material.labels == ("negative", "positive")
    for one, other in zip(first_answers(material, TEXTS), answers(before, TEXTS), strict=True):
        np.testing.assert_allclose(one, other[[2, 0]], rtol=0, atol=2e-5)


def test_the_card_says_what_it_began_from(tmp_path: Path) -> None:
    before = tiny_bundle(tmp_path / "models" / "parent", task="ner", crf=True)
    told: list[str] = []
    made, outcome = run(options(tmp_path, "ner", epochs=3, learning_rate=0.01), told.append, quiet)
    assert made is not None
    first, *others = made.manifest.origin.data
    assert first == (
        f"began from parent version 1 (SHA-256 of its model.json: {before.digest}), which learned from random weights"
    )
    assert others == ["mine train: 24 examples"]
    assert made.manifest.licence == "CC0-1.0; began from parent version 1: CC0-1.0"
    card = made.file(CARD).read_text("utf-8")
    assert f"- {first}\n" in card
    assert f"| licence | {made.manifest.licence} |" in card
    (line,) = [line for line in told if "on dev before the training" in line]
    assert line.startswith("parent version 1 has 0.")
    again, _ = run(options(tmp_path, "ner", start=made.path, licence="not stated"), quiet, quiet)
    assert again is not None
    assert again.manifest.licence.startswith("licence of the further data not stated; began from child version 1: CC0")
    assert again.manifest.origin.data[0].startswith("began from child version 1 (SHA-256 of its model.json: ")
    assert "which learned from began from parent version 1" in again.manifest.origin.data[0]
    assert outcome.epochs > 0


def test_the_version_is_the_highest_or_the_one_named(tmp_path: Path) -> None:
    parent = tmp_path / "models" / "parent"
    for seed in (1, 2):
        tiny_bundle(parent, task="sentiment", seed=seed)
    for start, name in ((parent, "parent version 2"), (parent / "1", "parent version 1")):
        found = gather(options(tmp_path, "sentiment", start=start), quiet).parent
        assert found is not None
        assert found.name == name
    own, _ = run(options(tmp_path, "sentiment", out=parent), quiet, quiet)
    assert own is not None
    assert own.version == 3
    assert "parent version 2" in own.manifest.origin.data[0]


def test_a_training_that_makes_it_no_better_says_so(tmp_path: Path) -> None:
    parent, _ = run(
        options(tmp_path, "ner").but(start=None, hidden=6, epochs=12, learning_rate=0.03),
        quiet,
        quiet,
    )
    assert parent is not None
    told: list[str] = []
    run(options(tmp_path, "ner", start=parent.path, learning_rate=1e-9), told.append, quiet)
    assert any(
        line.startswith("WARNING: on dev the model has 1.0000, no more than the 1.0000 that it began with.")
        for line in told
    )


def test_the_rules_for_raw_text_are_the_models(tmp_path: Path) -> None:
    shape = architecture(task="ner")
    reader = Tokenizer({word: row for row, word in enumerate(WORDS)}, shape.features, "conll")
    export(network(shape), reader, ORIGIN, "CC0-1.0", tmp_path / "models" / "parent", lambda _: [])
    made, _ = run(options(tmp_path, "ner"), quiet, quiet)
    assert made is not None
    assert made.manifest.style == "conll"
    assert Tokenizer.load(made.file(TOKENIZER), made.manifest.features).style == "conll"


def test_a_number_with_digits_begins_as_the_model_read_it(tmp_path: Path) -> None:
    shape, words = architecture(), ["<unk>", "a", "good", "film", "0", "00", "/"]
    shape = replace(shape, features=(shape.features[0].model_copy(update={"size": len(words)}), *shape.features[1:]))
    reader = Tokenizer({word: row for row, word in enumerate(words)}, shape.features, "web")
    export(network(shape), reader, ORIGIN, "CC0-1.0", tmp_path / "models" / "parent", lambda _: [])
    ratings = tmp_path / "ratings.tsv"
    ratings.write_text("text\tlabel\n1 film\tnegative\na good 10\tpositive\nroom 1999\tpositive\n")
    given = options(tmp_path, "sentiment", train=(ratings,), tokenizer="reviews")
    material = gather(given, quiet)
    rows = table(material.network)

    def row(text: str) -> torch.Tensor:
        return rows[int(material.tokenizer.encode(text, 100).rows[0, 0])]

    assert material.tokenizer.style == "reviews"
    assert material.tokenizer.encode("1", 9).rows[0, 0] != material.tokenizer.encode("0", 9).rows[0, 0]
    assert torch.equal(row("1"), row("0"))
    assert torch.equal(row("10"), row("00"))
    assert not torch.equal(row("1"), row("zebra"))
    with pytest.raises(TrainingError, match=r"it has --tokenizer web, and --tokenizer treebank was asked for"):
        gather(options(tmp_path, "sentiment", tokenizer="treebank"), quiet)


@pytest.mark.parametrize(
    ("shape", "given", "said"),
    [
        ({"task": "ner"}, {"task": "sentiment"}, "it has --task ner, and --task sentiment was asked for"),
        ({}, {"task": "ner"}, "it has --task sentiment, and --task ner was asked for"),
        ({}, {"cell": "rnn"}, "it has --cell lstm, and --cell rnn was asked for"),
        ({}, {"hidden": 128}, "it has --hidden 8, and --hidden 128 was asked for"),
        ({}, {"layers": 2}, "it has --layers 1, and --layers 2 was asked for"),
        ({"bidirectional": False}, {"bidirectional": True}, "it has no --bidirectional, and --bidirectional was asked"),
        ({}, {"bidirectional": False}, "it has --bidirectional, and no --bidirectional was asked for"),
        ({}, {"pooling": "mean"}, "it has --pooling max, and --pooling mean was asked for"),
        ({"task": "ner"}, {"crf": True}, "it has no --crf, and --crf was asked for"),
        ({"task": "ner"}, {"characters": "cnn"}, "it has --characters none, and --characters cnn was asked for"),
        ({"task": "ner"}, {"tokenizer": "conll"}, "it has --tokenizer web, and --tokenizer conll was asked for"),
        ({"cell": "gru"}, {"gru_reset": "before"}, "it has --gru-reset after, and --gru-reset before was asked for"),
        ({"cell": "mingru"}, {"window_words": 3}, "it has --window-words 1, and --window-words 3 was asked for"),
        ({}, {"window_words": 3}, "it has --window-words 1, and --window-words 3 was asked for"),
        ({}, {"gru_reset": "before"}, "it has no --gru-reset, and --gru-reset before was asked for"),
        (
            {"cell": "peephole"},
            {"peepholes": "full"},
            "it has --peepholes diagonal, and --peepholes full was asked for",
        ),
        ({}, {"hidden": 9, "layers": 3}, "--layers 3 was asked for; it has --hidden 8, and --hidden 9 was asked for"),
    ],
)
def test_what_contradicts_the_model_is_refused(
    tmp_path: Path, shape: dict[str, Any], given: dict[str, Any], said: str
) -> None:
    tiny_bundle(tmp_path / "models" / "parent", **shape)
    with pytest.raises(TrainingError, match=r"--start: parent version 1 does not fit: ") as raised:
        run(options(tmp_path, **{"task": shape.get("task", "sentiment"), **given}), quiet, quiet)
    assert said in str(raised.value)
    assert "Leave out" in str(raised.value)
    assert not (tmp_path / "models" / "child").exists()


def test_what_agrees_with_the_model_may_be_given(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "parent", task="ner", cell="gru-before", crf=True, characters="cnn")
    given: dict[str, Any] = {"cell": "gru", "gru_reset": "before", "bidirectional": True, "layers": 1, "hidden": 8}
    same = gather(options(tmp_path, "ner", **given, crf=True, characters="cnn", tokenizer="web"), quiet)
    assert same.network.architecture == gather(options(tmp_path, "ner"), quiet).network.architecture
    tiny_bundle(tmp_path / "models" / "parent", task="ner", cell="minlstm", window_words=3)
    assert gather(options(tmp_path, "ner"), quiet).network.architecture.window_words == 3
    more = gather(options(tmp_path, "ner", word_bits=4), quiet)
    assert more.network.architecture.word_bits == 4


def test_no_bundle_or_one_of_integers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="models/parent: no version there; expected a folder models/NAME"):
        gather(options(tmp_path, "ner"), quiet)
    shape = architecture(task="sentiment")
    export(
        network(shape), tokenizer(shape), ORIGIN, "CC0-1.0", tmp_path / "models" / "parent", lambda _: [],
        precision="int8",
    )  # fmt: skip
    with pytest.raises(TrainingError, match=r"parent version 1 is int8, .* start from the float32 bundle"):
        gather(options(tmp_path, "sentiment"), quiet)


def test_dropped_recurrent_weights_are_refused_for_a_cell_without_any(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "parent", cell="mingru")
    with pytest.raises(ValueError, match="--weight-drop: mingru has no recurrent weights"):
        gather(options(tmp_path, "sentiment", weight_drop=0.2), quiet)


def test_a_dev_label_that_the_data_lack_is_refused_though_the_model_has_it(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "parent", task="ner")
    data = tmp_path / "other.conll"
    data.write_text("Ada\tB-PER\nspoke\tO\n", "utf-8")
    with pytest.raises(CorpusError, match="the label 'B-LOC' is not in the training data"):
        gather(options(tmp_path, "ner", train=(data,)), quiet)


def test_a_killed_training_goes_on_from_the_same_model_alone(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "parent", task="sentiment")
    given = options(tmp_path, "sentiment", epochs=3, checkpoint_every=1, threads=1)
    whole, _ = run(given, quiet, quiet)

    def kill(progress: Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    cut = given.but(out=tmp_path / "models" / "cut")
    run(cut, quiet, kill)
    resumed, _ = run(cut.but(resume=True), quiet, quiet)
    assert whole is not None
    assert resumed is not None
    assert resumed.file(WEIGHTS).read_bytes() == whole.file(WEIGHTS).read_bytes()
    run(cut.but(epochs=3), quiet, kill)
    tiny_bundle(tmp_path / "models" / "parent", task="sentiment", seed=8)
    with pytest.raises(CheckpointError, match="is of another training: start was "):
        run(cut.but(resume=True), quiet, quiet)


def test_from_the_command_line_defaults_are_no_wishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bundle(tmp_path / "models" / "parent", task="ner", cell="gru", layers=2, crf=True)
    given = options(tmp_path, "ner")
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", "--task", "ner", "--start", "models/parent", "--train", str(given.train[0])]
    arguments += ["--dev", str(given.dev[0]), "--epochs", "1", "--out", "models/child"]
    found = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    manifest = load(tmp_path / "models" / "child" / "1").manifest
    assert (manifest.cell, manifest.layers, manifest.hidden, manifest.crf is not None) == ("gru", 2, 8, True)
    refused = CliRunner().invoke(app, [*arguments, "--hidden", "128"])
    assert isinstance(refused.exception, TrainingError)
    assert "it has --hidden 8, and --hidden 128 was asked for" in str(refused.exception)
