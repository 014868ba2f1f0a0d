"""A text read sentence by sentence, against its sentences alone; in process, with a small model."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model.bundle import load
from service.model.decoding import Prediction
from service.model.gates import select
from service.model.joining import bounds, logits_of, parts, traces_of
from service.model.loading import Model, loader
from service.serving.inference import decode, run_predictions, run_traces, trace_jobs
from tests.bundles import tiny_bundle

LIMIT = 64
PIECES = [
    "Ada Lovelace",
    "lived",
    "in London",
    "U.S.",
    "Mr. Smith",
    "It",
    ".",
    "!",
    "\n",
    "\r\n",
    "\n\n",
    '"',
    "(",
    ")",
    " ",
]
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=30).map(" ".join).filter(str.strip)


@pytest.fixture(scope="module", params=["lstm", "gru"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("models") / f"ner-{request.param}"
    tiny_bundle(folder, task="ner", cell=request.param, crf=request.param == "gru")
    return loader("cpu", 1, LIMIT)(load(folder / "1"))


def predict(model: Model, text: str, *, split: bool) -> Prediction:
    encoded = [model.encode(text, truncate=True, split=split)]
    logits = [run_predictions(model.engine, model.bundle.manifest, [part.rows])[0] for part in parts(encoded)]
    return decode(model, logits_of(encoded, logits), encoded, tokens=True)[0]


@given(TEXTS)
def test_a_prediction_is_those_of_the_sentences_one_after_the_other(model: Model, text: str) -> None:
    source = model.encode(text, truncate=True)
    whole = predict(model, text, split=True)
    tokens, entities = [], []
    for first, end in bounds(source):
        start = source.spans[first][0]
        alone = predict(model, text[start : source.spans[end - 1][1]], split=False)
        tokens += [{**each, "start": each["start"] + start, "end": each["end"] + start} for each in alone["tokens"]]  # type: ignore[attr-defined]  # values of a plain answer
        entities += [
            (each["label"], each["start"] + start, each["token_start"] + first, each["token_end"] + first)
            for each in alone["entities"]  # type: ignore[attr-defined]  # values of a plain answer
        ]
    assert [each | {"score": pytest.approx(each["score"], abs=1e-6)} for each in tokens] == whole["tokens"]
    found = [(each["label"], each["start"], each["token_start"], each["token_end"]) for each in whole["entities"]]  # type: ignore[attr-defined]  # values of a plain answer
    assert found == entities
    assert whole["truncated"] is source.truncated


@given(TEXTS, st.integers(0, LIMIT - 1))
def test_traces_join_to_a_row_for_each_token(model: Model, text: str, explain: int) -> None:
    manifest = model.bundle.manifest
    encoded = [model.encode(text, truncate=True), model.encode("Ada . Bob .", truncate=True, split=False)]
    explain %= len(encoded[0])
    selection = select(manifest, statistics=True)
    run = partial(run_traces, model.engine, manifest)
    rows = [run([job])[0] for job in trace_jobs(encoded[:1], selection, True, explain)]
    rows += run(trace_jobs(encoded[1:], selection, True, None))
    whole, other = traces_of(encoded, rows)
    assert other is rows[-1]
    assert len(whole.logits) == len(encoded[0])
    for layer in whole.layers:
        assert all(len(array) == len(encoded[0]) for array in layer.arrays().values())
        assert layer.statistics is not None
        assert all(np.isfinite(each).all() for each in layer.statistics.values())
    given_ = whole.contributions
    assert given_ is not None
    np.testing.assert_allclose(given_["bias"] + given_["tokens"].sum(axis=0), given_["logits"], atol=1e-5)
    np.testing.assert_allclose(given_["logits"], whole.logits[explain], atol=1e-4)
