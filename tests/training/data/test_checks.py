"""What is said of data that are well formed and likely wrong, with the rows that it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.model.bundle import Task
from service.model.tokenizer import build
from training.data.checks import Part, counts, notes, with_tokens
from training.data.corpora import CorpusError, Example

MANY = [(f"text {at} {label}", label) for at in range(60) for label in ("bad", "good")]


def part(rows: list[tuple[str, str]], name: str = "train.tsv") -> Part:
    """Texts with labels, from line 2 on."""
    return Part(Path(name), [Example(text, label, (line,)) for line, (text, label) in enumerate(rows, 2)])


def tagged(sentences: list[str], name: str = "train.conll") -> Part:
    """``Ada/B-PER spoke/O``, a line each token and a blank one after each sentence."""
    examples, line = [], 1
    for sentence in sentences:
        pairs = [pair.rsplit("/", 1) for pair in sentence.split()]
        lines = tuple(range(line, line + len(pairs)))
        examples.append(Example(tuple(token for token, _ in pairs), tuple(tag for _, tag in pairs), lines))
        line += len(pairs) + 1
    return Part(Path(name), examples)


NAMES = [f"w{at}/B-PER spoke/O in/O w{at}/B-LOC" for at in range(60)]


def said(train: list[Part], dev: list[Part] | None = None, task: Task = "sentiment") -> list[str]:
    return list(notes(train, dev or [], task))


def test_good_data_have_no_notes() -> None:
    dev = [(text + " again", label) for text, label in MANY]
    assert said([part(MANY)], [part(dev, "dev.tsv")]) == []
    more = [f"x{at}/B-PER sang/O in/O x{at}/B-LOC" for at in range(60)]
    assert said([tagged(NAMES)], [tagged(more, "dev.conll")], "ner") == []


def test_dev_rows_that_are_in_train() -> None:
    dev = part([*MANY[:7], *((f"new {at}", label) for at, (_, label) in enumerate(MANY))], "dev.tsv")
    (note,) = said([part(MANY)], [dev])
    rows = "dev.tsv: 7 of 127 rows (lines 2, 3, 4, 5, 6, …), 5.5%"
    assert note == f"{rows}, are in the training data too: the score flatters the model"
    (note,) = said([tagged(NAMES)], [tagged([NAMES[3], *(f"y/O {name}" for name in NAMES)], "dev.conll")], "ner")
    assert note.startswith("dev.conll: 1 of 61 rows (line 1), 1.6%, are in the training data too")


def test_white_space_makes_no_other_text() -> None:
    dev = part([("  text\t0   bad ", "bad"), *((f"new {at}", label) for at, (_, label) in enumerate(MANY))], "dev.tsv")
    assert "dev.tsv: 1 of 121 rows (line 2)" in said([part(MANY)], [dev])[0]


def test_rows_that_repeat() -> None:
    (note,) = said([part([*MANY, *MANY[:3]])])
    assert note == "train.tsv: 3 of 123 rows (lines 122, 123, 124) repeat the text of an earlier row"
    (note,) = said([part(MANY), part(MANY[:1], "more.tsv")])
    assert note == "more.tsv: 1 of 1 rows (line 2) repeat the text of an earlier row"


def test_one_text_with_several_labels() -> None:
    repeated, torn = said([part([*MANY, (MANY[0][0], "good")])])
    assert repeated.startswith("train.tsv: 1 of 121 rows (line 122) repeat")
    assert torn.startswith("train.tsv: 2 of 121 rows (lines 2, 122) have a text that has another label elsewhere")
    _, torn = said([tagged([*NAMES, "w0/O spoke/O in/O w0/B-LOC"])], task="ner")
    assert torn.startswith("train.conll: 2 of 61 rows (lines 1, 301)")


def test_a_class_with_few_rows() -> None:
    (note,) = said([part([*MANY, ("a", "so"), ("b", "so"), ("c", "so")])])
    assert note == "the label 'so' has 3 training rows (train.tsv lines 122, 123, 124): too few to learn it"
    (note,) = said([tagged([*NAMES, "Acme/B-ORG Ltd/I-ORG"])], task="ner")
    assert note == "the label 'ORG' has 1 training entity (train.conll line 301): too few to learn it"


def test_the_list_of_small_classes_is_bounded() -> None:
    rows = [*MANY, *((f"odd {at}", f"rare{chr(97 + at)}") for at in range(8))]
    found = said([part(rows)])
    assert len(found) == 6
    assert found[-1] == "3 more labels have fewer than 10 training rows"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("5", "Five"), ("5", "five"), ("1", "1.0"), ("1", "01"), ("5", "５")),
        *(("positive", "Positive"), ("very good", "very_good"), ("very good", "verygood"), ("neg", "neg.")),
    ],
)
def test_labels_that_differ_in_spelling_alone(one: str, other: str) -> None:
    rows = [(f"text {at}", one) for at in range(40)] + [(f"word {at}", other) for at in range(20)]
    rows += [(f"else {at}", "quite other") for at in range(40)]
    found = [note for note in said([part(rows)]) if "differ in their spelling alone" in note]
    assert len(found) == 1
    for label, listed in (
        (one, f"{one!r} (40 training rows, train.tsv lines 2, 3, …)"),
        (other, f"{other!r} (20 training rows, "),
    ):
        assert listed in found[0], label


def test_a_word_among_numbers() -> None:
    rows = [(f"text {at}", str(at % 5)) for at in range(100)] + [(f"word {at}", "n/a") for at in range(20)]
    missing, note = said([part(rows)])
    assert missing.startswith("the label 'n/a' seems to stand for a missing one (train.tsv lines 102, 103")
    assert note == "the labels are numbers, but for 'n/a' (train.tsv lines 102, 103, …)"


@pytest.mark.parametrize("label", ["nan", "NaN", "NULL", "None", "N/A", "NA", "<NA>", "?"])
def test_a_label_that_stands_for_none(label: str) -> None:
    rows = [(f"text {at}", ("good", "bad")[at % 2]) for at in range(40)] + [(f"word {at}", label) for at in range(20)]
    assert said([part(rows)]) == [
        f"the label {label!r} seems to stand for a missing one (train.tsv lines 42, 43, 44, 45, 46, …)"
    ]


@pytest.mark.parametrize("label", ["-", "NONE", "none"])
def test_a_label_that_may_be_a_class(label: str) -> None:
    rows = [(f"text {at}", ("+", label)[at % 2]) for at in range(40)]
    assert not [note for note in said([part(rows)]) if "missing" in note]


def test_a_label_that_nearly_all_rows_have() -> None:
    rows = [(f"text {at}", "good") for at in range(190)] + [(f"word {at}", "bad") for at in range(10)]
    (note,) = said([part(rows)])
    assert note == "95.0% of the training rows have the label 'good': always to answer it scores as much"


def test_a_column_that_holds_no_labels() -> None:
    found = said([part([(f"text {at}", f"id-{at:04}") for at in range(40)])])
    assert found[-1] == "40 different labels in 40 training rows: is their column that of the labels?"


def test_a_small_dev_set() -> None:
    found = said([part(MANY)], [part([("x", "bad"), ("y", "good")], "dev.tsv")])
    assert found == ["dev.tsv: only 2 inputs, so that one changes a share by 50.0%: the score says little"]
    assert "only 1 input," in said([part(MANY)], [part([("x", "bad")], "dev.tsv")])[0]


def test_a_dev_set_without_entities() -> None:
    dev = tagged([f"he/O spoke/O {at}/O" for at in range(60)], "dev.conll")
    (note,) = said([tagged(NAMES)], [dev], "ner")
    assert note == "dev.conll: no entity in 60 sentences: F1 is 0 whatever the model says"


def test_a_dev_set_that_lacks_a_label() -> None:
    dev = part([(f"new {at}", "good") for at in range(60)], "dev.tsv")
    assert said([part(MANY)], [dev]) == ["dev.tsv: no example of 'bad': how well the model knows it is not measured"]


def test_counts_are_of_rows_or_of_entities() -> None:
    assert counts(part(MANY).examples, "sentiment") == {"bad": 60, "good": 60}
    assert counts(tagged(["Ada/B-PER Lovelace/I-PER in/O London/B-LOC Rome/B-LOC"]).examples, "ner") == {
        "LOC": 2,
        "PER": 1,
    }


def test_texts_without_a_token_are_set_aside_and_counted() -> None:
    tokenizer, lines = build(["<unk>"], []), list[str]()
    rows = part([("fine", "good"), ("", "bad"), (" \u2028 ", "bad"), ("\u200b", "good"), ("dull", "bad")])
    kept = with_tokens(rows.path, rows.examples, tokenizer, lines.append)
    assert [each.value for each in kept] == [each.value for each in rows.examples if tokenizer.split(str(each.value))]
    assert {"fine", "dull"} <= {each.value for each in kept} < {each.value for each in rows.examples}
    gone = 5 - len(kept)
    (line,) = lines
    assert line.startswith(f"note: train.tsv: {gone} of 5 rows (lines 3, 4")
    assert line.endswith(" are set aside: their text holds no token")
    with pytest.raises(CorpusError, match=r"^train\.tsv: none of its 2 texts holds a token"):
        with_tokens(rows.path, rows.examples[1:3], tokenizer, lines.append)
