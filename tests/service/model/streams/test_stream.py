"""A stream's last answer is `/predict`'s of the whole text, for both tasks, wherever the text is cut and suspended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidField, TooLarge
from service.http.render import TraceAnswer, dumps, traces_as_json
from service.model.gates import LayerGates
from service.model.joining import logits_of, parts
from service.model.loading import Model, loader
from service.model.streams import stream as streams
from service.model.streams.stepping import Stepper
from service.model.streams.stream import Stream, Wanted, wanted
from service.serving.inference import decode
from tests.bundles import ORIGIN, WORDS, architecture, network, tokenizer
from training.export.bundle import export

LINES = [
    "Ada lived in London. The film was great!\n",
    "U.S. Inc. films.\r\n",
    "\n\n",
    " No. 1: It isn't.",
    "Ada 我喜欢 ",
    "e\u0301 ",
]
TEXTS = st.lists(
    st.one_of(st.sampled_from(LINES), st.sampled_from(WORDS).map(lambda word: f"{word} ")), min_size=1, max_size=30
)


def models(folder: Path) -> Iterator[tuple[str, Model]]:
    load = loader("cpu", 1, 4096)
    kinds: dict[str, Any] = {
        "last": {"head": "last"},
        "mean": {"head": "mean"},
        "attention": {"head": "attention", "layers": 2},
        "softmax": {"task": "ner"},
        "crf": {"task": "ner", "crf": True, "cell": "gru"},
        "one-name": {"task": "ner"},
    }
    for name, options in kinds.items():
        shape = architecture(bidirectional=False, **options)
        made = network(shape, seed=1 if name == "crf" else 3)
        if name == "softmax":  # a random one has one label for all
            made.head.weight.data *= 12
            made.head.bias.data *= 0
        if name == "one-name":  # every sentence is one entity
            made.head.weight.data *= 0
            made.head.bias.data[:] = torch.tensor([-9.0, -9.0, -9.0, 0.0, 9.0])
        yield name, load(export(made, tokenizer(shape), ORIGIN, "CC0-1.0", folder / name, lambda _: []))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return dict(models(tmp_path_factory.mktemp("models")))


def whole(model: Model, value: str | list[str], split: bool = True) -> Any:
    """What `/predict` says, with every token's label, and the tokens."""
    encoded = model.encode(value, truncate=False, split=split)
    logits = logits_of([encoded], [model.engine.predict([part.rows])[0] for part in parts([encoded])])
    return decode(model, logits, [encoded], tokens=True)[0], encoded.tokens()


class Reading:
    """One stream, and the events so far."""

    def __init__(self, model: Model, *, split: bool = True, settle: int = 32, asked: Wanted | None = None) -> None:
        self.model, self.settle = model, settle
        self.stepper = Stepper(model.engine.network)
        self.asked = asked or Wanted()
        self.stream = Stream(model, self.stepper, self.asked, split=split, settle=settle)
        self.events: list[Any] = []

    def pump(self) -> None:
        while (job := self.stream.job()) is not None:
            self.events += self.stream.took(self.stepper.run([job])[0])

    def feed(self, piece: str | list[str]) -> None:
        self.stream.feed(piece) if isinstance(piece, str) else self.stream.feed_tokens(piece)
        self.pump()

    def suspend(self) -> int:
        kept = self.stream.keep()
        self.stream = Stream.resume(self.model, self.stepper, self.asked, kept, settle=self.settle)
        return len(kept)

    def end(self) -> Any:
        self.stream.end()
        self.pump()
        events, prediction = self.stream.finish()
        self.events += events
        return prediction

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event["type"] == kind]


def check(reading: Reading, prediction: Any, expected: Any, tokens: Any) -> None:
    assert [{name: event[name] for name in ("text", "start", "end")} for event in reading.of("token")] == tokens
    assert [event["t"] for event in reading.of("token")] == list(range(len(tokens)))
    if "scores" in expected:
        assert prediction["label"] == expected["label"]
        assert prediction["scores"] == pytest.approx(expected["scores"], abs=1e-5)
        assert reading.of("token")[-1]["scores"] == prediction["scores"]
        return
    assert [label for event in reading.of("labels") for label in event["labels"]] == [
        token["label"] for token in expected["tokens"]
    ]
    assert [score for event in reading.of("labels") for score in event["scores"]] == pytest.approx(
        [token["score"] for token in expected["tokens"]], abs=1e-4
    )
    assert len(prediction["entities"]) == len(expected["entities"])
    for found, entity in zip(prediction["entities"], expected["entities"], strict=True):
        assert found == entity | {"score": pytest.approx(entity["score"], abs=1e-4)}
    assert [{**event, "type": "entity"} for event in prediction["entities"]] == [
        event | {"score": pytest.approx(event["score"], abs=1e-6)} for event in reading.of("entity")
    ]


@pytest.mark.parametrize("name", ["last", "mean", "attention", "softmax", "crf"])
@settings(max_examples=20, deadline=None)
@given(lines=TEXTS, cuts=st.lists(st.integers(0, 400), max_size=8), split=st.booleans())
def test_the_last_answer_is_that_for_the_whole_text(
    served: dict[str, Model], name: str, lines: list[str], cuts: list[int], split: bool
) -> None:
    model, text = served[name], "".join(lines)
    try:
        expected, tokens = whole(model, text, split)
    except InvalidField:
        return
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    for pieces, suspended in (
        (list(text), False),
        ([text[start:end] for start, end in zip([0, *ends], ends, strict=False)], True),
    ):
        reading = Reading(model, split=split)
        for piece in pieces:
            reading.feed(piece)
            if suspended:
                reading.suspend()
        check(reading, reading.end(), expected, tokens)


@pytest.mark.parametrize("name", ["attention", "softmax", "crf"])
def test_tokens_are_read_as_they_are_sent(served: dict[str, Model], name: str) -> None:
    sent = [word for word in WORDS[1:] for _ in range(3)]
    reading = Reading(served[name])
    for start in range(0, len(sent), 5):
        reading.feed(sent[start : start + 5])
        reading.suspend()
    check(reading, reading.end(), *whole(served[name], sent))
    assert reading.of("token")[1]["start"] == len(sent[0]) + 1


@pytest.mark.parametrize("name", ["softmax", "crf"])
def test_in_a_long_sentence_labels_settle_after_the_lag(served: dict[str, Model], name: str) -> None:
    text = "ada lovelace lived in london very great and " * 40
    reading = Reading(served[name], settle=24)
    for word in text.split(" "):
        reading.feed(f"{word} ")
        behind = reading.stream.count - sum(len(event["labels"]) for event in reading.of("labels"))
        assert behind <= 4 * 24
        assert reading.suspend() < 12_000
    early = reading.of("entity")
    check(reading, reading.end(), *whole(served[name], text))
    assert early


@pytest.mark.parametrize("layers", [[1], [0, 1]])
def test_gates_are_given_for_the_units_and_layers_asked_for(served: dict[str, Model], layers: list[int]) -> None:
    model = served["attention"]
    asked = wanted(model.bundle.manifest, ["forget", "cell"], layers, [3, 0], 2, None)
    reading = Reading(model, asked=asked)
    reading.feed("the film is not great at all ")
    assert [event["t"] for event in reading.of("token")] == [1, 3, 5]  # every second token
    trace = model.engine.trace([model.encode("the film is not great at all", truncate=False).rows])
    for event in reading.of("token"):
        assert list(event["gates"]) == [str(layer) for layer in layers]
        for layer in layers:
            assert list(event["gates"][str(layer)]) == ["forget", "cell"]
            for gate in ("forget", "cell"):
                expected = trace.gate((layer, "forward", gate), 0)[event["t"], [3, 0]]
                assert event["gates"][str(layer)][gate] == pytest.approx(expected.tolist(), abs=2e-6)


@pytest.mark.parametrize("decimals", [0, 1, 4, 8, 17, None])
def test_gates_are_rounded_as_numpy_rounds(served: dict[str, Model], decimals: int | None) -> None:
    model = served["attention"]
    text = "the film is not great at all "
    exact, reading = (
        Reading(model, asked=wanted(model.bundle.manifest, ["forget", "cell"], [0, 1], None, 1, each))
        for each in (None, decimals)
    )
    for each in (exact, reading):
        each.feed(text)
    assert reading.of("token")
    for event, whole in zip(reading.of("token"), exact.of("token"), strict=True):
        printed = json.loads(dumps(event))["gates"]
        for layer in ("0", "1"):
            for gate in ("forget", "cell"):
                numbers = np.array(whole["gates"][layer][gate], np.float64)
                expected = numbers if decimals is None else numbers.round(decimals)
                found = np.array(printed[layer][gate])
                if decimals is None:  # printed with the digits of float32
                    found = found.astype(np.float32).astype(np.float64)
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("decimals", [4, None])
def test_gates_are_printed_by_the_rule_of_traces(served: dict[str, Model], decimals: int | None) -> None:
    model = served["attention"]
    reading = Reading(model, asked=wanted(model.bundle.manifest, ["forget", "cell"], [0, 1], [0, 1, 2], 1, decimals))

    def event(layer: int, gate: str, values: list[float]) -> Any:
        reading.stream.feed("film film ")
        job = reading.stream.job(1)
        assert job is not None
        stepped = reading.stepper.run([job])[0]
        assert stepped.gates is not None
        stepped.gates[0][layer][gate][stepped.place, :3] = values
        return json.loads(dumps(reading.stream.took(stepped)[0]["gates"]))

    shown = event(1, "cell", [-1e-9, -0.0, 0.12345])["1"]["cell"]
    trace = LayerGates(1, "forward", {"cell": np.array([[-1e-9, -0.0, 0.12345]], np.float32)})
    body = b"".join(traces_as_json({"model": "m"}, [TraceAnswer({"tokens": []}, [trace], {"note": ""})], decimals))
    assert repr(shown) == repr(json.loads(body)["traces"][0]["layers"][0]["gates"]["cell"][0])
    for value in (np.nan, np.inf, -np.inf):
        for layer, gate in ((0, "forget"), (1, "cell")):
            with pytest.raises(ValueError, match="not finite"):
                event(layer, gate, [0.0, value, 0.0])


LONG_GAPS = {
    "4096 spaces": " " * 4096,
    "4097 spaces": " " * 4097,
    "a million spaces": " " * 1_000_000,
    "tabs": "\t" * 5000,
    "no-break spaces": "\xa0" * 5000,
    "Braille's blanks": "\u2800" * 5000,
    "invisible": "\u200b" * 5000,
    "invisible and spaces": "\u200b \u00ad" * 2000,
    "selectors between spaces": " \ufe0f" * 2500,
    "entities of blanks": "&nbsp;" * 900,
    "entities, spaced": "&#8203; " * 900,
    "line breaks": "\r\n" * 3000,
    "lines": " \n" * 2500,
    "ends with an entity": " " * 5000 + "&NewLine;",
}


@pytest.mark.parametrize("gap", LONG_GAPS.values(), ids=LONG_GAPS)
@pytest.mark.parametrize("suspend", [False, True])
def test_an_entity_over_a_long_gap_has_the_place_of_the_whole(
    served: dict[str, Model], gap: str, suspend: bool
) -> None:
    model, text = served["one-name"], f" ada{gap}lovelace of{gap}london. "
    first = 4 + len(gap)
    expected, tokens = whole(model, text, split=False)
    (entity,) = expected["entities"]
    for cuts in ([], [4, first], [5, first - 1, first + 3], [2, 4 + 2048, 4 + 4096, 4 + 4097, first + 1]):
        reading = Reading(model, split=False)
        for start, end in pairwise([0, *cuts, len(text)]):
            reading.feed(text[start:end])
            if suspend:
                assert reading.suspend() < 40_000
        prediction = reading.end()
        assert [{name: event[name] for name in ("text", "start", "end")} for event in reading.of("token")] == tokens
        assert [span for event in reading.of("labels") for span in event["spans"]] == [
            [token["start"], token["end"]] for token in tokens
        ]
        for found in (*prediction["entities"], *reading.of("entity")):
            shown = found["text"]
            assert found | {"type": "", "text": ""} == entity | {
                "type": "",
                "text": "",
                "score": pytest.approx(entity["score"], abs=1e-6),
            }
            if len(gap) <= 4096:
                assert shown == entity["text"]
            assert shown.startswith("ada")
            assert shown.endswith("london.")
            assert len(shown) < 11_000
        assert len(prediction["entities"]) == len(reading.of("entity")) == 1


def test_what_cannot_be_asked_for_is_refused(served: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = served["last"].bundle.manifest
    with pytest.raises(InvalidField, match="no gate"):
        wanted(manifest, ["update"], None, None, 1, 4)
    with pytest.raises(InvalidField, match="out of range"):
        wanted(manifest, ["forget"], None, [8], 1, 4)
    monkeypatch.setattr(streams, "MOST_NUMBERS", 7)
    with pytest.raises(TooLarge, match="8, the limit is 7"):
        wanted(manifest, ["forget"], None, None, 1, 4)


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_a_stream_without_a_token_has_no_answer(served: dict[str, Model], text: str) -> None:
    reading = Reading(served["last"])
    reading.feed(text)
    with pytest.raises(InvalidField, match="holds no token"):
        reading.end()


def test_text_and_tokens_do_not_mix(served: dict[str, Model]) -> None:
    reading = Reading(served["last"])
    reading.feed("film")
    with pytest.raises(InvalidField, match="began with text"):
        reading.feed(["film"])
    reading = Reading(served["last"])
    reading.feed(["film"])
    with pytest.raises(InvalidField, match="began with tokens"):
        reading.feed("film")


@pytest.mark.parametrize("pieces", [["film ", "was "], [["film"], ["was"]]])
def test_an_empty_piece_of_either_kind_changes_nothing(served: dict[str, Model], pieces: list[Any]) -> None:
    reading = Reading(served["last"])
    for piece in pieces:
        reading.feed("")
        reading.feed([])
        reading.feed(piece)
    reading.end()
    assert [event["text"] for event in reading.of("token")] == ["film", "was"]


def test_a_state_has_all_entities_or_the_first(served: dict[str, Model]) -> None:
    reading = Reading(served["softmax"])
    for _ in range(300):
        reading.feed("ada lovelace lived in london. It was &amp;&nbsp; Ada! ")
    before = reading.stream._entities
    assert len(before) > 100
    reading.suspend()
    assert reading.stream._entities == [{**each, "score": pytest.approx(each["score"], abs=1e-6)} for each in before]
    fewer = Stream.resume(reading.model, reading.stepper, reading.asked, reading.stream.keep(70))
    assert fewer._entities == reading.stream._entities[:70]
    assert fewer.entities == 70
    assert fewer.finish()[1]["truncated"]
    assert not reading.end()["truncated"]
