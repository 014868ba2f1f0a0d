"""Labelled data through the commands: columns by option, rows set aside, counts, and warnings of what is odd."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from service.model.bundle import CARD, Bundle, LabelCounts, Task
from service.model.decoding import decoder
from tests import corpora
from tests.bundles import architecture, tiny_bundle, tokenizer
from tests.training.test_run import made, options, quiet, vectors
from training.cli import app
from training.commands import shortcut
from training.data.corpora import CorpusError
from training.material import Data
from training.options import FitOptions
from training.run import run
from training.scoring.evaluate import corpus, measure, of_bundle

ROWS = [("a great film", "positive"), ("", "negative"), ("a dull film", "negative"), (" \u2028", "positive")]
SET_ASIDE = "2 of 4 rows (lines 3, 5) are set aside: their text holds no token"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "sentiment-tiny")


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "ner-tiny", task="ner")


def reviews(folder: Path, text: str = "opus", label: str = "verdict") -> Path:
    """A table with other names, two of whose four texts hold no token."""
    path = folder / "shop" / "dev.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{label},{text}\n" + "".join(f"{label},{text}\n" for text, label in ROWS), "utf-8")
    return path


def sentences(folder: Path) -> Path:
    path = folder / "news" / "dev.conll"
    path.parent.mkdir(exist_ok=True)
    path.write_text("B-LOC ada x O\nO lived y O\n\nO in x O\nB-PER london y O\n", "utf-8")
    return path


def called(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})


NAMED = ("--text-column", "opus", "--label-column", "verdict")
READERS = (
    *("evaluate MODEL --data DATA", "evaluate MODEL --data DATA --json"),
    *("compare MODEL --data DATA", "compare MODEL --data DATA --json"),
    *("predict MODEL --data DATA", "robustness MODEL --data DATA"),
    *("export MODEL --out OUT --dev DATA", "export MODEL --out OUT --test DATA"),
    "retokenize MODEL --tokenizer web --out OUT --test DATA",
    *("gate-statistics MODEL --data DATA", "health MODEL --data DATA"),
    *("units MODEL --data DATA --most 1", "find MODEL --data DATA --text film --tokens 0 --units 1"),
    "faithfulness MODEL --data DATA --methods split,random",
    *("tokens --data DATA", "tokens --data DATA --json"),
    "fit --task sentiment --train DATA --dev DATA --out OUT --epochs 1 --hidden 4",
    "pretrain --texts DATA --out OUT.safetensors --epochs 1 --hidden 4",
)


@pytest.mark.parametrize("line", READERS)
def test_every_command_reads_named_columns_and_counts_what_it_sets_aside(tmp_path: Path, line: str) -> None:
    words = line.replace("DATA", str(reviews(tmp_path))).replace("OUT", str(tmp_path / "again")).split()
    if "MODEL" in words:
        words[words.index("MODEL")] = str(tiny_bundle(tmp_path / "m").path)
    refused = called(*words)
    assert refused.exit_code != 0
    result = called(*words, *NAMED)
    assert result.exit_code == 0, result.output
    assert SET_ASIDE in " ".join(result.stderr.split())


def test_the_list_of_commands_is_whole() -> None:
    """`shortcut` has tests of its own: with few rows it finds nothing."""
    files = {"data", "train", "dev", "test", "texts"}
    reading = {
        name
        for name, command in app.commands.items()
        if name != "data" and files & {each.name for each in command.params if isinstance(each, click.Option)}
    }
    assert reading - {"shortcut"} == {line.split()[0] for line in READERS}


def test_evaluate_counts_what_it_sets_aside(tmp_path: Path, classifier: Bundle) -> None:
    result = called("evaluate", classifier.path, "--data", reviews(tmp_path), *NAMED, "--json")
    line = json.loads(result.stdout)
    assert (line["inputs"], line["set_aside"]) == (2, 2)
    table = called("evaluate", classifier.path, "--data", reviews(tmp_path, "review", "stars"))
    assert "2 inputs, 0 cut, 2 without a token set aside" in " ".join(table.stdout.split())
    assert "the text is read from 'review'" in table.stderr
    predicted = called("predict", classifier.path, "--data", reviews(tmp_path), *NAMED)
    assert [json.loads(row)["text"] for row in predicted.stdout.splitlines()] == ["a great film", "a dull film"]


@pytest.mark.parametrize("line", [*READERS, "shortcut --train DATA --dev DATA"])
def test_data_without_any_token_are_refused_in_words(tmp_path: Path, classifier: Bundle, line: str) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("text\tlabel\n\tpositive\n \tnegative\n", "utf-8")
    words = line.replace("DATA", str(path)).replace("OUT", str(tmp_path / "again"))
    result = called(*words.replace("MODEL", str(classifier.path)).split())
    assert result.exit_code == 1
    assert isinstance(result.exception, CorpusError)
    assert f"{path}: none of its 2 texts holds a token" in str(result.exception)


@pytest.mark.parametrize("command", ["evaluate", "compare", "predict", "robustness"])
def test_columns_of_tagged_data(tmp_path: Path, tagger: Bundle, command: str) -> None:
    data = sentences(tmp_path)
    result = called(command, tagger.path, "--data", data, "--token-column", 2, "--tag-column", -4)
    assert result.exit_code == 0, result.output
    if command == "predict":
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert [(row["text"], row["gold"]) for row in rows] == [
            ("ada lived", ["B-LOC", "O"]),
            ("in london", ["O", "B-PER"]),
        ]
    wrong = called(command, tagger.path, "--data", data, "--token-column", 0)
    assert wrong.exit_code == 2
    assert "counted from 1" in wrong.output


def test_one_answer_to_everything_is_said(tmp_path: Path) -> None:
    data = tmp_path / "set" / "dev.tsv"
    data.parent.mkdir()
    data.write_text("text\tlabel\na\tpositive\nb\tnegative\nc\tnegative\nd\tnegative\n", "utf-8")
    shape = architecture()
    found = corpus(data, "sentiment", shape.labels, tokenizer(shape), 100)

    def remark(*best: int) -> str | None:
        logits = np.eye(2, dtype=np.float32)[list(best)]
        return measure(lambda rows: logits, found, decoder("sentiment", shape.labels)).remark

    assert remark(0, 0, 0, 0) == "set dev: all 4 answers are 'negative', which 75.0% of the rows have as their label"
    assert remark(1, 1, 1, 1) == "set dev: all 4 answers are 'positive', which 25.0% of the rows have as their label"
    assert remark(0, 1, 0, 0) is None


def test_the_remark_is_printed(tmp_path: Path, classifier: Bundle) -> None:
    data = tmp_path / "set" / "dev.tsv"
    data.parent.mkdir()
    data.write_text("text\tlabel\na film\tpositive\na film\tnegative\n", "utf-8")
    report = of_bundle(classifier, data)
    assert report.remark is not None
    assert f"warning: {report.remark}" in called("evaluate", classifier.path, "--data", data).stderr


def test_a_tagger_and_data_without_entities_are_said(tmp_path: Path, tagger: Bundle) -> None:
    data = tmp_path / "set" / "dev.conll"
    data.parent.mkdir()
    data.write_text("a\tO\nfilm\tO\n", "utf-8")
    assert of_bundle(tagger, data).remark == "set dev: no entity in 1 sentences: F1 is 0 whatever the model says"


# fit


@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_labels_are_counted_in_log_manifest_and_card(tmp_path: Path, task: Task) -> None:
    told: list[str] = []
    bundle, _ = run(options(tmp_path, task, epochs=1), told.append, quiet)
    assert bundle is not None
    card = bundle.file(CARD).read_text("utf-8")
    if task == "sentiment":
        train, dev = {"negative": 24, "positive": 24}, {"negative": 8, "positive": 8}
        sizes = (48, 16)
        assert "mine train: 48 rows; labels: negative 24, positive 24" in told
        assert "| rows with the label | mine train | mine dev |\n| --- | ---: | ---: |\n" in card
        assert "| negative | 24 | 8 |\n| positive | 24 | 8 |\n" in card
    else:
        train, dev = {"LOC": 24, "PER": 24}, {"LOC": 8, "PER": 8}
        sizes = (24, 8)
        assert "mine train: 24 sentences; entities: LOC 24, PER 24" in told
        assert "| entities with the label | mine train | mine dev |" in card
        assert "| LOC | 24 | 8 |\n| PER | 24 | 8 |\n" in card
    assert bundle.manifest.origin.counts == (
        LabelCounts(data="mine train", examples=sizes[0], labels=train),
        LabelCounts(data="mine dev", examples=sizes[1], labels=dev),
    )


def test_fit_warns_of_odd_data(tmp_path: Path) -> None:
    told: list[str] = []
    plain = options(tmp_path, epochs=1)
    plain.train[0].write_text(plain.train[0].read_text("utf-8") + "one more\tPositive\n", "utf-8")
    plain.dev[0].write_text("text\tlabel\nthe film is great .\tpositive\nnew\tnegative\n", "utf-8")
    run(plain, told.append, quiet)
    warnings = [line.removeprefix("warning: ") for line in told if line.startswith("warning: ")]
    assert any(line.startswith("the label 'Positive' has 1 training row ") for line in warnings)
    assert any("differ in their spelling alone" in line for line in warnings)
    known = f"{plain.dev[0]}: 1 of 2 rows (line 2), 50.0%, are in the training data too: the score flatters the model"
    assert known in warnings
    assert any("only 2 inputs" in line for line in warnings)


def test_fit_says_how_many_words_have_a_vector(tmp_path: Path) -> None:
    plain = options(tmp_path, epochs=1)

    def said(words: list[str]) -> list[str]:
        told: list[str] = []
        run(plain.but(vectors=vectors(tmp_path / "v.npz", words)), told.append, quiet)
        return [line for line in told if "vector" in line]

    few = said(["the", "film", "zebra"])
    assert few[0].startswith("vectors: 3 of the vocabulary's ")
    assert "of the training data 2 of " in few[0]
    assert few[1].startswith("warning: only ")
    assert "of the training data's words have a vector" in few[1]
    text = plain.train[0].read_text("utf-8").replace("\t", " ").lower().split()
    (enough,) = said(sorted({word.strip(".,") for word in text} - {""}))
    assert enough.startswith("vectors: ")


def test_repeated_vectors_are_told(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    row = " ".join(["0.5"] * 10)
    path.write_text(f"the {row}\nfilm {row}\nthe {row}\n", "utf-8")
    told: list[str] = []
    run(options(tmp_path, vectors=path, epochs=1), told.append, quiet)
    assert "note: 1 words stand in the file of vectors again: the first vector of each is used" in told


def test_a_tab_after_the_word_loads_the_vectors(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    rows = np.random.default_rng(1).normal(size=(3, 8))
    words = ("the", "film", "great")
    lines = [f"{word}\t{' '.join(map(str, row))}\n" for word, row in zip(words, rows, strict=True)]
    path.write_text("".join(lines), "utf-8")
    bundle = made(options(tmp_path, vectors=path, epochs=1))
    assert bundle.manifest.features[0].size > 3


def test_fit_uses_the_layout_for_all_its_files(tmp_path: Path) -> None:
    plain = options(tmp_path, epochs=1)
    for path in (*plain.train, *plain.dev):
        path.write_text(path.read_text("utf-8").replace("text\tlabel", "opus\tverdict", 1), "utf-8")
    again = plain.but(text_column="opus", label_column="verdict", test=plain.dev)
    assert made(again).manifest.labels == ("negative", "positive")


def test_pretrain_sets_aside_too(tmp_path: Path) -> None:
    texts = reviews(tmp_path)
    plain = tmp_path / "plain.txt"
    plain.write_text("a film\n\u2028 \u2028\nthe film is great\n", "utf-8")
    result = called(
        *("pretrain", "--texts", texts, "--texts", plain, *NAMED, "--out", tmp_path / "e.safetensors"),
        *("--epochs", 1, "--hidden", 4),
    )
    assert result.exit_code == 0, result.output
    assert SET_ASIDE in " ".join(result.stderr.split())


def test_pretrain_counts_texts_that_predict_nothing(tmp_path: Path) -> None:
    texts = tmp_path / "plain.txt"
    texts.write_text("a film\nfine\nso so\n", "utf-8")
    line = ("pretrain", "--texts", texts, "--out", tmp_path / "e.safetensors", "--epochs", 1, "--hidden", 4)
    result = called(*line)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "--texts: 1 of 3 texts are set aside: they have one token" in said
    assert "2 texts, 4 tokens" in said
    short = tmp_path / "short.txt"
    short.write_text("fine\n", "utf-8")
    assert "--dev: none of the 1 texts has two tokens" in str(called(*line, "--dev", short).exception)


# shortcut


def test_a_shortcut_is_planted_in_whole_texts_and_notes_name_the_users_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("one\ttab", "good"), (" ", "bad"), ("two\nlines\r\nand more", "bad"), ('a "quote"', "good")]
    path = tmp_path / "set" / "train.jsonl"
    path.parent.mkdir()
    path.write_text("\n" + "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), "utf-8")
    dev = tmp_path / "set" / "dev.csv"
    dev.write_text('text,label\n"two\nlines",good\n,bad\n"\u200b",bad\nonce more,bad\n', "utf-8")
    seen: list[Data] = []

    def kept(options: FitOptions, tell: object, report: object, data: Data) -> None:
        assert (options.train, options.dev) == ((path,), (dev,))
        seen.append(data)
        raise CorpusError(path, "enough")

    monkeypatch.setattr(shortcut, "run", kept)
    result = called("shortcut", "--train", path, "--dev", dev, "--share", "0.01")
    assert str(result.exception) == f"{path}: enough"
    told = " ".join(result.stderr.split())
    assert f"{path}: 1 of 4 rows (line 3) are set aside: their text holds no token" in told
    assert f"{dev}: 2 of 4 rows (lines 4, 5) are set aside: their text holds no token" in told
    ((train,), (planted,)) = seen[0].train, seen[0].dev
    assert [(each.value, each.label, each.lines) for each in train.examples] == [
        ("one\ttab", "good", (2,)),
        ("two\nlines\r\nand more", "bad", (4,)),
        ('a "quote"', "good", (5,)),
    ]
    assert [(len(str(each.value).split()), each.lines) for each in planted.examples] == [(3, (2,)), (3, (6,))]


def test_a_shortcuts_log_names_the_users_files(tmp_path: Path) -> None:
    rows = corpora.sentiment(tmp_path / "mine" / "train.tsv")
    rows.write_text(rows.read_text("utf-8") + "once more\tpositive\nonce more\tpositive\n", "utf-8")
    line = ("shortcut", "--train", rows, "--dev", rows, "--hidden", 4, "--epochs", 1, "--share", 0.01)
    told = " ".join(called(*line, "--methods", "split").stderr.split())
    assert f"warning: {rows}: 1 of 50 rows (line 51) repeat the text of an earlier row" in told
    assert "mine train: 50 rows" in told
    assert "shortcut-" not in told


# tokens


def test_tokens_reads_both_tasks_and_says_why_it_reads_neither(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.conll"
    wrong.write_text("Ada\tB-PER\nspoke\tsoon\n", "utf-8")
    assert str(called("tokens", "--data", wrong).exception).startswith(f"{wrong}:2: 'soon' is no tag")
    either = tmp_path / "either.tsv"
    either.write_text("Ada\tB-PER\nspoke\tsoon\n", "utf-8")
    said = str(called("tokens", "--data", either).exception)
    assert f"{either}: it can be read neither as tagged sentences ({either}:2: 'soon' is no tag" in said
    assert f"nor as texts with labels ({either}:1: the header has" in said
    named = tmp_path / "named.csv"
    named.write_text("word,kind\nAda,B-PER\nspoke,O\n", "utf-8")
    result = called("tokens", "--data", named, "--token-column", "word", "--tag-column", "kind", "--json")
    assert [json.loads(line)["sentences"] for line in result.stdout.splitlines()] == [1] * 4
    guessed = tmp_path / "guessed.tsv"
    guessed.write_text("review\tstars\nfine , really\t5\n", "utf-8")
    told = called("tokens", "--data", guessed).stderr
    assert "the text is read from 'review'" in told
    assert "tags" not in told, "the notes of the reader that failed are not told"
