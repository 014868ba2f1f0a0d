"""The models that ship, as they are served: their gates obey their equations, and they know the obvious."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest

from service.model import bundle as bundles
from service.model.bundle import CARD, MAX_BYTES, MODEL_GRAPH, TOKENIZER, Bundle
from service.model.engine import Engine
from service.model.equations import MINIMAL, one_graph
from service.model.tokenizer import Tokenizer
from tests import deviation
from tests.integration.conftest import ROOT, Process, Start
from training.export.card import render

MODELS = ROOT / "models"
SHIPPED = [
    bundles.load(MODELS / name / str(versions[-1]))
    for name, versions in bundles.discover(MODELS)
    if not name.startswith("my-")
]
GATES_CHECK = ROOT.parent / "shared" / "checks" / "gates.py"

shipped = pytest.mark.parametrize("bundle", SHIPPED, ids=[bundle.name for bundle in SHIPPED])


def ask(served: Process, model: str, *inputs: str) -> list[dict[str, object]]:
    answer = served.client.post("/predict", json={"model": model, "inputs": list(inputs)})
    assert answer.status_code == 200, answer.text
    predictions: list[dict[str, object]] = answer.json()["predictions"]
    return predictions


def test_eight_models_ship() -> None:
    names = {f"{task}-{way}{cell}" for task in ("sentiment", "ner") for way in ("", "bi") for cell in ("lstm", "gru")}
    assert names <= {bundle.name for bundle in SHIPPED}


def test_both_tasks_have_a_model_without_feedback() -> None:
    assert {bundle.manifest.task for bundle in SHIPPED if bundle.manifest.cell in MINIMAL} == {"sentiment", "ner"}


LARGE = {"ner-bilstm-conll2003": 12_000_000}
"""Models that are no default and gain a point of F1 by their size: docs/quality.md has the figures."""


@shipped
def test_a_bundle_is_small_and_its_card_says_where_it_came_from(bundle: Bundle) -> None:
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) <= LARGE.get(bundle.name, MAX_BYTES)
    card = bundle.file(CARD).read_text(encoding="utf-8")
    for heading in ("## Data and training", "## Figures", "## Limits", "| licence |"):
        assert heading in card
    for score in bundle.manifest.quality:
        assert f"{score.value:.4f}" in card
    # Data is named below $DATA, never by a folder of the machine that trained it.
    assert "$DATA/" in bundle.manifest.origin.command
    assert not any(word.startswith("/") for word in bundle.manifest.origin.command.split())


@shipped
def test_served_graphs_name_the_inputs_that_they_rely_on(bundle: Bundle) -> None:
    for name in {MODEL_GRAPH, bundle.manifest.gates_graph}:
        graph = onnx.load(bundle.file(name), load_external_data=False)
        fused = [node for node in graph.graph.node if node.op_type in {"LSTM", "GRU", "RNN"}]
        expected = "sequence_lens" if any(any(node.input[4:5]) for node in fused) else ""
        assert {each.key: each.value for each in graph.metadata_props} == {"relies_on": expected}
    # A bundle without `sequence_lens` must not be described as if it had it.
    told = Engine(bundle).relies_on
    assert told == (() if one_graph(bundle.manifest.cell, bundle.manifest.form) else ("sequence_lens",))
    assert bundle.file(CARD).read_text(encoding="utf-8") == render(bundle.name, bundle.manifest)


@shipped
def test_a_tokenizer_has_the_style_of_the_main_corpus(bundle: Bundle) -> None:
    style = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features).style
    assert bundle.manifest.style == style
    others = "ewt" if bundle.manifest.task == "ner" else "web"
    assert style == {"ner-bilstm-conll2003": "conll", "sentiment-bilstm": "reviews"}.get(bundle.name, others)


@shipped
def test_every_returned_gate_obeys_its_equation(bundle: Bundle, served: Process) -> None:
    task = bundle.manifest.task
    inputs = deviation.sentences([deviation.EXAMPLES[task]], task)[:40]
    worst = deviation.of_model(served.client, bundle, inputs)
    assert max(worst.values()) < 1e-5, worst


SPLIT = [each.name for each in SHIPPED if each.manifest.cell != "rnn"]


@pytest.mark.parametrize("name", SPLIT)
def test_the_effect_of_a_deletion_is_that_of_deleting(name: str, served: Process) -> None:
    """A minimal cell of one layer says it in closed form, in two directions and with a window of words too."""
    words = ["The", "plot", "by", "Ada", "King", "is", "not", "good", ",", "but", "I", "loved", "it", "."]
    (manifest,) = (each.manifest for each in SHIPPED if each.name == name)
    explain = {} if manifest.task == "sentiment" else {"explain": 4}
    request = {"model": name, "inputs": [words], **explain}

    def logits(**more: object) -> np.ndarray:
        (trace,) = served.client.post("/gates", json={**request, **more}).raise_for_status().json()["traces"]
        return np.array(trace["contributions"]["logits"])

    body = {**request, "deletion": True}
    effects = served.client.post("/gates", json=body).raise_for_status().json()["traces"][0]["deletion_effects"]
    assert effects["exact"] == (manifest.cell in MINIMAL)
    full = logits()
    for token, change in enumerate(effects["tokens"]):
        if token == explain.get("explain"):
            assert change is None
        else:
            np.testing.assert_allclose(change, logits(drop=[token]) - full, atol=2e-5)


@shipped
def test_raw_text_and_its_tokens_arrive_at_the_same_answer(bundle: Bundle, served: Process) -> None:
    text = "I don't think it's Ada's, but Mr. Smith can't say."
    tokens = ["I", "do", "n't", "think", "it", "'s", "Ada", "'s", ",", "but", "Mr.", "Smith", "ca", "n't", "say", "."]
    body = {"model": bundle.name, "inputs": [text, tokens], "decimals": None, "contributions": False}
    raw, given = served.client.post("/gates", json=body).json()["traces"]
    assert [token["text"] for token in raw["tokens"]] == tokens
    assert raw["layers"] == given["layers"]


@pytest.mark.parametrize("name", [bundle.name for bundle in SHIPPED if bundle.manifest.task == "sentiment"])
def test_sentiment_models_know_the_obvious(name: str, served: Process) -> None:
    good, bad = ask(served, name, "A wonderful, moving film. I loved it!", "A dull, lifeless mess. I hated it.")
    assert (good["label"], bad["label"]) == ("positive", "negative")


@pytest.mark.parametrize("name", [bundle.name for bundle in SHIPPED if bundle.manifest.task == "ner"])
def test_taggers_know_the_obvious(name: str, served: Process) -> None:
    text = "President George Bush flew to Iraq, and then back to New York."
    (found,) = ask(served, name, text)
    entities = found["entities"]
    assert isinstance(entities, list)
    assert ("LOC", "Iraq") in [(entity["label"], entity["text"]) for entity in entities]
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in entities)


def people(prediction: dict[str, object]) -> list[str]:
    entities = prediction["entities"]
    assert isinstance(entities, list)
    return [entity["text"] for entity in entities if entity["label"] == "PER"]


@pytest.mark.parametrize("name", ["ner-bilstm", "ner-bilstm-conll2003"])
def test_names_with_initials_are_found_in_raw_text_as_in_tokens(name: str, served: Process) -> None:
    text = "President George W. Bush met Samuel L. Jackson."
    tokens = ["President", "George", "W.", "Bush", "met", "Samuel", "L.", "Jackson", "."]
    body = {
        "model": name,
        "inputs": [text, tokens, text.replace("George", "Geo\u00adrge"), text.replace("W.", "W&#46;")],
    }
    raw, given, hyphened, entity = served.client.post("/predict", json=body).json()["predictions"]
    assert people(raw) == people(given) == ["George W. Bush", "Samuel L. Jackson"]
    assert people(hyphened) == ["Geo\u00adrge W. Bush", "Samuel L. Jackson"]
    assert people(entity) == ["George W&#46; Bush", "Samuel L. Jackson"]


@pytest.mark.parametrize(
    ("sent", "plain"),
    [
        ("A wonder\u00adful, mov\u200bing film.", "A wonderful, moving film."),
        ("I can&#39;t recommend this", "I can't recommend this"),
        ("A cafe\u0301 film, nai\u0308ve &amp; good", "A café film, naïve & good"),
        ("Bad. Https://A.B/:D/x Bad, FTP://y.", "Bad. https://a.b Bad, http://y."),
        ("Bad. WWW.X.org/:D/x=3 Bad, Www.y.de.", "Bad. www.x.org Bad, www.y.de."),
    ],
)
def test_what_nobody_sees_changes_no_score(sent: str, plain: str, served: Process) -> None:
    one, other = ask(served, "sentiment-bilstm", sent, plain)
    assert one["scores"] == pytest.approx(other["scores"], abs=1e-6)


@pytest.mark.skipif(not GATES_CHECK.exists(), reason="the outside check of /gates is not beside this checkout")
def test_the_outside_check_of_the_gates_passes(served: Process) -> None:
    done = subprocess.run([sys.executable, GATES_CHECK, served.url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_models_says_what_ships(served: Process) -> None:
    answer: dict[str, object] = served.client.get("/models").json()
    assert answer["default"] == {"sentiment": "sentiment-bilstm", "ner": "ner-bilstm"}


def test_models_tells_what_raw_text_costs_each_tagger(served: Process) -> None:
    listed = {each["name"]: each["raw_text"] for each in served.client.get("/models").json()["models"]}
    for bundle in SHIPPED:
        measured = [each.model_dump(mode="json") for each in bundle.manifest.raw_text]
        assert listed[bundle.name] == measured, bundle.name
        assert served.client.get(f"/models/{bundle.name}").json()["raw_text"] == measured
    assert {name for name, measured in listed.items() if measured} >= {"ner-bilstm", "ner-bilstm-conll2003"}


def test_the_metrics_of_all_of_them_are_few(start: Start) -> None:
    client = start("--gate-sample", "1", models=MODELS).until_ready().client
    for bundle in SHIPPED:
        for path in ("/predict", "/gates"):
            body = {"model": bundle.name, "inputs": ["Ada Lovelace lived in London."] * 2}
            client.post(path, json=body).raise_for_status()
    for path in ("/", "/models", "/v2", "/nowhere"):
        client.get(path)
    text = client.get("/metrics").text
    assert sum(not line.startswith("#") for line in text.splitlines()) <= 330
    assert len(text) <= 43_000
