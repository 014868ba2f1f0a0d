"""docs/explanation/weights.md names every tensor of every bundle, with its type and number of axes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from service.model.weights_layout import STACKING
from tests.bundles import ORIGIN, Options, architecture, network, tiny_bundle, tokenizer
from tests.integration.conftest import ROOT
from training.export.bundle import export

PAGE = (ROOT / "docs" / "explanation" / "weights.md").read_text(encoding="utf-8")
MADE = sorted(path.parent for path in (ROOT / "models").glob("*/*/weights.safetensors"))
SHIPPED = [bundle for bundle in MADE if not bundle.parent.name.startswith("my-")]


def described(bundle: Path) -> None:
    """Every tensor stands in a row of a table, with as many axes as it has."""
    features = "|".join(each["name"] for each in json.loads((bundle / "model.json").read_text("utf-8"))["features"])
    with safe_open(bundle / "weights.safetensors", "np") as file:
        for name in file.keys():  # noqa: SIM118  # it is no mapping
            general = re.sub(r"recurrent\.\d+", "recurrent.N", name)
            plain = re.sub(rf"embedding\.({features})$", "embedding.FEATURE", general)
            rows = [row for row in PAGE.splitlines() if f"`{general}`" in row or f"`{plain}`" in row]
            assert rows, name
            axes = {shape.count(",") + 1 for row in rows for shape in re.findall(r"\[([^\]]*)\]", row)}
            assert len(file.get_slice(name).get_shape()) in axes or "bidirectional LSTM" in rows[0], name


@pytest.mark.parametrize("bundle", SHIPPED, ids=lambda path: path.parent.name)
def test_every_tensor_of_a_shipped_model_is_described(bundle: Path) -> None:
    described(bundle)


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "peephole", "layers": 2},
        {"cell": "peephole-full"},
        {"cell": "mingru", "bidirectional": False},
        {"cell": "minlstm", "layers": 2},
        {"cell": "gru-before", "head": "attention"},
        {"task": "ner", "characters": "lstm", "crf": True},
        {"task": "ner", "characters": "cnn", "word_bits": 4},
        {"word_bits": 8},
    ],
    ids=str,
)
def test_every_tensor_of_another_bundle_is_described(tmp_path: Path, options: Options) -> None:
    described(tiny_bundle(tmp_path / "small", **options).path)


def test_every_tensor_of_integers_is_described(tmp_path: Path) -> None:
    made = network(architecture(), 7)
    described(
        export(
            made, tokenizer(made.architecture), ORIGIN, "CC0-1.0", tmp_path / "small", lambda _: [], precision="int8"
        ).path
    )


def test_the_order_of_the_gates_is_the_exporters() -> None:
    for cell, order in STACKING.items():
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{cell}` |")]
        assert row.split("|")[2].strip() == ", ".join(order)
