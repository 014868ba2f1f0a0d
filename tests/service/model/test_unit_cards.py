"""Cards of units: what their file may hold, and what a card says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import BundleError
from service.http.schemas import responses
from service.model import bundle, unit_cards
from service.model.bundle import LIMITS, UNITS, WEIGHTS, Bundle
from service.model.engine import Engine
from service.model.loading import loader
from tests.bundles import tiny_bundle
from tests.integration.conftest import ROOT
from training.export.writing import replace_manifest


def document(made: Bundle) -> dict[str, Any]:
    """A valid file for a bundle."""
    manifest = made.manifest
    units = range(manifest.hidden)
    layers = [
        {
            "layer": layer,
            "direction": direction,
            "places": [[[unit + 2, 3, 0.5]] for unit in units],
            "cost": [unit / 100 for unit in units],
            "lost": [unit / 1000 for unit in units],
            "changed": [0.25 for _ in units],
            **({"effects": [[0.1] * len(manifest.labels) for _ in units]} if layer < manifest.layers - 1 else {}),
        }
        for layer, direction in unit_cards.keys(manifest)
    ]
    head = {"data": "set dev", "sha256": "0" * 64, "inputs": 9, "ablated": 4, "seed": 1, "metric": "accuracy"}
    return {**head, "score": 0.75, "layers": layers}


def with_cards(made: Bundle, **changed: object) -> Bundle:
    content = json.dumps(document(made) | changed).encode()
    return replace_manifest(made, made.manifest, {UNITS: content})


def test_a_bundle_holds_its_cards_and_they_are_verified(tmp_path: Path) -> None:
    made = with_cards(tiny_bundle(tmp_path / "tiny", layers=2))
    assert made.manifest.file_names[-1] == UNITS
    cards = unit_cards.read(made.content(UNITS), made.manifest)
    assert cards.of(1, "backward").places[3] == ((5, 3, 0.5),)
    assert UNITS in (made.without_contents().contents or {})
    made.file(UNITS).write_text("{}")
    with pytest.raises(BundleError, match=r"^units.json does not match the manifest"):
        bundle.load(made.path)
    made.file(UNITS).unlink()
    with pytest.raises(BundleError, match=r"^units.json: No such file"):
        bundle.load(made.path)


def test_cards_that_the_manifest_does_not_name_are_refused(tmp_path: Path) -> None:
    made = tiny_bundle(tmp_path / "tiny")
    (made.path / UNITS).write_text("{}")
    with pytest.raises(BundleError, match=r"does not name the file 'units\.json'"):
        bundle.load(made.path)


def test_cards_over_the_limit_are_not_even_read(tmp_path: Path) -> None:
    made = with_cards(tiny_bundle(tmp_path / "tiny"))
    with made.file(UNITS).open("r+b") as file:
        file.truncate(LIMITS[UNITS] + 1)
    with pytest.raises(BundleError, match=r"^units.json has 4194305 bytes, the limit is 4194304"):
        bundle.load(made.path)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"sha256": "no"}, "sha256"),
        ({"score": 2}, "score"),
        ({"text": "The film"}, "text"),
        ({"layers": []}, "has the cards of no layer; the model has layer 0 forward, layer 0 backward"),
        ({"weights": "1" * 64}, r"is of the weights 111111111111…, the bundle has [0-9a-f]{12}…: make the cards anew"),
        ({"inputs": 0}, "inputs"),
        ({"metric": "loss"}, "metric"),
        ({"schema_version": True}, "schema_version: Input should be 1, not True"),
    ],
)
def test_what_are_no_cards_of_the_model_is_refused(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    made = tiny_bundle(tmp_path / "tiny")
    with pytest.raises(BundleError, match=reason):
        unit_cards.read(json.dumps(document(made) | changed).encode(), made.manifest)


def test_cards_with_a_name_twice_are_refused(tmp_path: Path) -> None:
    made = tiny_bundle(tmp_path / "tiny")
    twice = json.dumps(document(made)).replace('"seed": ', '"seed": 9, "seed": ', 1).encode()
    with pytest.raises(BundleError, match=r"^units.json: an object names 'seed' twice"):
        unit_cards.read(twice, made.manifest)


@pytest.mark.parametrize(("part", "value"), [("cost", []), ("places", [[[0, 1, 0.5]]] * 8), ("changed", [2.0] * 8)])
def test_layers_that_do_not_fit_are_refused(tmp_path: Path, part: str, value: object) -> None:
    made = tiny_bundle(tmp_path / "tiny")
    wrong = document(made)
    wrong["layers"][0][part] = value
    with pytest.raises(BundleError, match=r"^units.json: "):
        unit_cards.read(json.dumps(wrong).encode(), made.manifest)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"\xff\xfe", b"[" * 100_000, b'{"score": NaN}', b'{"score": 1e999}']
)
def test_content_that_is_no_document_is_refused(tmp_path: Path, content: bytes) -> None:
    made = tiny_bundle(tmp_path / "tiny")
    with pytest.raises(BundleError, match=r"^units.json: "):
        unit_cards.read(content, made.manifest)


def test_a_model_is_loaded_with_its_own_cards_or_none(tmp_path: Path) -> None:
    load = loader("cpu", threads=1, token_limit=100)
    made = tiny_bundle(tmp_path / "tiny")
    assert load(made).card(0, "forward", 3)["places"] is None
    own = with_cards(made, weights=made.manifest.files[WEIGHTS])
    assert load(own).card(0, "forward", 3)["places"] == [{"line": 5, "token": 3, "value": 0.5}]
    with pytest.raises(BundleError, match="is of the weights"):
        load(with_cards(made, weights="1" * 64))


def test_cards_of_another_model_are_refused(tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path / "other", hidden=16)
    made = tiny_bundle(tmp_path / "tiny")
    with pytest.raises(BundleError, match="has 16 units in a layer; the model has 8"):
        unit_cards.read(json.dumps(document(other)).encode(), made.manifest)


def test_the_direction_in_the_logits_is_what_a_unit_adds(tmp_path: Path) -> None:
    """Against the head: its logits with 1 more in a unit's state, less its logits without."""
    made = tiny_bundle(tmp_path / "tiny", head="mean", layers=2)
    engine = Engine(made)
    states = np.zeros((1, 16), np.float32)
    states[0, 8 + 5] = 1  # unit 5 of the backward direction
    gain = engine.network.logits(states) - engine.network.logits(0 * states)
    found = unit_cards.card(made.manifest, engine.head_weight, None, 1, "backward", 5)
    assert found["logits"] == pytest.approx(dict(zip(made.manifest.labels, gain.tolist(), strict=True)), abs=1e-6)
    assert unit_cards.card(made.manifest, engine.head_weight, None, 0, "backward", 5)["logits"] is None


def test_the_reference_page_names_every_field() -> None:
    page = (ROOT / "docs" / "reference" / "unit-cards.md").read_text("utf-8")
    routes, file = page.split("## The file")
    answers = (responses.UnitCard, responses.CardData, responses.Place, responses.Ablation)
    for name in [name for shape in answers for name in shape.model_fields]:
        assert re.search(rf"`{name}`|\"{name}\"", routes), name
    for name in [*unit_cards.Cards.model_fields, *unit_cards.LayerCards.model_fields]:
        assert f"`{name}`" in file, name
    assert f"at most {LIMITS[UNITS] >> 20} MiB" in file
    assert f"at most {unit_cards.MAX_PLACES} |" in file
