"""Faithfulness and the effects of deletion through the batcher, against really leaving the tokens out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidField, TooLarge
from service.model.contributions import contributions
from service.model.deletion import MAX_LIMITED_TOKENS
from service.model.faithfulness import MAX_TOKENS
from service.model.gates import select
from service.model.interventions import Interventions, Setting, apply, run
from service.model.joining import traces_of
from service.model.loading import Model, loader
from service.serving import explaining
from service.serving.batching import Batcher
from service.serving.explaining import Measurements, MeasureOptions, TraceOptions, check, check_inputs, measure
from service.serving.inference import Inference
from tests.bundles import KINDS, Kind, Options, tiny_bundle

TEXT = "The film is not very good, but it was fine."
BOTH = MeasureOptions(faithfulness=True, deletion=True)


def load(folder: Path, **options: object) -> Model:
    return loader("cpu", 1, 4096)(tiny_bundle(folder / "m", **options))  # type: ignore[arg-type]  # options by name


def measured(
    model: Model,
    inputs: Sequence[str],
    wanted: MeasureOptions = BOTH,
    explain: int | None = None,
    interventions: Interventions = Interventions(),  # noqa: B008  # a frozen value
) -> list[Measurements]:
    async def main() -> list[Measurements]:
        batcher = Batcher(threads=1, token_budget=4096, max_rows=16, max_queued_tokens=1 << 20, inline_seconds=0.01)
        inference = Inference(batcher)
        applied = [apply(model.encode(each, truncate=False), interventions, explain) for each in inputs]
        deadline = asyncio.get_running_loop().time() + 60
        selection = select(model.bundle.manifest)
        try:
            traced = await inference.trace(model, applied, selection, contributions=True, deadline=deadline)
            encoded = [each.encoded for each in applied]
            joined = traces_of(encoded, traced)
            return await measure(inference, at_once, model, applied, joined, wanted, deadline=deadline)
        finally:
            await batcher.close()

    return asyncio.run(main())


def answered(
    model: Model,
    inputs: Sequence[str],
    wanted: MeasureOptions,
    explain: int | None = None,
    interventions: Interventions = Interventions(),  # noqa: B008  # a frozen value
) -> list[Measurements]:
    """The whole way of a request: a trace, then what it leaves to be measured."""

    async def main() -> list[Measurements]:
        batcher = Batcher(threads=1, token_budget=4096, max_rows=16, max_queued_tokens=1 << 20, inline_seconds=0.01)
        options = TraceOptions(select(model.bundle.manifest), False, explain, interventions, wanted)
        encoded = [model.encode(each, truncate=False) for each in inputs]
        deadline = asyncio.get_running_loop().time() + 60
        try:
            found = await explaining.explain(Inference(batcher), at_once, model, encoded, options, deadline=deadline)
            return found.measured
        finally:
            await batcher.close()

    return asyncio.run(main())


async def at_once(seconds: float, work: Callable[[], Any]) -> Any:
    assert seconds >= 0
    return work()


def probability(model: Model, tokens: Sequence[int], text: str = TEXT) -> float:
    """The positive label's, when the text has these tokens alone."""
    rows = model.encode(text, truncate=False).rows[list(tokens)]
    logits = model.engine.predict([rows])[0].astype(np.float64)
    return float(np.exp(logits[1]) / np.exp(logits).sum())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "rnn"])
def test_scores_are_those_of_the_text_without_the_tokens(tmp_path: Path, kind: Kind) -> None:
    model = load(tmp_path, cell=kind, head="mean")
    found = measured(model, [TEXT], MeasureOptions(faithfulness=True))[0].faithfulness
    assert found is not None
    tokens = range(len(model.encode(TEXT, truncate=False)))
    engine, positive = model.engine, found["label"] == "positive"
    split = contributions(
        model.bundle.manifest,
        engine.head_weight,
        engine.head_bias,
        engine.trace([model.encode(TEXT, truncate=False).rows]).gates(0),
    )
    assert split is not None
    shares = split["tokens"][:, int(positive)]
    order = found["deletion"]["order"]
    assert sorted(order) == list(tokens)
    assert (np.diff(shares[order]) <= 0).all()
    for gone, score in enumerate(found["deletion"]["scores"], 1):
        chance = probability(model, [token for token in tokens if token not in order[:gone]])
        assert score == pytest.approx(chance if positive else 1 - chance, abs=1e-5)


@pytest.mark.parametrize("options", [Options(cell="rnn"), Options(layers=2), Options(cell="gru", head="attention")])
def test_effects_are_those_of_leaving_each_token_out(tmp_path: Path, options: Options) -> None:
    model = load(tmp_path, **options)
    found = measured(model, [TEXT, "great"])
    rows = model.encode(TEXT, truncate=False).rows
    full = model.engine.predict([rows])[0]
    effects = found[0].deletion
    assert effects is not None
    assert effects["exact"] is False
    expected = [model.engine.predict([np.delete(rows, token, axis=0)])[0] - full for token in range(len(rows))]
    np.testing.assert_allclose(np.array(effects["tokens"]), expected, atol=1e-5)
    alone = found[1].deletion
    assert alone is not None
    logits = model.engine.predict([model.encode("great", truncate=False).rows])[0]
    np.testing.assert_allclose(np.array(alone["tokens"]), [model.engine.head_bias - logits], atol=1e-5)


@pytest.mark.parametrize("options", [Options(cell="mingru"), Options(cell="minlstm", head="attention")])
def test_one_layer_of_a_minimal_cell_answers_from_one_pass(
    tmp_path: Path, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tmp_path, **options)
    monkeypatch.setattr(Inference, "rerun", None)  # the model is not run again
    found = [each.deletion for each in answered(model, [TEXT, "great"], MeasureOptions(deletion=True))]
    rows = model.encode(TEXT, truncate=False).rows
    full = model.engine.predict([rows])[0]
    assert found[0] is not None
    assert found[0]["exact"] is True
    assert found[0]["method"].startswith("closed form")
    expected = [model.engine.predict([np.delete(rows, token, axis=0)])[0] - full for token in range(len(rows))]
    np.testing.assert_allclose(np.array(found[0]["tokens"]), expected, atol=1e-5)
    assert found[1] is not None
    logits = model.engine.predict([model.encode("great", truncate=False).rows])[0]
    np.testing.assert_allclose(np.array(found[1]["tokens"]), [model.engine.head_bias - logits], atol=1e-5)


def test_dropped_tokens_are_gone_from_the_closed_form_and_values_that_are_set_are_run(tmp_path: Path) -> None:
    model = load(tmp_path, cell="mingru")
    rows = np.delete(model.encode(TEXT, truncate=False).rows, 2, axis=0)
    full = model.engine.predict([rows])[0]
    expected = [model.engine.predict([np.delete(rows, token, axis=0)])[0] - full for token in range(len(rows))]
    (found,) = answered(model, [TEXT], MeasureOptions(deletion=True), interventions=Interventions((), (2,)))
    assert found.deletion is not None
    assert found.deletion["exact"] is True
    np.testing.assert_allclose(np.array(found.deletion["tokens"]), expected, atol=1e-5)
    held = Interventions((Setting(0, "forward", "hidden", 0.5, (0,), (3,)),), ())
    (set_,) = answered(model, [TEXT], MeasureOptions(deletion=True), interventions=held)
    assert set_.deletion is not None
    assert set_.deletion["exact"] is False


def test_a_taggers_closed_form_stays_within_the_sentence(tmp_path: Path) -> None:
    model = load(tmp_path, task="ner", cell="minlstm")
    text = "Ada lived in London. It was fine. The film is dull."
    source = model.encode(text, truncate=False)
    assert source.sentences is not None
    first, _ = source.sentences[1]
    (found,) = answered(model, [text], MeasureOptions(deletion=True), explain=first + 1)
    (run_,) = measured(model, [text], MeasureOptions(deletion=True), first + 1)
    assert found.deletion is not None
    assert run_.deletion is not None
    assert (found.deletion["exact"], run_.deletion["exact"]) == (True, False)
    for token, (one, other) in enumerate(zip(found.deletion["tokens"], run_.deletion["tokens"], strict=True)):
        assert (one is None) is (other is None) is (token == first + 1)
        if one is not None:
            np.testing.assert_allclose(np.array(one), np.array(other), atol=1e-5)


def test_the_closed_form_has_limits_of_its_own(tmp_path: Path) -> None:
    flat = load(tmp_path / "mean", cell="mingru", head="mean").bundle.manifest
    square = load(tmp_path / "max", cell="mingru").bundle.manifest
    asked = TraceOptions(select(flat), wanted=MeasureOptions(deletion=True))
    check_inputs(flat, asked, [4096], 1)
    check_inputs(square, asked, [MAX_LIMITED_TOKENS], 1)
    with pytest.raises(TooLarge, match=f"{MAX_LIMITED_TOKENS + 1}, the limit is {MAX_LIMITED_TOKENS}"):
        check_inputs(square, asked, [MAX_LIMITED_TOKENS + 1], 1)


def test_a_cell_without_a_split_has_no_faithfulness(tmp_path: Path) -> None:
    assert measured(load(tmp_path, cell="rnn"), [TEXT], MeasureOptions(faithfulness=True))[0].faithfulness is None


@pytest.mark.parametrize("crf", [False, True])
def test_a_tagger_loses_the_context_of_the_explained_token(tmp_path: Path, crf: bool) -> None:
    model = load(tmp_path, task="ner", crf=crf)
    text = "Ada lived in London. It was fine. The film is dull."
    source = model.encode(text, truncate=False)
    assert source.sentences is not None
    assert len(source.sentences) == 3
    explain = source.sentences[1][0] + 1
    found = measured(model, [text], BOTH, explain)[0]
    assert found.faithfulness is not None
    assert found.deletion is not None
    order, scores = found.faithfulness["deletion"]["order"], found.faithfulness["deletion"]["scores"]
    assert order[-1] == explain
    assert len(scores) == len(source) - 1
    first, end = source.sentences[1]
    answer = model.decoder.decode(
        model.engine.predict([source.rows[first:end]]), [model.encode("It was fine.", truncate=False)], tokens=True
    )[0]
    labelled: list[dict[str, object]] = answer["tokens"]  # type: ignore[assignment]  # values of a plain answer
    assert found.faithfulness["label"] == labelled[1]["label"]
    assert found.faithfulness["score"] == pytest.approx(labelled[1]["score"], abs=1e-5)
    for token, effect in enumerate(found.deletion["tokens"]):
        if token == explain:
            assert effect is None
        elif not first <= token < end:
            assert effect is not None
            assert effect == [0.0] * len(effect)  # another sentence
        else:
            assert effect is not None
            kept = [each for each in range(first, end) if each != token]
            before, after = (
                model.engine.predict([source.rows[each]])[0, each.index(explain)]
                for each in (list(range(first, end)), kept)
            )
            np.testing.assert_allclose(effect, after - before, atol=1e-5)


def test_what_is_set_stays_set_while_tokens_go(tmp_path: Path) -> None:
    model = load(tmp_path, bidirectional=False)
    held = (Setting(0, "forward", "forget", 1.0, (0, 1), (1, 3)), Setting(0, "forward", "output", 0.5, (2,)))
    found = measured(model, [TEXT], BOTH, None, Interventions(held, (2,)))[0]
    assert found.deletion is not None
    assert found.faithfulness is not None
    rows = model.encode(TEXT, truncate=False).rows
    kept = [token for token in range(len(rows)) if token != 2]

    def really(tokens: list[int]) -> np.ndarray:
        places = tuple(tokens.index(token) for token in (1, 3) if token in tokens)
        first = [Setting(0, "forward", "forget", 1.0, (0, 1), places)] if places else []
        return run(model.engine.network, [rows[tokens]], [[*first, held[1]]]).logits[0]

    full = really(kept)
    expected = [really([each for each in kept if each != token]) - full for token in kept]
    np.testing.assert_allclose(np.array(found.deletion["tokens"]), expected, atol=1e-5)
    order = found.faithfulness["deletion"]["order"]
    assert sorted(order) == list(range(len(kept)))  # numbers of the answer's own tokens
    left = really([kept[place] for place in range(len(kept)) if place not in order[:3]]).astype(np.float64)
    label = ("negative", "positive").index(found.faithfulness["label"])
    expected_score = np.exp(left[label]) / np.exp(left).sum()
    assert found.faithfulness["deletion"]["scores"][2] == pytest.approx(expected_score, abs=1e-5)


def test_many_inputs_are_measured_as_each_alone(tmp_path: Path) -> None:
    model = load(tmp_path)
    texts = [TEXT, "great", "It was not dull ! " * 12, "a bad film"]
    assert sum(len(model.encode(text, truncate=False)) ** 2 for text in texts) > 1000
    together, alone = measured(model, texts), [measured(model, [text])[0] for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert one.faithfulness is not None
        assert other.faithfulness is not None
        assert one.deletion is not None
        assert other.deletion is not None
        assert one.faithfulness["deletion"]["order"] == other.faithfulness["deletion"]["order"]
        np.testing.assert_allclose(
            one.faithfulness["deletion"]["scores"], other.faithfulness["deletion"]["scores"], atol=1e-6
        )
        np.testing.assert_allclose(np.array(one.deletion["tokens"]), np.array(other.deletion["tokens"]), atol=1e-6)


def test_what_cannot_be_measured_is_refused_before_any_work(tmp_path: Path) -> None:
    tagger, classifier = load(tmp_path / "t", task="ner").bundle.manifest, load(tmp_path / "c").bundle.manifest
    for wanted, pointer in (
        (MeasureOptions(faithfulness=True), "/faithfulness"),
        (MeasureOptions(deletion=True), "/deletion"),
    ):
        with pytest.raises(InvalidField) as refused:
            check(tagger, wanted, None)
        assert refused.value.problems[0].pointer == pointer
        check(tagger, wanted, 0, [MAX_TOKENS])
        with pytest.raises(TooLarge, match=f"{MAX_TOKENS + 1}, the limit is {MAX_TOKENS}"):
            check(classifier, wanted, None, [3, MAX_TOKENS + 1])
    check(classifier, MeasureOptions(), None, [100_000])
    with pytest.raises(TooLarge, match="the limit is 500000"):
        check(classifier, BOTH, None, [MAX_TOKENS] * 10)
