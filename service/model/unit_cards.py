"""A card for each unit: the tokens of a data file at which it is most active, and the loss of quality without it.

``units.json`` of a bundle holds the cards of all units. It names places of the file by line and token, and the file by
its SHA-256; it holds no text. ``python -m training units`` writes it. A bundle whose cards are damaged, or of another
model, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from service.errors import BundleError
from service.model.bundle import UNITS, WEIGHTS, Manifest
from service.model.equations import Direction
from service.model.json_parts import MOST, SCHEMA_VERSION, Count, Finite, Frozen, SchemaVersion, parsed

MAX_PLACES = 16
"""Places of one unit."""
Place = tuple[Annotated[int, Field(ge=1, le=MOST)], Count, Finite]
"""(line of the file from 1, number of the token in its input from 0, hidden state of the unit there)."""


class LayerCards(Frozen):
    """The units of one direction of one layer; every list has an entry for each unit."""

    layer: Count
    direction: Direction
    places: tuple[Annotated[tuple[Place, ...], Field(max_length=MAX_PLACES)], ...]
    """The tokens with the hidden state farthest from 0, at most one in each input, the farthest first."""
    cost: tuple[Finite, ...]
    """The score with the unit, less the score while its hidden state is held at 0."""
    lost: tuple[Finite, ...]
    """The mean drop, while it is held at 0, of the probability of the labels that the whole model predicts: the softmax
    of the logits, at every answer (a text, or a token of a tagger)."""
    changed: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    """The share of answers that change while it is held at 0."""
    effects: tuple[tuple[Finite, ...], ...] | None = None
    """By unit, how much each logit changes in the mean while it is held at 0. Only layers below the top have it: a unit
    of the top layer has its weights."""


class Cards(Frozen):
    """The content of ``units.json``."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    data: Annotated[str, Field(min_length=1, max_length=256)]
    """The corpus and its split."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """The SHA-256 of the data file, as it lies on disk."""
    weights: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """The SHA-256 of the weights that the cards were made from; None in cards from before that was kept."""
    inputs: Annotated[int, Field(ge=1, le=MOST)]
    """Inputs of the file, among which the places are."""
    ablated: Annotated[int, Field(ge=1, le=MOST)]
    """Inputs over which losses and changes were measured, drawn with `seed`."""
    seed: Annotated[int, Field(ge=0, le=MOST)]
    metric: Literal["accuracy", "f1"]
    score: Annotated[float, Field(ge=0, le=1)]
    """The score of the whole model, over the same inputs."""
    layers: tuple[LayerCards, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for each in self.layers:
            units = {len(each.places), len(each.cost), len(each.lost), len(each.changed)}
            if each.effects is not None:
                units.add(len(each.effects))
            if len(units) != 1:
                raise ValueError("every list of a layer has an entry for each unit")
        return self

    def of(self, layer: int, direction: Direction) -> LayerCards:
        """The cards of one direction of a layer."""
        return next(each for each in self.layers if (each.layer, each.direction) == (layer, direction))


def read(content: memoryview | bytes, manifest: Manifest) -> Cards:
    """Cards from the bytes of ``units.json``. Raises `BundleError` where they are not those of this model's units."""
    cards = parsed(Cards, content, UNITS)
    found = [(each.layer, each.direction) for each in cards.layers]
    if found != keys(manifest):
        raise BundleError(f"{UNITS} has the cards of {_told(found)}; the model has {_told(keys(manifest))}")
    for each in cards.layers:
        if len(each.places) != manifest.hidden:
            raise BundleError(f"{UNITS} has {len(each.places)} units in a layer; the model has {manifest.hidden}")
        if each.effects is not None and {len(row) for row in each.effects} != {len(manifest.labels)}:
            raise BundleError(f"{UNITS} has effects on other labels than the model's {len(manifest.labels)}")
    own = manifest.files[WEIGHTS]
    if cards.weights is not None and cards.weights != own:
        raise BundleError(
            f"{UNITS} is of the weights {cards.weights[:12]}…, the bundle has {own[:12]}…: make the cards anew with "
            "python -m training units"
        )
    return cards


def _told(found: Sequence[tuple[int, Direction]]) -> str:
    shown = ", ".join(f"layer {layer} {direction}" for layer, direction in found[:8]) or "no layer"
    return shown + (f" and {len(found) - 8} more" if len(found) > 8 else "")


def keys(manifest: Manifest) -> list[tuple[int, Direction]]:
    """Every (layer, direction) of a model, in the order of its cards."""
    return [(layer, direction) for layer in range(manifest.layers) for direction in manifest.directions]


def weights(
    manifest: Manifest, head: NDArray[np.float32], layer: int, direction: Direction, unit: int
) -> Sequence[float] | None:
    """The direction of a unit in the logits: how much each logit gains for each 1 of its hidden state, by the weights
    [labels, units of all directions] of the head. None below the top layer, whose states the head does not see."""
    if layer != manifest.layers - 1:
        return None
    column = manifest.directions.index(direction) * manifest.hidden + unit
    found: list[float] = head[:, column].astype(np.float64).tolist()
    return found


def card(
    manifest: Manifest, head: NDArray[np.float32], cards: Cards | None, layer: int, direction: Direction, unit: int
) -> dict[str, object]:
    """The card of one unit, in plain values for JSON. Without cards it has the unit's direction in the logits alone."""
    gains = weights(manifest, head, layer, direction, unit)
    found: dict[str, object] = {"layer": layer, "direction": direction, "unit": unit}
    found["logits"] = None if gains is None else dict(zip(manifest.labels, gains, strict=True))
    if cards is None:
        return {**found, "data": None, "places": None, "ablation": None}
    mine = cards.of(layer, direction)
    effects = None if mine.effects is None else dict(zip(manifest.labels, mine.effects[unit], strict=True))
    return {
        **found,
        "data": {"name": cards.data, "sha256": cards.sha256, "inputs": cards.inputs},
        "places": [{"line": line, "token": token, "value": value} for line, token, value in mine.places[unit]],
        "ablation": {
            "inputs": cards.ablated,
            "metric": cards.metric,
            "score": cards.score,
            "cost": mine.cost[unit],
            "lost": mine.lost[unit],
            "changed": mine.changed[unit],
            "effects": effects,
        },
    }
