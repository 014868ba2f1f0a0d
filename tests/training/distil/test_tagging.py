"""Taggers that label text together, against their probabilities written out."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.bundle import Bundle, Feature
from service.model.decoding import legal
from service.model.engine import Engine
from service.model.tokenizer import UNKNOWN, build
from tests.bundles import tiny_bundle
from training.data.corpora import CorpusError, read
from training.distil import tagging
from training.distil.output import Output
from training.distil.tagging import Committee, Labelled, Member, Rule, Tokens
from training.errors import TrainingError

SENTENCES = [("Ada", "lived", "here"), ("London",), ("the", "film", "is", "fine"), ("in", "London", "Ada", "Lovelace")]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("models")
    return [tiny_bundle(folder / f"m{seed}", task="ner", crf=True, seed=seed) for seed in (1, 2)]


def by_hand(bundle: Bundle, tokens: Tokens) -> NDArray[np.float64]:
    """Each label's probability at each token [time, labels], from all sequences of labels one by one."""
    crf, labels = bundle.manifest.crf, bundle.manifest.labels
    assert crf is not None
    emitted = Engine(bundle).predict([Member(bundle).tokenizer.rows(tokens)])[0].astype(float)
    moves, begins = legal(labels)
    scores = {}
    for path in itertools.product(range(len(labels)), repeat=len(tokens)):
        score = begins[path[0]] + crf.start[path[0]] + sum(emitted[t, label] for t, label in enumerate(path))
        score += sum(moves[a, b] + crf.transitions[a][b] for a, b in itertools.pairwise(path))
        scores[path] = math.exp(score)
    total, found = math.fsum(scores.values()), np.zeros((len(tokens), len(labels)))
    for path, score in scores.items():
        found[np.arange(len(tokens)), path] += score / total
    return found


def test_a_members_probabilities_are_those_of_all_sequences(bundles: list[Bundle]) -> None:
    found = Member(bundles[0]).marginals(SENTENCES)
    for row, tokens in enumerate(SENTENCES):
        assert found[row, : len(tokens)] == pytest.approx(by_hand(bundles[0], tokens), abs=1e-5)


def test_the_mean_of_the_members_decides(bundles: list[Bundle]) -> None:
    committee = Committee(bundles)
    moves, begins = legal(committee.labels)
    alone = [[each.tags for each in Committee([bundle]).label(SENTENCES)] for bundle in bundles]
    assert alone[0] != alone[1], "the two would agree anyway"
    for tokens, found in zip(SENTENCES, committee.label(SENTENCES), strict=True):
        mean = np.mean([by_hand(each, tokens) for each in bundles], axis=0)
        scores = {}
        for path in itertools.product(range(len(committee.labels)), repeat=len(tokens)):
            score = begins[path[0]] + sum(moves[a, b] for a, b in itertools.pairwise(path))
            scores[path] = score + sum(math.log(mean[t, label] or 1e-30) for t, label in enumerate(path))
        best = max(scores, key=lambda path: scores[path])
        assert found.tags == tuple(committee.labels[label] for label in best)
        assert found.confidence == pytest.approx(min(mean[t, label] for t, label in enumerate(best)), abs=1e-5)


def test_members_have_the_same_labels_and_a_crf(bundles: list[Bundle], tmp_path: Path) -> None:
    for options, said in (
        ({"task": "ner"}, "other version 1 is no tagger with a CRF"),
        ({"task": "sentiment"}, "other version 2 is no tagger with a CRF"),
        ({"task": "ner", "crf": True, "labels": ("O", "B-ORG", "I-ORG")}, "has the labels O, B-ORG, I-ORG, m1 version"),
    ):
        with pytest.raises(TrainingError) as raised:
            Committee([*bundles, tiny_bundle(tmp_path / "other", **options)])
        assert said in str(raised.value)


def test_texts_are_cut_into_sentences_each_once_without_those_that_are_held_out() -> None:
    tokenizer = build([UNKNOWN], [Feature(name="word", size=1)])
    long = " ".join(["word"] * (tagging.LONGEST + 1))
    texts = ["Ada was here. Held out, again! Hm.", "ADA WAS HERE", "Ada was here too.", "", "!!! ... ???", long]
    told: list[str] = []
    found, aside = tagging.cut(texts, tokenizer, frozenset({"heldoutagain"}), told.append)
    assert found == [("Ada", "was", "here", "."), ("Ada", "was", "here", "too", ".")]
    assert aside == 1
    assert told == [
        "note: 4 sentences are set aside: 2 have fewer than 3 or more than 200 tokens, 1 repeat an earlier one, "
        "1 hold no letter from a to z and no digit"
    ]


INPUTS: list[Tokens] = [(f"Name{number}", "spoke", "twice") for number in range(23)]


def answers(inputs: Sequence[Tokens]) -> list[Labelled]:
    """Every third sentence has no name, every fifth is not sure."""
    found = []
    for tokens in inputs:
        number = int(tokens[0][4:])
        name = "O" if number % 3 == 0 else "B-PER"
        found.append(Labelled((name, "O", "O"), 0.5 if number % 5 == 0 else 0.9))
    return found


def quiet(*_: int) -> None:
    """Reported to."""


def records(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]


def test_what_is_sure_is_kept_and_a_share_of_the_sentences_without_a_name(tmp_path: Path) -> None:
    out = Output(tmp_path / "x.jsonl.gz", {})
    tagging.write(answers, INPUTS, out, Rule(confidence=0.6, without=0.0, lower=1.0), quiet)
    sure = [row for row in range(23) if row % 5 and row % 3]
    assert [each["row"] for each in records(out.file)] == [row for row in sure for _ in range(2)]
    assert [each.value[0] for each in read(out.file, "ner")][:2] == ["Name1", "name1"]
    assert {each.label for each in read(out.file, "ner")} == {("B-PER", "O", "O")}
    shares = {}
    for without in (0.5, 1.0):
        out = Output(tmp_path / f"{without}.jsonl.gz", {})
        many: list[Tokens] = [("Name0", "spoke", f"{number}") for number in range(400)]
        tagging.write(answers, many, out, Rule(confidence=0.0, without=without), quiet)
        shares[without] = len(records(out.file)) / 400
    assert shares[1.0] == 1.0
    assert 0.4 < shares[0.5] < 0.6


def test_a_run_that_was_killed_anywhere_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "_AT_ONCE", 4)
    rule, whole = Rule(without=0.5, lower=0.5), Output(tmp_path / "whole.jsonl.gz", {"a": 1})
    kept = tagging.write(answers, INPUTS, whole, rule, quiet)
    content, expected = whole.file.read_bytes(), records(whole.file)
    assert kept == len({each["row"] for each in expected}) < len(expected), "some have a copy in lower case"
    asked: list[int] = []

    def counted(inputs: Sequence[Tokens]) -> list[Labelled]:
        asked.append(len(inputs))
        return answers(inputs)

    for end in range(0, len(content) + 1, 7):
        cut = Output(tmp_path / "cut.jsonl.gz", {"a": 1})
        cut.file.write_bytes(content[:end])
        cut.beside.write_text('{"a": 1}')
        assert tagging.write(counted, INPUTS, cut, rule, quiet) == kept
        assert records(cut.file) == expected, end
    assert min(asked) > 0
    asked.clear()
    tagging.write(counted, INPUTS, whole, rule, quiet)
    assert sum(asked) <= 4, "what is done is not labelled again, but for the last part"


@pytest.mark.parametrize(
    ("content", "beside", "said"),
    [
        (b"no gzip", "{}", "it is damaged"),
        (gzip.compress(b'{"text": "a"}\n'), "{}", "its lines are not those of a labelled text"),
        (gzip.compress(b'{"row": 1, "tokens": ["other"]}\n'), "{}", "it was begun with other texts"),
        (gzip.compress(b'{"row": 99, "tokens": ["Name1", "spoke", "twice"]}\n'), "{}", "it was begun with other texts"),
        (gzip.compress(b"\xff\n"), "{}", "it is damaged"),
        (gzip.compress(b""), None, "does not say how it was begun"),
        (gzip.compress(b""), "[1]", "does not say how it was begun"),
        (gzip.compress(b""), '{"models": ["a", "b"]}', "models was a, b and is not given"),
    ],
)
def test_a_file_that_is_not_ones_own_is_left_alone(
    tmp_path: Path, content: bytes, beside: str | None, said: str
) -> None:
    out = Output(tmp_path / "x.jsonl.gz", {})
    out.file.write_bytes(content)
    if beside is not None:
        out.beside.write_text(beside)
    with pytest.raises(CorpusError, match=r"x\.jsonl\.gz") as raised:
        tagging.write(answers, INPUTS, out, Rule(), quiet)
    assert said in str(raised.value)
    assert out.file.read_bytes() == content
