"""A sealed state of the shipped taggers has at most 16 KiB, whatever the text, and no model is too large for one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.model import bundle as bundles
from service.model.loading import Model, loader
from service.model.streams.sealing import MOST_BYTES
from service.model.streams.stream import Wanted
from service.model.streams.tagging import OPEN_BYTES
from service.serving.streams import Streams
from tests.bundles import Options, tiny_bundle
from tests.service.serving.test_streams import made

MODELS = Path(__file__).parents[3] / "models"
PEOPLE = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Katherine", "Margaret", "Dennis", "Radia"]
PLACES = ["London", "Paris", "Berlin", "Tokyo", "Nairobi", "Lima", "Oslo", "Cairo", "Delhi", "Lagos"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module", params=["ner-lstm", "ner-gru"])
def tagger(request: pytest.FixtureRequest) -> Model:
    folder = MODELS / request.param
    return loader("cpu", 1, 4096)(bundles.load(folder / str(bundles.versions(folder)[-1])))


def sentences(choice: random.Random, end: str, count: int) -> Iterator[str]:
    """Sentences with six names each."""
    for _ in range(count):
        one, two, three = choice.sample(PEOPLE, 3)
        here, there = choice.sample(PLACES, 2)
        people = f"{one} {two}{choice.randint(1, 9999)} met {three}"
        yield f"{people} of {here} Bank in {there} , {here} and New {there}{end}"


def names(choice: random.Random) -> Iterator[str]:
    """One name that never ends."""
    yield "The University of "
    for _ in range(150):
        yield f"{choice.choice(PEOPLE)}{choice.randint(1, 99999)} of "


def long_words(choice: random.Random, size: int) -> Iterator[str]:
    """Words that cannot be packed."""
    for _ in range(70):
        yield f"{''.join(choices(choice, size))} "


def choices(choice: random.Random, size: int) -> list[str]:
    return choice.choices(LETTERS, k=size)


TEXTS: dict[str, Any] = {
    "sentences": lambda choice: sentences(choice, " . ", 300),
    "one sentence": lambda choice: sentences(choice, " and ", 40),
    "an open name": names,
    "long words": lambda choice: long_words(choice, 100),
    "very long words": lambda choice: long_words(choice, 1000),
    "long words after entities": lambda choice: [*sentences(choice, " . ", 100), *long_words(choice, 100)],
}


@pytest.mark.parametrize("settle", [32, 64])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_state_has_at_most_16_kib(tagger: Model, text: Any, settle: int) -> None:
    async def run() -> None:
        streams, batcher = made(settle=settle)
        stream = streams.begin(tagger, Wanted(), split=True)
        for number, piece in enumerate(text(random.Random(settle))):
            stream.feed(piece)
            while await streams.step(tagger, stream, 60.0) is not None:
                pass
            if number % 10 == 9:
                check(streams, tagger, streams.seal(tagger, stream), stream.count)
        await batcher.close()

    asyncio.run(run())


def check(streams: Streams, tagger: Model, state: str, count: int) -> None:
    assert len(state) <= MOST_BYTES
    assert streams.resume(tagger, Wanted(), *streams.unseal(state)).count == count


def test_a_state_that_would_be_too_large_has_fewer_entities(tagger: Model) -> None:
    """Names that cannot be packed: with all that fit into their own limit, the state would have no room."""

    async def run() -> None:
        streams, batcher = made(settle=64)
        stream = streams.begin(tagger, Wanted(), split=True)
        choice = random.Random(5)
        stream._entities = [
            {
                "label": "PER",
                "text": "".join(choices(choice, 60)),
                "start": 70 * n,
                "end": 70 * n + 60,
                "score": choice.random(),
                "token_start": n,
                "token_end": n + 1,
            }
            for n in range(300)
        ]
        for piece in names(choice):
            stream.feed(piece)
            while await streams.step(tagger, stream, 60.0) is not None:
                pass
        state = streams.seal(tagger, stream)
        assert len(state) <= MOST_BYTES
        resumed = streams.resume(tagger, Wanted(), *streams.unseal(state))
        kept = len(resumed._entities)
        assert 0 < kept < 300
        assert resumed._entities[-1]["text"] == stream._entities[kept - 1]["text"]
        resumed.end()
        while await streams.step(tagger, resumed, 60.0) is not None:
            pass
        _, prediction = resumed.finish()
        assert prediction["truncated"]
        await batcher.close()

    asyncio.run(run())


def test_a_state_has_all_entities_while_it_has_room(tagger: Model) -> None:
    """Seven hundred: a text in pieces has the same as in one."""

    async def run() -> None:
        streams, batcher = made()
        one, pieces = (streams.begin(tagger, Wanted(every=1000), split=True) for _ in range(2))
        for number, piece in enumerate(sentences(random.Random(6), " . ", 120)):
            for stream in (one, pieces):
                stream.feed(piece)
                while await streams.step(tagger, stream, 60.0) is not None:
                    pass
            if number % 20 == 19:
                pieces = streams.resume(tagger, Wanted(every=1000), *streams.unseal(streams.seal(tagger, pieces)))
        assert pieces.entities == one.entities > 600
        ends = [(each["label"], each["text"], each["start"], each["end"]) for each in one._entities]
        assert [(each["label"], each["text"], each["start"], each["end"]) for each in pieces._entities] == ends
        await batcher.close()

    asyncio.run(run())


LABELS = ("O", *(f"{prefix}-{number}" for number in range(200) for prefix in "BI"))
LARGE: dict[str, Options] = {
    "37-labels": {"bidirectional": False, "task": "ner", "labels": LABELS[:37], "crf": True},
    "401-labels": {"bidirectional": False, "task": "ner", "labels": LABELS},
    "many-layers": {"bidirectional": False, "task": "ner", "layers": 8, "hidden": 160},
    "a-large-maximum": {"bidirectional": False, "hidden": 1200, "cell": "rnn", "head": "max"},
    "many-classes": {"bidirectional": False, "labels": [f"class {number}" for number in range(2000)], "head": "mean"},
}


@pytest.mark.parametrize("name", LARGE)
def test_no_model_is_too_large_for_a_state(tmp_path: Path, name: str) -> None:
    model = loader("cpu", 1, 4096)(tiny_bundle(tmp_path / name, **LARGE[name]))

    async def run() -> None:
        streams, batcher = made(settle=64)
        stream = streams.begin(model, Wanted(), split=True)
        choice, largest = random.Random(3), 0
        for number, piece in enumerate([*names(choice), *long_words(choice, 100)]):
            stream.feed(piece)
            while await streams.step(model, stream, 60.0) is not None:
                pass
            if number % 7 == 0:
                state = streams.seal(model, stream)
                largest = max(largest, len(state))
                resumed = streams.resume(model, Wanted(), *streams.unseal(state))
                assert (resumed.count, resumed.keep(0)) == (stream.count, stream.keep(0))
        assert largest < 2 * (stream.model_bytes + OPEN_BYTES[1])
        await batcher.close()

    asyncio.run(run())
