"""Mixtures, transfer sets and teachers. A teacher is made here of a few random weights."""

from __future__ import annotations

import gzip
import importlib.util
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.bundle import Feature
from service.model.tokenizer import UNKNOWN, build
from training.data.corpora import CorpusError
from training.distil import mixture, transfer
from training.distil.mixture import Drawn
from training.distil.output import Output

without_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="the extra distil is not installed"
)


def _table(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    return path


@pytest.fixture
def described(tmp_path: Path) -> Path:
    _table(tmp_path / "two.tsv", [("good film", "positive"), ("bad film", "negative"), ("A dev row .", "positive")])
    three = [("so so", "neutral"), ("nice", "positive"), ("awful", "negative"), ("poor", "negative")]
    _table(tmp_path / "three.tsv", three)
    _table(tmp_path / "dev.tsv", [("a dev row", "positive")])
    path = tmp_path / "mixture.toml"
    path.write_text(
        f"""
held_out = ["{tmp_path}/dev.tsv"]
[[source]]
file = "{tmp_path}/two.tsv"
rows = 5
[[source]]
file = "{tmp_path}/three.tsv"
rows = 6
balanced = true
""",
        encoding="utf-8",
    )
    return path


def test_a_pass_takes_the_rows_that_the_mixture_names_and_no_held_out_one(described: Path) -> None:
    drawn, aside = mixture.draw(mixture.load(described), seed=1)
    assert aside == 1
    assert len(drawn) == 11
    assert "A dev row ." not in {row.text for row in drawn}
    assert Counter(row.label for row in drawn if row.neutral) == {0: 2, 1: 2, 2: 2}
    assert {row.label for row in drawn if not row.neutral} == {0, 2}


def test_one_seed_draws_one_pass(described: Path) -> None:
    loaded = mixture.load(described)
    assert mixture.draw(loaded, 1) == mixture.draw(loaded, 1)
    assert mixture.draw(loaded, 1) != mixture.draw(loaded, 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("source = 3", "mixture"),
        ("", "source"),
        ("[[source]]\nrows = 3", "file"),
        ('[[source]]\nfile = "x"\nrows = 0', "greater than or equal to 1"),
        ('[[source]]\nfile = "x"\nrows = 1\nshare = 2', "share"),
        ('colour = 1\n[[source]]\nfile = "x"\nrows = 1', "colour"),
    ],
)
def test_a_file_that_is_no_mixture_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "mixture.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match="mixture") as raised:
        mixture.load(path)
    assert said in str(raised.value)


def test_a_label_that_teachers_do_not_know_is_named(tmp_path: Path) -> None:
    table = _table(tmp_path / "stars.tsv", [("good", "5"), ("bad", "1")])
    with pytest.raises(CorpusError, match="is none of negative, neutral, positive"):
        mixture.draw(mixture.Mixture(source=(mixture.Source(file=table, rows=2),)), 1)


def test_tokenised_text_is_joined_as_people_write() -> None:
    assert (
        mixture.joined("I do n't like it , it 's `` odd '' ( really ) .") == "I don't like it, it's \"odd\" (really)."
    )


def test_all_rows_of_a_source_are_joined_where_it_says_so(tmp_path: Path) -> None:
    table = _table(tmp_path / "t.tsv", [("It 's odd , really .", "positive"), ("I do n't like it .", "negative")])
    forms = {"It's odd, really.", "I don't like it."}
    for options, wanted in (({"joined": True}, forms), ({}, {"It 's odd , really .", "I do n't like it ."})):
        drawn, _ = mixture.draw(mixture.Mixture(source=(mixture.Source(file=table, rows=2, **options),)), 1)
        assert {row.text for row in drawn} == wanted
    some, _ = mixture.draw(mixture.Mixture(source=(mixture.Source(file=table, rows=200, tokenised=True),)), 1)
    assert 0.3 < sum(row.text in forms for row in some) / 200 < 0.7


@pytest.mark.parametrize("ending", ["conll", "iob2", "bio", "conll.gz"])
def test_tagged_sentences_are_held_out_too(tmp_path: Path, ending: str) -> None:
    table = _table(tmp_path / "t.tsv", [("It's odd!", "positive"), ("I like it.", "negative")])
    dev, content = tmp_path / f"dev.{ending}", b"It\tO\n's\tO\nodd\tO\n.\tO\n"
    dev.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    drawn, aside = mixture.draw(mixture.Mixture(source=(mixture.Source(file=table, rows=1),), held_out=(dev,)), 1)
    assert ([row.text for row in drawn], aside) == (["I like it."], 1)


def test_a_varied_text_hides_words_or_keeps_a_run() -> None:
    generator = random.Random(1)
    words = ["one", "two", "three", "four", "five", "six"]
    forms = [mixture.varied(" ".join(words), generator).split() for _ in range(400)]
    assert all(set(form) <= {*words, mixture.HIDDEN} for form in forms)
    hidden = sum(form.count(mixture.HIDDEN) for form in forms) / sum(map(len, forms))
    assert 0.07 < hidden < 0.13
    assert 0.15 < sum(len(form) < len(words) for form in forms) / len(forms) < 0.35


def _logits(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.array([[-len(text), 0, len(text)] for text in texts], np.float32)


def _rows(*texts: str, label: int | None = None) -> list[Drawn]:
    return [Drawn(text, label, False, 96) for text in texts]


def test_a_transfer_set_that_was_cut_off_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_AT_ONCE", 2)
    rows, whole, cut = _rows(*"abcdefg"), tmp_path / "whole.jsonl.gz", tmp_path / "cut.jsonl.gz"
    rows[0] = Drawn("a", 2, False, 96)
    transfer.write(_logits, rows, Output(whole, {}), lambda *_: None)
    content = whole.read_bytes()
    asked: list[str] = []

    def counting(part: Sequence[str]) -> NDArray[np.float32]:
        asked.extend(part)
        return _logits(part)

    Output(cut, {}).beside.write_text("{}")
    for end in (len(content) * 2 // 3, 5, 40):
        asked.clear()
        cut.write_bytes(content[:end])
        transfer.write(counting, rows, Output(cut, {}), lambda *_: None)
        assert 0 < len(asked) < len(rows) or end < 50
        assert gzip.decompress(cut.read_bytes()) == gzip.decompress(content)
    answered = transfer.load(cut, ["negative", "positive"])
    assert answered == transfer.load(whole, ["negative", "positive"])
    assert [each.text for each in answered] == list("abcdefg")
    assert answered[0] == transfer.Answered("a", (-1.0, 1.0), "positive")
    assert answered[1].label is None


def test_a_transfer_set_of_other_texts_is_not_continued(tmp_path: Path) -> None:
    out = Output(tmp_path / "x.jsonl.gz", {})
    transfer.write(_logits, _rows(*"abc"), out, lambda *_: None)
    with pytest.raises(CorpusError, match="begun with other texts"):
        transfer.write(_logits, _rows(*"abd"), out, lambda *_: None)
    transfer.write(_logits, _rows(*"ab"), out, lambda *_: None)
    assert [each.text for each in transfer.load(out.file, ["negative", "positive"])] == list("abc"), "the file has more"


def test_each_text_is_answered_once_and_its_label_is_kept() -> None:
    rows = [*_rows("One.", "Two!", "..."), *_rows("one", "three", label=0)]
    assert [(row.text, row.label) for row in transfer.distinct(rows)] == [("one", 0), ("Two!", None), ("three", 0)]


def test_sentences_and_forms_have_no_label_and_none_is_held_out(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt.gz"
    with gzip.open(plain, "wt", encoding="utf-8") as file:
        file.write('It is fine. "Held out." Mr. Smith says so!\n\n')
    table = _table(tmp_path / "table.tsv", [("Good one", "positive"), ("Bad it is. Very bad.", "negative")])
    dev = _table(tmp_path / "dev.tsv", [("held out", "positive")])
    sources = (
        mixture.Source(file=plain, rows=3, sentences=True),
        mixture.Source(file=table, rows=3, sentences=True, varied=2),
    )
    drawn, aside = mixture.draw(mixture.Mixture(source=sources, held_out=(dev,)), 1)
    assert aside == 1
    assert len(drawn) == 3 + 3 * 3
    assert {row.text for row in drawn if row.label is not None} == {"Good one"}
    assert {"It is fine.", "Bad it is.", "Very bad."} <= {row.text for row in drawn}


def test_a_hidden_word_is_the_unknown_one_and_the_teacher_labels_what_has_no_label() -> None:
    tokenizer, labels = build([UNKNOWN, "a", "film"], [Feature(name="word", size=3)]), ["negative", "positive"]
    answered = transfer.Answered("A [MASK] film", (0.5, -0.5))
    example = answered.example(tokenizer, labels)
    assert (example.value, example.label) == (("A", UNKNOWN, "film"), "negative")
    sample = transfer.Taught(example, answered.logits, labelled=False).sample(tokenizer, labels)
    assert sample.rows[:, 0].tolist() == [1, 0, 2]
    assert sample.targets.tolist() == [0]
    assert sample.soft is not None
    assert sample.soft.tolist() == [0.5, -0.5]
    assert transfer.Answered("film", (0.5, -0.5), "positive").example(tokenizer, labels).label == "positive"


@pytest.mark.parametrize("line", ['{"text": "a"}', "[]", '{"text": "a", "logits": {"negative": null, "positive": 1}}'])
def test_a_file_that_is_no_transfer_set_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(f"{line}\n".encode()))
    with pytest.raises(CorpusError, match="no transfer set"):
        transfer.load(path, ["negative", "positive"])


@without_transformers
def test_a_teacher_learns_and_goes_on_after_a_kill_as_if_nothing_had_happened(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    from training.distil import teacher as teachers
    from training.loop.checkpoints import Checkpoints

    base = tmp_path / "base"
    base.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
    torch.manual_seed(1)
    config = BertConfig(vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(base)
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(base)
    rows = [mixture.Drawn("good film", 2, False, 8), mixture.Drawn("bad film", 0, False, 8)] * 200
    tuning = teachers.Tuning(learning_rate=0.02, batch_rows=8)
    seen: list[tuple[int, int]] = []

    def tuned(folder: Path, stop: int | None, resume: bool) -> teachers.Teacher:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(1)
        made = teachers.fresh(base, 0.1)

        def report(step: int, steps: int, loss: float) -> None:
            if step == stop:
                raise KeyboardInterrupt

        try:
            teachers.tune(made, teachers.Reader(base), rows, tuning, Checkpoints(folder, {}, 3), resume, report)
        except KeyboardInterrupt:
            return tuned(folder, None, True)
        return made

    whole, continued = tuned(tmp_path / "whole", None, False), tuned(tmp_path / "killed", 8, False)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, continued.state_dict()[name]), name
    teachers.save(whole, teachers.Reader(base), tmp_path / "teacher")
    loaded, reader = teachers.load(tmp_path / "teacher")
    short = teachers.fresh(base, 0.1)
    teachers.tune(
        short,
        teachers.Reader(base),
        rows,
        teachers.Tuning(batch_rows=8, steps=3),
        Checkpoints(tmp_path, {}, 99),
        False,
        lambda step, steps, _: seen.append((step, steps)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    logits = teachers.answer(loaded, reader, ["good film", "bad", "a bad film"])
    assert (logits[:, 2] > logits[:, 0]).tolist() == [True, False, False]


def test_a_transfer_set_says_what_of_it_is_not_read(tmp_path: Path) -> None:
    path, lines = tmp_path / "x.jsonl.gz", [f'{{"text": "{text}", "logits": {{"a": 1, "b": 2}}}}' for text in "pqr"]
    told: list[str] = []

    def texts(content: bytes) -> list[str]:
        told.clear()
        path.write_bytes(content)
        return [each.text for each in transfer.load(path, ["a", "b"], told.append)]

    one, other = (gzip.compress((line + "\n").encode()) for line in lines[:2])
    assert (texts(one + other), told) == (["p", "q"], [])
    assert (texts(one + gzip.compress(lines[2].encode())), told) == (["p", "r"], []), "a last line without an end"
    assert texts(one + other[:-9]) in (["p"], ["p", "q"])
    (note,) = told
    assert re.fullmatch(rf"note: {path}: it is cut off behind line [12]; `distil label` with .* continues it", note)
    with pytest.raises(CorpusError, match="it holds no text"):
        texts(gzip.compress(b""))
    with pytest.raises(CorpusError, match="it holds no text"):
        texts(one[:20])
    with pytest.raises(CorpusError, match="it is no transfer set"):
        texts(one[:12] + b"\xff" * 9 + one[21:])
    path.write_bytes(gzip.compress(b'{"text": "", "logits": {"a": 1, "b": 2}}\n'))
    with pytest.raises(CorpusError, match="none of its 1 texts holds a token"):
        transfer.taught(path, ["a", "b"], build([UNKNOWN], [Feature(name="word", size=1)]), told.append)


def test_a_mixture_counts_what_it_does_not_take(tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    table.write_text('review,label\ngood,positive\n"",negative\nYes. So so.,neutral\n', "utf-8")
    plain = tmp_path / "plain.txt"
    plain.write_text("one text\n\n\u200b\n", "utf-8")
    dev = _table(tmp_path / "dev.tsv", [("good", "positive")])
    dev.write_text(dev.read_text("utf-8").replace("text", "tweet", 1), "utf-8")
    sources = (mixture.Source(file=table, rows=3, sentences=True), mixture.Source(file=plain, rows=1))
    told: list[str] = []
    drawn, aside = mixture.draw(mixture.Mixture(source=sources, held_out=(dev,)), 1, told.append)
    assert aside == 1
    assert {row.text for row in drawn} == {"Yes.", "So so.", "one text"}
    assert told == [
        f"note: {dev}: the text is read from 'tweet' (--text-column names another)",
        f"note: {table}: the text is read from 'review' (--text-column names another)",
        f"note: {table}: 1 of 3 rows (line 3) are set aside: their text holds no token",
        f"note: {plain}: 1 of 2 rows (line 3) are set aside: their text holds no token",
    ]
    table.write_text("text,label\n?! So so.,neutral\n", "utf-8")
    told.clear()
    mixture.draw(mixture.Mixture(source=sources[:1]), 1, told.append)
    assert told == [f"note: {table}: 1 sentences are set aside: they hold no letter from a to z and no digit"]
