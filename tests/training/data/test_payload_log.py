"""The service's payload log as labelled data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.observability import payload_log as written
from training.cli import app
from training.data import corpora, payload_log
from training.data.corpora import CorpusError, read
from training.data.payload_log import files_of

DAY = "2026-01-01T00:00:"


def predicted(
    identity: str, *inputs: Any, task: str = "sentiment", model: str = "m", time: int = 1, **more: Any
) -> Any:
    answer = {"model": model, "version": "1", "task": task, "predictions": []}
    data = {"request": {"inputs": list(inputs)}, "answer": answer, "status": 200, **more}
    return {"type": written.PREDICTION, "id": identity, "time": f"{DAY}{time:02}Z", "data": data}


def said(identity: str, number: int, label: Any, time: int = 30) -> Any:
    right = {"label": label} if isinstance(label, str) else {"entities": label}
    data = {"request_id": identity, "input": number, **right}
    return {"type": written.FEEDBACK, "id": f"f{time}", "time": f"{DAY}{time:02}Z", "data": data}


def log(folder: Path, *events: Any, name: str = "log.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in events), encoding="utf-8")
    return folder / "log.jsonl"


def found(path: Path, **options: Any) -> tuple[list[tuple[Any, Any]], list[str]]:
    result = payload_log.read(path, **options)
    return [(each.value, each.label) for each in result.examples], result.notes


def test_the_types_are_those_that_the_service_writes() -> None:
    assert (payload_log.PREDICTION, payload_log.FEEDBACK) == (written.PREDICTION, written.FEEDBACK)


def test_inputs_with_feedback_become_examples(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        predicted("a", "a good film", ["a", "dull", "film"], "nobody said"),
        predicted("b", "fine"),
        said("a", 0, "positive"),
        said("a", 1, "negative"),
        said("b", 0, "positive"),
    )
    assert found(path) == ([("a good film", "positive"), ("a dull film", "negative"), ("fine", "positive")], [])


def test_an_input_that_a_hook_took_out_costs_no_other(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        predicted("a", "a good film", None, "a dull one"),
        *(said("a", number, label) for number, label in enumerate(("positive", "positive", "negative"))),
    )
    lacking = "feedback whose text was not logged (the service's settings payload_text and payload_redact): 1"
    assert found(path) == ([("a good film", "positive"), ("a dull one", "negative")], [lacking])


def test_files_of_all_workers_and_those_put_aside(tmp_path: Path) -> None:
    log(tmp_path, predicted("a", "one"), name="log.0.jsonl.1")
    log(tmp_path, predicted("b", "two"), name="log.1.jsonl")
    path = log(tmp_path, said("a", 0, "x"), said("b", 0, "y"), name="log.1.feedback.jsonl")
    for other in ("log2.jsonl", "log.jsonl.txt", "my-log.jsonl", "log.0.json"):
        (tmp_path / other).write_text("no log")
    assert found(path) == ([("one", "x"), ("two", "y")], [])
    names = ("log", "log.0", "log.feedback.0", "log.0.1", "log.feedback")
    for name in names:
        (tmp_path / name).write_text("")
    assert sorted(each.name for each in files_of(tmp_path / "log")) == sorted(names)
    for worker in (None, 3):
        own = written.path_of(tmp_path / "log.jsonl", worker)
        for each in (own, written.feedback_path(own)):
            each.touch()
            assert each in files_of(tmp_path / "log.jsonl")


def test_duplicates_and_conflicts_are_named(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        predicted("a", "same text", "contradicted", "repeated"),
        predicted("b", "same text", "two labels"),
        predicted("c", "two labels"),
        *(said("a", 0, "x"), said("b", 0, "x")),
        *(said("a", 1, "x"), said("a", 1, "y")),
        *(said("a", 2, "x"), said("a", 2, "x", 31)),
        *(said("b", 1, "x"), said("c", 0, "y")),
    )
    examples, notes = found(path)
    assert examples == [("same text", "x"), ("repeated", "x")]
    assert notes == [
        "repeated feedback, taken once: 1 (a input 2)",
        "feedback that contradicts itself, left out: 1 (a input 1)",
        "texts with several labels, left out: 1 ('two labels' is x and y)",
        "texts that came again with the same label, taken once: 1",
    ]


def test_what_is_lacking_is_counted(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        predicted("a", {"characters": 3, "tokens": 1}, "text"),
        said("a", 0, "x"),
        said("a", 7, "x"),
        said("gone", 0, "x"),
        {"type": written.FEEDBACK, "id": "f", "time": f"{DAY}09Z", "data": {}},
        {"type": "another", "data": {}},
        said("a", 1, "x"),
    )
    with path.open("a") as file:
        file.write('{"type": "gatelight.pred\n[]\n"half')
    examples, notes = found(path)
    assert examples == [("text", "x")]
    assert set(notes) == {
        "log.jsonl: no event, or one that lacks a part, passed over: lines 8, 9, 10",
        "feedback whose text was not logged (the service's settings payload_text and payload_redact): 1",
        "feedback whose request is not in the log: 1",
        "feedback that cannot be read: 2",
    }


LACKING: Any = None
"""In place of a value: the member is left out."""


def spoilt(event: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The event with another value at a path such as data.answer.task, or without it."""
    copy: dict[str, Any] = json.loads(json.dumps(event))
    *above, last = path.split(".")
    inside: Any = copy
    for name in above:
        inside = inside[int(name) if isinstance(inside, list) else name]
    if value is LACKING:
        del inside[last]
    else:
        inside[int(last) if isinstance(inside, list) else last] = value
    return copy


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("id", (LACKING, 5, ["a"])),
        ("time", (LACKING, 5)),
        ("data", (LACKING, [], "data", {})),
        ("data.answer", (LACKING, [], "x")),
        ("data.answer.model", (LACKING, 5, ["m"])),
        ("data.answer.task", (LACKING, 5, [], "summary")),
        ("data.request", (LACKING, [], "x")),
        ("data.request.inputs", (LACKING, 5, "text", {})),
        ("data.request.inputs.0", (5, [1, 2], [["a"]])),
        ("data.spans", (5, {}, [5], [[5]], [[[1]]], [[["a", "b"]]], [[[0, 1.5]]])),
        ("data.sentences", (5, {}, [5], [[[0, "b"]]])),
    ],
)
def test_a_prediction_that_lacks_what_is_read_is_passed_over(
    tmp_path: Path, path: str, values: tuple[Any, ...]
) -> None:
    whole, right = tagged("b", entity(0, 12, "PER"))
    for value in values:
        wrong = spoilt(tagged("a", entity(0, 12, "PER"))[0], path, value)
        examples, notes = found(log(tmp_path, whole, wrong, right, said("a", 0, [])), task="ner", model="m")
        assert [label for _, label in examples] == [("B-PER", "I-PER", "O", "O"), ("O", "O")]
        assert set(notes) == {
            "log.jsonl: no event, or one that lacks a part, passed over: line 2",
            "feedback whose request is not in the log: 1",
        }


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("time", (LACKING, 5)),
        ("data", (LACKING, [], "data", {})),
        ("data.request_id", (LACKING, 5, ["a"])),
        ("data.input", (LACKING, "0", -1, 1, 0.5, True)),
        ("data.entities", (LACKING, 5, {}, ["x"])),
        ("data.entities.0.start", (LACKING, "0", 0.5)),
        ("data.entities.0.end", (LACKING, [])),
        ("data.entities.0.label", (LACKING, 5, "")),
        ("data.label", (5, ["x"], "")),
    ],
)
def test_feedback_that_lacks_what_is_read_is_counted(tmp_path: Path, path: str, values: tuple[Any, ...]) -> None:
    events = tagged("b", entity(0, 12, "PER"))
    for value in values:
        wrong = spoilt(events[1], path, value)
        examples, notes = found(log(tmp_path, *events, wrong))
        assert len(examples) == 2
        assert notes == ["feedback that cannot be read: 1"]


def test_a_member_that_is_not_read_may_be_anything(tmp_path: Path) -> None:
    event = spoilt(spoilt(predicted("a", "fine"), "data.answer.predictions", LACKING), "data.status", "x")
    assert found(log(tmp_path, event, said("a", 0, "positive"))) == ([("fine", "positive")], [])


def test_an_id_that_came_twice_means_the_last_before_its_feedback(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        predicted("a", "first", time=1),
        predicted("a", "second", time=5),
        predicted("a", "third", time=20),
        said("a", 0, "x", 10),
    )
    assert found(path) == ([("second", "x")], [])


ADA = "Ada Lovelace lived . London too"
SPANS = [[0, 3], [4, 12], [13, 18], [19, 20], [21, 27], [28, 31]]


def entity(start: int, end: int, label: str) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label}


def tagged(identity: str, *entities: dict[str, Any]) -> list[Any]:
    request = predicted(identity, ADA, task="ner", spans=[SPANS], sentences=[[[0, 4], [4, 6]]])
    return [request, said(identity, 0, list(entities))]


def test_entities_become_tags_sentence_by_sentence(tmp_path: Path) -> None:
    path = log(tmp_path, *tagged("a", entity(21, 27, "LOC"), entity(0, 12, "PER")))
    examples, notes = found(path)
    assert examples == [
        (("Ada", "Lovelace", "lived", "."), ("B-PER", "I-PER", "O", "O")),
        (("London", "too"), ("B-LOC", "O")),
    ]
    assert notes == []
    out = tmp_path / "train.conll"
    assert payload_log.write(payload_log.read(path), out) == 2
    assert [(each.value, each.label) for each in read(out, "ner")] == examples


@pytest.mark.parametrize(
    "wrong", [entity(0, 2, "PER"), entity(1, 12, "PER"), entity(19, 27, "LOC"), entity(21, 12, "LOC")]
)
def test_entities_that_are_no_whole_tokens_are_named(tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = log(tmp_path, *tagged("a", wrong), predicted("b", "x", task="ner", spans=[[[0, 1]]]), said("b", 0, []))
    examples, notes = found(path)
    assert examples == [(("x",), ("O",))]
    assert notes == ["entities that begin or end inside a token, or cross sentences, left out: 1 (a input 0)"]


def test_of_two_tasks_one_is_chosen(tmp_path: Path) -> None:
    path = log(tmp_path, *tagged("a"), predicted("b", "text"), said("b", 0, "x"))
    with pytest.raises(CorpusError, match=r"answers of the tasks ner and sentiment; choose one with --task"):
        payload_log.read(path)
    assert found(path, task="sentiment")[0] == [("text", "x")]
    assert len(found(path, task="ner")[0]) == 2


def test_of_several_models_one_is_chosen(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        predicted("a", "one", model="m"),
        predicted("b", "two", model="n"),
        said("a", 0, "x"),
        said("b", 0, "y"),
    )
    assert found(path, model="n")[0] == [("two", "y")]
    named = [{**said(each, 0, "x"), "inferenceservicename": model} for each, model in (("a", "m"), ("b", "n"))]
    path = log(tmp_path, predicted("a", "one", model="m"), predicted("b", "two", model="n"), *named)
    assert found(path, model="n") == ([("two", "x")], []), "feedback on another model is nothing that lacks"


def test_nothing_to_learn_from_says_why(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such log; name the file that the service's setting payload_log names"):
        payload_log.read(tmp_path / "none" / "log.jsonl")
    with pytest.raises(CorpusError, match="no request has feedback"):
        payload_log.read(log(tmp_path, predicted("a", "text")))
    with pytest.raises(CorpusError, match="payload_text"):
        payload_log.read(log(tmp_path, predicted("a", {"characters": 1}), said("a", 0, "x")))


TABLES = ("tsv", "csv", "jsonl", "ndjson")
TAGGED = ("conll", "txt", "tsv", "train", "csv", "jsonl", "ndjson")
ROWS = [('a\tgood "film",\r\nyes', "positive"), ("naïve 🎉", "negative"), ("x\ry\0", 'a "b", c'), ("", "none")]
TOKENS = [["Ada", '"', ",", "New York", "#", " x\u00a0", "\u2028", "\0"], ["sep=,"], ["1"]]


@pytest.mark.parametrize("zipped", ["", ".gz", ".GZ"])
@pytest.mark.parametrize("ending", [*TABLES, "CSV"])
def test_a_table_is_what_training_reads(tmp_path: Path, ending: str, zipped: str) -> None:
    path = log(
        tmp_path,
        predicted("a", *(text for text, _ in ROWS)),
        *(said("a", at, label) for at, (_, label) in enumerate(ROWS)),
    )
    out = tmp_path / f"train.{ending}{zipped}"
    assert payload_log.write(payload_log.read(path), out) == 4
    texts = [text.replace("\0", "\ufffd") for text, _ in ROWS]
    wanted = [" ".join(text.split()) for text in texts] if ending == "tsv" else texts
    assert [(each.value, each.label) for each in read(out, "sentiment")] == [
        (text, label) for text, (_, label) in zip(wanted, ROWS, strict=True)
    ]
    assert out.read_bytes().startswith(b"\x1f\x8b") == bool(zipped)


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize("ending", TAGGED)
def test_a_taggers_file_is_what_training_reads(tmp_path: Path, ending: str, zipped: str) -> None:
    events = []
    for at, tokens in enumerate(TOKENS):
        starts = [len(" ".join(tokens[:n])) + bool(n) for n in range(len(tokens))]
        spans = [[start, start + len(token)] for start, token in zip(starts, tokens, strict=True)]
        events += [
            predicted(f"{at}", tokens, task="ner", spans=[spans]),
            said(f"{at}", 0, [entity(0, len(tokens[0]), "PER")]),
        ]
    out = tmp_path / f"train.{ending}{zipped}"
    assert payload_log.write(payload_log.read(log(tmp_path, *events)), out) == 3
    words = [("Ada", '"', ",", "New_York", "#", "x", "_", "\ufffd"), ("sep=,",), ("1",)]
    assert [(each.value, each.label) for each in read(out, "ner")] == [
        (each, ("B-PER", *["O"] * (len(each) - 1))) for each in words
    ]


def test_every_ending_that_is_read_is_written() -> None:
    readers = {reader for endings in corpora._READERS.values() for reader in endings.values()}
    assert readers == corpora._WRITERS.keys()


@pytest.mark.parametrize("name", ["train", "train.xlsx", "train.json", "train.tsv.zip", "train.gz", "train.conll"])
def test_a_name_that_no_reader_takes_is_refused(tmp_path: Path, name: str) -> None:
    path = log(tmp_path, predicted("a", "fine"), said("a", 0, "positive"))
    out = tmp_path / name
    for task in ([], ["--task", "sentiment"]):
        result = CliRunner().invoke(app, ["data", "from-log", str(path), "--out", str(out), *task])
        assert isinstance(result.exception, CorpusError)
        assert "a file for sentiment ends in .tsv .csv .jsonl .ndjson, each with or without .gz" in str(
            result.exception
        )
        assert not out.exists()


def test_a_name_is_refused_before_the_log_is_read(tmp_path: Path) -> None:
    arguments = ["data", "from-log", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "train.xlsx")]
    result = CliRunner().invoke(app, arguments)
    assert "a spreadsheet is not read" in str(result.exception)


def test_the_command(tmp_path: Path) -> None:
    path = log(tmp_path, predicted("a", "fine", "fine"), said("a", 0, "positive"), said("a", 1, "positive"))
    out = tmp_path / "train.tsv"
    result = CliRunner().invoke(app, ["data", "from-log", str(path), "--out", str(out)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "train.tsv: 1 texts" in result.output
    assert "texts that came again with the same label, taken once: 1" in result.output
    assert out.read_text() == "text\tlabel\nfine\tpositive\n"
    for arguments, wrong in ((["from-log"], "needs the log"), (["imdb", str(path)], "only from-log takes a log")):
        refused = CliRunner().invoke(app, ["data", *arguments, "--out", str(out)], env={"COLUMNS": "200"})
        assert refused.exit_code == 2
        assert wrong in refused.output
