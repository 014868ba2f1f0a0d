"""A whole training: files in, bundle out, and what stops it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

from service.errors import BundleError
from service.model.bundle import CARD, TOKENIZER, WEIGHTS, Bundle, Task, load
from service.model.decoding import decoder
from service.model.engine import Engine
from service.model.tokenizer import Tokenizer
from tests import corpora
from training.data.corpora import CorpusError
from training.errors import TrainingError
from training.export import bundle as exporting
from training.loop.checkpoints import FILE, CheckpointError
from training.loop.fit import Progress
from training.loop.logs import read as read_log
from training.material import gather
from training.options import NO_VECTORS, FitOptions
from training.run import run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def options(folder: Path, task: Task = "sentiment", **changed: Any) -> FitOptions:
    """A small training on data of its own below `folder`, into ``folder/models/tiny``."""
    write, ending = (corpora.sentiment, "tsv") if task == "sentiment" else (corpora.ner, "conll")
    small = FitOptions(
        task=task,
        cell="gru",
        bidirectional=True,
        hidden=6,
        train=(write(folder / "mine" / f"train.{ending}"),),
        dev=(write(folder / "mine" / f"dev.{ending}", start=1, step=3),),
        words=1000,
        vectors=NO_VECTORS,
        dropout=0.1,
        word_dropout=0.02,
        epochs=3,
        patience=3,
        batch_rows=8,
        learning_rate=0.02,
        checkpoint_every=0,
        device="cpu",
        out=folder / "models" / "tiny",
        licence="CC0-1.0",
        command="python -m training fit …",
    )
    return small.but(**changed)


def quiet(_: object) -> None:
    """Told, and reported to."""


def made(given: FitOptions) -> Bundle:
    """What a training exports."""
    bundle, _ = run(given, quiet, quiet)
    assert bundle is not None
    return bundle


@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_from_files_to_a_bundle_that_answers(tmp_path: Path, task: Task) -> None:
    told: list[str] = []
    bundle, outcome = run(options(tmp_path, task, epochs=8), told.append, quiet)
    assert bundle is not None
    assert load(tmp_path / "models" / "tiny" / "1") == bundle
    manifest = bundle.manifest
    assert manifest.origin.data == ("mine train: 48 examples" if task == "sentiment" else "mine train: 24 examples",)
    assert (manifest.origin.seed, manifest.origin.epochs) == (1, outcome.epochs)
    assert manifest.origin.command == "python -m training fit …"
    assert {"python", "torch", "onnx", "onnxruntime", "numpy", "tokenizers"} <= set(manifest.origin.versions)
    metrics = ["accuracy", "macro_f1", "macro_recall"] if task == "sentiment" else ["precision", "recall", "f1"]
    metrics.append("calibration_error")
    assert [(score.data, score.metric) for score in manifest.quality] == [("mine dev", metric) for metric in metrics]
    assert manifest.quality[2].value > 0.9
    assert any("48 examples" in line or "24 examples" in line for line in told)

    tokens = Tokenizer.load(bundle.file(TOKENIZER), manifest.features)
    text = "Grace lived in Paris ." if task == "ner" else "This movie isn't good, it's awful."
    encoded = tokens.encode(text, 100)
    (answer,) = decoder(task, manifest.labels).decode(Engine(bundle).predict([encoded.rows]), [encoded])
    if task == "sentiment":
        assert answer["label"] == "negative"
    else:
        entities = cast(list[dict[str, str]], answer["entities"])
        assert [(found["label"], found["text"]) for found in entities] == [("PER", "Grace"), ("LOC", "Paris")]


def test_the_same_training_twice_gives_the_same_bundle(tmp_path: Path) -> None:
    one, two = (made(options(tmp_path)) for _ in range(2))
    assert (one.version, two.version) == (1, 2)
    assert one.file(WEIGHTS).read_bytes() == two.file(WEIGHTS).read_bytes()
    assert one.manifest == two.manifest
    other = made(options(tmp_path, seed=2))
    assert other.file(WEIGHTS).read_bytes() != one.file(WEIGHTS).read_bytes()


def test_several_files_of_each_kind(tmp_path: Path) -> None:
    plain = options(tmp_path)
    more = corpora.sentiment(tmp_path / "other" / "train.tsv", step=4)
    dev = corpora.sentiment(tmp_path / "other" / "dev.tsv", step=5)
    test = corpora.sentiment(tmp_path / "other" / "test.tsv", step=6)
    several = plain.but(train=(*plain.train, more), dev=(*plain.dev, dev), test=(test,))
    manifest = made(several).manifest
    assert manifest.origin.data == ("mine train: 48 examples", "other train: 12 examples")
    assert [score.data for score in manifest.quality if score.metric == "accuracy"] == [
        "mine dev",
        "other dev",
        "other test",
    ]


def vectors(path: Path, words: list[str], size: int = 100) -> Path:
    matrix = np.random.default_rng(2).normal(0, 0.3, (len(words), size)).astype(np.float32)
    np.savez(path, words=np.array(words), vectors=matrix)
    return path


def test_word_vectors_widen_the_vocabulary_and_start_its_rows(tmp_path: Path) -> None:
    path = vectors(tmp_path / "v.npz", ["the", "terrible", "1996", "2004", "film"])
    bundle = made(options(tmp_path, vectors=path, epochs=1, learning_rate=1e-9))
    tokens = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features)
    assert tokens.rows(["terrible"])[0, 0] != 0, "a word that only the vectors know"
    assert tokens.rows(["1837"])[0, 0] == tokens.rows(["2004"])[0, 0] != 0
    assert tokens.rows(["zebra"])[0, 0] == 0
    table = load_file(bundle.file(WEIGHTS))["embedding.word"].astype(np.float32)
    given = np.load(path)["vectors"]
    assert table[tokens.rows(["terrible"])[0, 0]] == pytest.approx(given[1], abs=1e-3)
    assert table[tokens.rows(["2004"])[0, 0]] == pytest.approx((given[2] + given[3]) / 2, abs=1e-3)


def test_vectors_bring_their_own_size(tmp_path: Path) -> None:
    path = vectors(tmp_path / "v.npz", ["the"], size=50)
    bundle = made(options(tmp_path, vectors=path))
    assert load_file(bundle.file(WEIGHTS))["embedding.word"].shape[1] == 50


def test_the_vocabulary_is_bounded(tmp_path: Path) -> None:
    bundle = made(options(tmp_path, words=10))
    assert bundle.manifest.features[0].size == 10


def test_an_interrupted_training_exports_the_best_model_so_far(tmp_path: Path) -> None:
    told: list[str] = []

    def report(progress: Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    bundle, outcome = run(options(tmp_path), told.append, report)
    assert bundle is not None
    assert outcome.interrupted
    assert told[-1] == "interrupted: exporting the best model so far"
    assert bundle.manifest.quality[0].value == pytest.approx(outcome.best, abs=1e-4)


def test_an_interrupt_before_the_first_epoch_is_finished_writes_nothing(tmp_path: Path) -> None:
    def report(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(TrainingError, match="before the first epoch was finished"):
        run(options(tmp_path), quiet, report)
    assert not (tmp_path / "models").exists()


def test_truncated_bptt_says_what_it_does_and_refuses_what_it_cannot(tmp_path: Path) -> None:
    told: list[str] = []
    plain = options(tmp_path, bptt=5, epochs=1)
    with pytest.raises(TrainingError, match="the backward direction cannot be carried over"):
        run(plain, quiet, quiet)
    one_way = plain.but(bidirectional=False)
    run(one_way, told.append, quiet)
    run(one_way.but(bptt_loss="end"), told.append, quiet)
    each, end = [line for line in told if line.startswith("truncated BPTT in windows of 5 tokens")]
    assert each.endswith("each window has a loss, for the label by what was read so far")
    assert end.endswith("its gradient reaches the last window alone")
    tagger = options(tmp_path, "ner", bidirectional=False, crf=True)
    with pytest.raises(TrainingError, match="without the CRF"):
        run(tagger.but(bptt=5), quiet, quiet)


def test_tokens_that_raw_text_would_not_give_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    plain = options(tmp_path, "ner")
    run(plain, told.append, quiet)
    assert not [line for line in told if line.startswith("note:")]
    with plain.train[0].open("a", encoding="utf-8") as file:
        file.write("\ncan't\tO\nA:B\tB-LOC\n\n")
    run(plain, told.append, quiet)
    (note,) = [line for line in told if line.startswith("note:")]
    assert "note: 2 of " in note
    assert "A:B → A : B, can't → ca n't" in note


def test_raw_text_is_cut_as_the_first_training_file_is(tmp_path: Path) -> None:
    told: list[str] = []
    plain = options(tmp_path, "ner")
    first, other = tmp_path / "first.conll", tmp_path / "other.conll"
    first.write_text("an\tO\nall-rounder\tO\nfrom\tO\nAl-Aqsa\tB-LOC\n\n" * 9, "utf-8")
    other.write_text("the\tO\nAl\tB-LOC\n-\tI-LOC\nAqsa\tI-LOC\n\n" * 3, "utf-8")
    made, _ = run(plain.but(train=(first, other), dev=(first,)), told.append, quiet)
    assert made is not None
    tokenizer = Tokenizer.load(made.file("tokenizer.json"), made.manifest.features)
    assert made.manifest.style == tokenizer.style != "web"
    assert [token for token, _ in tokenizer.split("the Al-Aqsa")] == ["the", "Al-Aqsa"]
    assert any("which returns 100.0% of the training corpus's sentences" in line for line in told)
    assert any("3 of 3 sentences are cut anew" in line for line in told)
    made, _ = run(plain.but(train=(first,), dev=(first,), tokenizer="web"), told.append, quiet)
    assert made is not None
    assert made.manifest.style == "web"
    assert "cut in the style `web`" in made.file("README.md").read_text("utf-8")


def test_a_bad_name_is_refused_before_any_file_is_read(tmp_path: Path) -> None:
    bad = options(tmp_path, out=tmp_path / "models" / "my model", train=(tmp_path / "none.tsv",))
    with pytest.raises(BundleError, match="'my model' is no model name"):
        run(bad, quiet, quiet)


def test_a_folder_that_cannot_be_written_is_told_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file", "utf-8")

    def report(_: Progress) -> None:
        pytest.fail("it began to train")

    with pytest.raises(OSError, match="models"):
        run(options(tmp_path), quiet, report)


@pytest.mark.parametrize("part", ["dev", "test"])
def test_labels_that_train_lacks_are_refused(tmp_path: Path, part: str) -> None:
    path = tmp_path / "strange.tsv"
    path.write_text("text\tlabel\na film\tneutral\n", "utf-8")
    given = options(tmp_path)
    given = given.but(dev=(path,)) if part == "dev" else given.but(test=(path,))
    with pytest.raises(CorpusError, match=r"strange\.tsv:2: the label 'neutral'"):
        run(given, quiet, quiet)
    assert not (tmp_path / "models").exists()


def test_a_label_set_of_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.tsv"
    path.write_text("text\tlabel\na film\tgood\nit\tgood\n", "utf-8")
    with pytest.raises(CorpusError, match=r"one\.tsv: its only label is 'good'"):
        run(options(tmp_path, train=(path,)), quiet, quiet)


def test_graphs_that_do_not_agree_with_torch_leave_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "LOGITS_TOLERANCE", 1e-12)
    with pytest.raises(BundleError, match="do not agree"):
        run(options(tmp_path), quiet, quiet)
    assert not (tmp_path / "models").exists()


def test_the_card_names_what_the_training_was(tmp_path: Path) -> None:
    bundle = made(options(tmp_path, command="python -m training fit --seed 1"))
    card = bundle.file(CARD).read_text("utf-8")
    assert "```sh\npython -m training fit --seed 1\n```" in card
    assert "- mine train: 48 examples" in card
    assert "CC0-1.0" in card
    assert str(tmp_path) not in card


def test_a_finished_training_leaves_no_checkpoint_and_an_interrupted_one_can_be_resumed(tmp_path: Path) -> None:
    plain = options(tmp_path, checkpoint_every=3, log=tmp_path / "log.jsonl")
    undisturbed = made(plain)
    assert not (tmp_path / "models" / "tiny" / FILE).exists()
    steps = [record["step"] for record in read_log(tmp_path / "log.jsonl")]

    class Killed(Exception):
        pass

    def report(progress: Progress) -> None:
        if (progress.epoch, progress.batch) == (2, 4):
            raise Killed

    with pytest.raises(Killed):
        run(plain, quiet, report)
    told: list[str] = []
    resumed, _ = run(plain.but(resume=True), told.append, quiet)
    assert resumed is not None
    assert any(line.startswith("resuming after step") for line in told)
    assert resumed.file(WEIGHTS).read_bytes() == undisturbed.file(WEIGHTS).read_bytes()
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == steps
    run(plain.but(resume=True), told.append, quiet)
    assert told[-2] != told[-1]
    assert "resuming from the beginning: there is no checkpoint" in told


def test_resuming_another_training_is_refused(tmp_path: Path) -> None:
    def report(progress: Progress) -> None:
        if progress.batch == 2:
            raise KeyboardInterrupt

    plain = options(tmp_path, checkpoint_every=1)
    with pytest.raises(TrainingError, match="before the first epoch"):
        run(plain, quiet, report)
    told: list[str] = []
    for other in (
        plain.but(hidden=7),
        plain.but(dropout=0.2),
        plain.but(seed=2),
    ):
        with pytest.raises(CheckpointError, match="is of another training"):
            run(other.but(resume=True), quiet, quiet)
    with pytest.raises(TrainingError, match="nothing to resume without checkpoints"):
        run(plain.but(checkpoint_every=0, resume=True), quiet, quiet)
    run(plain, told.append, quiet)
    assert any("the checkpoint of another training is replaced" in line for line in told)


def test_settings_that_are_left_out_suit_the_data_and_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    by_data: dict[str, Any] = dict.fromkeys(["patience", "batch_rows", "learning_rate", "dropout", "word_dropout"])
    left = options(tmp_path, epochs=1, **by_data)
    run(left, told.append, quiet)
    line = "at most 1 epochs, patience 3, 8 rows a batch, learning rate 0.005, dropout 0.5, word dropout 0.2"
    assert line in told
    assert [left.suited(count).dropout for count in (48, 4_999, 5_000)] == [0.5, 0.5, 0.3]
    assert [left.suited(count).word_dropout for count in (48, 5_000)] == [0.2, 0.02]
    assert left.but(dropout=0.0, word_dropout=0.0).suited(48).dropouts.layers == 0.0


@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_a_model_that_is_no_better_than_guessing_says_so(tmp_path: Path, task: Task) -> None:
    told: list[str] = []
    nothing = options(tmp_path, task, epochs=1, learning_rate=1e-9)
    if task == "sentiment":
        nothing.dev[0].write_text("text\tlabel\n" + "a\tpositive\n" * 3 + "b\tnegative\n" * 3, "utf-8")
    bundle, outcome = run(nothing, told.append, quiet)
    assert bundle is not None
    metric, guessed = ("accuracy", 0.5) if task == "sentiment" else ("f1", 0.0)
    assert [(each.metric, each.value) for each in bundle.manifest.guess] == [(metric, guessed)]
    assert outcome.best is not None
    assert outcome.best <= guessed, "untrained, it answers all alike"
    (warning,) = [line for line in told if line.startswith("WARNING: ")]
    assert f"On mine dev the model is no better than guessing: {metric} " in warning
    assert "On mine dev the model is no better than guessing" in bundle.file(CARD).read_text("utf-8")
    if task == "sentiment":
        (remark,) = [line for line in told if line.startswith("warning: mine dev: all ")]
        assert re.search(r" all 6 answers are '(nega|posi)tive', which 50.0% of the rows have as their label$", remark)


def test_a_model_that_has_learned_says_nothing_of_guessing(tmp_path: Path) -> None:
    told: list[str] = []
    bundle, _ = run(options(tmp_path, "ner", epochs=8), told.append, quiet)
    assert bundle is not None
    assert "guessing" not in " ".join(told) + bundle.file(CARD).read_text("utf-8")


def test_a_tagger_says_what_raw_text_costs_it(tmp_path: Path) -> None:
    told: list[str] = []
    plain = options(tmp_path, "ner", epochs=8)
    with plain.dev[0].open("a", encoding="utf-8") as file:
        file.write("\n10\tB-LOC\n:\tO\n30\tO\n")
    bundle, _ = run(plain, told.append, quiet)
    assert bundle is not None
    (found,) = bundle.manifest.raw_text
    assert (found.data, found.sentences, found.recut, found.across) == ("mine dev", 9, 1, 1)
    assert found.same_tokens == pytest.approx(8 / 9, abs=1e-4)
    assert any("cuts 1 of 17 entities in mine dev otherwise" in line for line in told)
    card = bundle.file(CARD).read_text("utf-8")
    assert "| mine dev | 9 | 88.9% |" in card
    assert "cuts 1 of 17 entities in mine dev otherwise" in card
    assert made(options(tmp_path)).manifest.raw_text == ()


def test_a_training_goes_on_with_as_many_threads_as_it_began_with(tmp_path: Path) -> None:
    def report(progress: Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    one = options(tmp_path, checkpoint_every=1, threads=1)
    run(one, quiet, report)
    with pytest.raises(CheckpointError, match="threads was 1 and is 2"):
        run(one.but(resume=True, threads=2), quiet, quiet)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("task", "most", "least"),
    [("ner", 422, 0.92), ("ner", 130, 0.9), ("sentiment", 424, 0.93), ("sentiment", 130, 0.88)],
)
def test_the_defaults_learn_the_examples(tmp_path: Path, task: Task, most: int, least: float) -> None:
    """All of them, and a first part of them, with the settings of `fit` when nothing is given."""
    folder, ending = EXAMPLES / task, "conll" if task == "ner" else "tsv"
    text, parted = (folder / f"train.{ending}").read_text("utf-8"), "\n\n" if task == "ner" else "\n"
    part = tmp_path / f"train.{ending}"
    part.write_text(parted.join(text.split(parted)[: most + (task == "sentiment")]) + "\n", "utf-8")
    dev, out = folder / f"dev.{ending}", tmp_path / "models" / "tiny"
    left = FitOptions(task=task, bidirectional=True, train=(part,), dev=(dev,), out=out, device="cpu")
    _, outcome = run(left, quiet, quiet)
    assert outcome.best is not None
    assert outcome.best >= least


def test_a_student_learns_from_labels_and_from_a_teachers_logits(tmp_path: Path) -> None:
    soft = tmp_path / "mine" / "transfer.jsonl.gz"
    given = options(tmp_path, epochs=1)
    rows = [
        {"text": "a zither of [MASK] joy", "logits": {"negative": -2.0, "neutral": 0.0, "positive": 2.0}},
        {"text": "so drab", "logits": {"negative": 1.0, "neutral": 0.0, "positive": -1.0}, "label": "negative"},
    ]
    blank = [{"text": text, "logits": rows[0]["logits"]} for text in ("", " \u2028", "\u200b")]
    written = [*rows, blank[0], *rows, *blank[1:], *rows]
    soft.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in written).encode()))
    lines: list[str] = []
    material = gather(given.but(soft=(soft,)), lines.append)
    alone = gather(given, quiet)
    taught = material.samples[len(alone.samples) :]
    assert [sample.soft.tolist() if sample.soft is not None else None for sample in taught[:2]] == [[-2, 2], [1, -1]]
    assert [sample.targets.tolist() for sample in taught[:2]] == [[1], [0]]
    assert all(sample.soft is None for sample in alone.samples)
    assert taught[0].rows[:, 0].tolist()[3] == 0, "a hidden word is the unknown one"
    assert taught[0].rows[:, 0].tolist()[1] > 0, "its words are in the vocabulary"
    assert "6 texts with a teacher's logits; 3 of them have a label" in lines
    assert len(taught) == 6
    assert f"note: {soft}: 3 of 9 rows (lines 3, 6, 7) are set aside: their text holds no token" in lines
    bundle = made(given.but(soft=(soft,)))
    assert "mine transfer: 6 examples" in bundle.manifest.origin.data


def test_a_teacher_is_for_texts_alone(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="--soft: a teacher's logits are for --task sentiment"):
        options(tmp_path, "ner", soft=(tmp_path / "transfer.jsonl.gz",))
