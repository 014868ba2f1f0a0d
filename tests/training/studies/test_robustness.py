"""Changed data: what is right stays right, and each change does what its name says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.model.bundle import Task
from tests import corpora
from tests.bundles import tiny_bundle
from training.cli import app
from training.data.corpora import Example, read
from training.scoring.metrics import spans
from training.studies.robustness import CHANGES, EMOJI, LONG, variants

TEXT = Example("A wonderful, moving Film!?", "positive")
SENTENCE = Example(("Ada", "Lovelace", "visited", "London", "."), ("B-PER", "I-PER", "O", "B-LOC", "O"))


def changed(name: str, example: Example) -> Example:
    """What a change makes of an example."""
    (found,) = [each for each in variants([example], task_of(example), ("negative", "positive")) if each.name == name]
    (made,) = found.examples
    return made


def task_of(example: Example) -> Task:
    return "sentiment" if isinstance(example.value, str) else "ner"


@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("lower case", "a wonderful, moving film!?", ("ada", "lovelace", "visited", "london", ".")),
        ("upper case", "A WONDERFUL, MOVING FILM!?", ("ADA", "LOVELACE", "VISITED", "LONDON", ".")),
        ("no final punctuation", "A wonderful, moving Film", ("Ada", "Lovelace", "visited", "London")),
        ("an emoji behind it", f"{TEXT.value} {EMOJI}", (*SENTENCE.value, EMOJI)),
    ],
)
def test_what_a_change_makes(name: str, text: str, tokens: tuple[str, ...]) -> None:
    assert changed(name, TEXT) == Example(text, "positive")
    found = changed(name, SENTENCE)
    assert found.value == tokens
    assert spans(found.label) == spans(SENTENCE.label)
    assert len(found.label) == len(tokens)


def test_typing_mistakes_are_few_turn_neighbours_and_repeat() -> None:
    text = Example(" ".join(["wonderful"] * 1000 + ["was"] * 100), "positive")
    found = changed("typos", text)
    assert found == changed("typos", text)
    words = str(found.value).split()
    wrong = [word for word in words if word not in ("wonderful", "was")]
    assert 60 < len(wrong) < 140
    assert all(sorted(word) == sorted("wonderful") and word[0] == "w" and word[-1] == "l" for word in wrong)


def test_long_inputs_are_long_and_their_labels_go_with_them() -> None:
    assert len(str(changed("repeated to 500 words", TEXT).value).split()) >= LONG
    found = changed("repeated to 500 words", SENTENCE)
    assert len(found.value) == len(found.label) == LONG
    assert len(spans(found.label)) == 2 * LONG // len(SENTENCE.value)


def test_names_alone_and_words_alone() -> None:
    names = {each.name: each.examples for each in variants([SENTENCE], "ner", ("O",))}["a name alone"]
    assert [(each.value, each.label) for each in names] == [
        (("Ada", "Lovelace"), ("B-PER", "I-PER")),
        (("London",), ("B-LOC",)),
    ]
    made = {each.name: each.examples for each in variants([TEXT], "sentiment", ("negative", "positive"))}
    assert Example("It is not good.", "negative") in made["praise, negated"]
    assert Example("not boring", "positive") in made["blame, negated"]
    other = {each.name for each in variants([TEXT], "sentiment", ("1", "2"))}
    assert other == {"as it is", *CHANGES}


@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_the_command_scores_every_change(tmp_path: Path, task: Task) -> None:
    bundle = tiny_bundle(tmp_path / "m", task=task)
    name = {"sentiment": "dev.tsv", "ner": "dev.conll"}[task]
    data = getattr(corpora, task)(tmp_path / "set" / name)
    arguments = ["robustness", str(bundle.path.parent), "--data", str(data), "--most", "3"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"as it is", *CHANGES} <= {line["change"] for line in found}
    assert found[0]["inputs"] == len(read(data, task)[:3])
    assert all(0 <= line["accuracy" if task == "sentiment" else "f1"] <= 1 for line in found)
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"}).stdout
    assert all(line["change"] in shown for line in found)
