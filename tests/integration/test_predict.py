"""`/predict` over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.http.schemas.responses import Predictions

TEXTS = [
    "A great film.",
    "It 's not bad, and the end is very good",
    "a",
    "Ada Lovelace lived in London. " * 40,
    "the film of the film of the film is a film",
    "bad",
]
UNICODE = [
    "👩‍👩‍👧 Ada lives 🎉 in\tLondon\n\nnow",
    "cafe\u0301 nai\u0308ve re\u0301sume\u0301 in London",
    "艾达·洛夫莱斯住在伦敦。Ada 東京",
    "\u202eright to left\u202c and שלום עליכם",
    "don't It's can't l'été",
    "\U0001d49c\U0001d4b9\U0001d4b6 🇬🇧🇫🇷 1️⃣",
]


def predict(client: httpx.Client, **request: Any) -> dict[str, Any]:
    response = client.post("/predict", json=request)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    Predictions.model_validate_json(response.content)
    return answer


def test_the_default_is_sentiments(client: httpx.Client) -> None:
    answer = predict(client, inputs="A great film.")
    assert (answer["model"], answer["version"], answer["task"]) == ("sentiment-bilstm", "1", "sentiment")
    (prediction,) = answer["predictions"]
    assert prediction["truncated"] is False
    assert sum(prediction["scores"].values()) == pytest.approx(1)
    assert prediction["score"] == max(prediction["scores"].values()) == prediction["scores"][prediction["label"]]


def test_a_task_picks_its_default(client: httpx.Client) -> None:
    assert predict(client, task="ner", inputs="Ada")["model"] == "ner-bilstm"
    assert predict(client, task="sentiment", inputs="Ada")["model"] == "sentiment-bilstm"
    assert predict(client, task="ner", model="ner-bigru", inputs="Ada")["model"] == "ner-bigru"


def test_one_prediction_an_input_in_order(client: httpx.Client) -> None:
    alone = [predict(client, inputs=text)["predictions"] for text in TEXTS]
    assert predict(client, inputs=TEXTS)["predictions"] == [one for (one,) in alone]


@pytest.mark.parametrize("model", ["sentiment-bilstm", "sentiment-bigru", "sentiment-lstm", "ner-bilstm", "ner-bigru"])
def test_alone_or_in_any_batch_the_same_answer(client: httpx.Client, model: str) -> None:
    alone = {text: predict(client, model=model, inputs=text, tokens=True)["predictions"][0] for text in TEXTS}
    with ThreadPoolExecutor(8) as pool:
        batches = [TEXTS[number % 6 :] + TEXTS[: number % 3] for number in range(48)]
        answers = pool.map(lambda batch: predict(client, model=model, inputs=batch, tokens=True), batches)
        for batch, answer in zip(batches, answers, strict=True):
            assert answer["predictions"] == [alone[text] for text in batch]


@pytest.mark.parametrize("text", UNICODE)
def test_offsets_are_code_points_of_the_text_as_sent(client: httpx.Client, text: str) -> None:
    (prediction,) = predict(client, task="ner", inputs=text, tokens=True)["predictions"]
    assert prediction["tokens"]
    for found in [*prediction["tokens"], *prediction["entities"]]:
        assert found["text"] == text[found["start"] : found["end"]]
    for entity in prediction["entities"]:
        tokens = prediction["tokens"][entity["token_start"] : entity["token_end"]]
        assert (entity["start"], entity["end"]) == (tokens[0]["start"], tokens[-1]["end"])


def test_a_token_sent_is_one_row(client: httpx.Client) -> None:
    sent = ["Ada", "Lovelace", "New York", "don't", "  ", "👩‍👩‍👧"]
    (prediction,) = predict(client, task="ner", inputs=[sent], tokens=True)["predictions"]
    assert [token["text"] for token in prediction["tokens"]] == sent
    joined = " ".join(sent)
    assert all(token["text"] == joined[token["start"] : token["end"]] for token in prediction["tokens"])


def test_raw_text_and_its_tokens_give_the_same(client: httpx.Client) -> None:
    text = "A great film , not bad"
    raw, tokens = predict(client, inputs=[text, text.split()])["predictions"]
    assert raw == tokens


def test_tokens_only_where_asked_for(client: httpx.Client) -> None:
    (prediction,) = predict(client, task="ner", inputs="Ada lived")["predictions"]
    assert "tokens" not in prediction


def test_truncate_keeps_the_head(client: httpx.Client) -> None:
    long, head = "good " * 5000, "good " * 4096
    cut, whole = predict(client, inputs=[long, head], truncate=True)["predictions"]
    assert cut == {**whole, "truncated": True}
    assert whole["truncated"] is False


def test_many_inputs_at_once(client: httpx.Client) -> None:
    answer = predict(client, task="ner", inputs=["Ada lived in London . " * (1 + number % 50) for number in range(256)])
    assert len(answer["predictions"]) == 256


def test_request_ids(client: httpx.Client) -> None:
    sent = {"X-Request-ID": "abc-123~!"}
    assert client.post("/predict", json={"inputs": "a"}, headers=sent).headers["X-Request-ID"] == "abc-123~!"
    for bad in (b"", b"a b", b"x" * 129, "é".encode()):
        made = client.get("/health/live", headers={b"X-Request-ID": bad}).headers["X-Request-ID"]
        assert len(made) == 32
    first, second = (client.get("/models").headers["X-Request-ID"] for _ in range(2))
    assert first != second


def test_content_types_that_are_json(client: httpx.Client) -> None:
    for content_type in ("application/json", "Application/JSON; charset=UTF-8", 'application/ld+json;charset="utf-8"'):
        response = client.post("/predict", content=b'{"inputs":"a"}', headers={"Content-Type": content_type})
        assert response.status_code == 200, content_type
