"""The layout of the weights file has one owner, and its names and orders fit the operators that read the file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from service.model import weights_layout
from service.model.equations import CellName
from service.model.weights_layout import INT8_BOUNDS, PEEPHOLES, STACKING, fine_name, layer_name, scale_name, table_name

ROOT = Path(__file__).parents[3]
OWNER = Path(weights_layout.__file__)
PAGE = (ROOT / "docs" / "explanation" / "weights.md").read_text(encoding="utf-8")


def literals(path: Path) -> Iterator[str]:
    """The strings of a module, without its docstrings; of an f-string its literal parts."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def tuples(path: Path) -> Iterator[tuple[object, ...]]:
    """The tuples and lists of constants in a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple | ast.List) and all(isinstance(each, ast.Constant) for each in node.elts):
            yield tuple(each.value for each in node.elts if isinstance(each, ast.Constant))


def modules() -> list[Path]:
    found = [path for folder in ("service", "training") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert OWNER in found
    return [path for path in found if path != OWNER]


def test_no_other_module_spells_a_name_of_a_tensor() -> None:
    name = re.compile(r"(recurrent|embedding|character)\.|head\.(weight|bias|query)$")
    assert not [(path.name, text) for path in modules() for text in literals(path) if name.match(text)]


def test_no_other_module_repeats_an_order_that_is_onnxs_own() -> None:
    orders = {STACKING["lstm"], STACKING["gru"], PEEPHOLES}
    assert not [(path.name, order) for path in modules() for order in tuples(path) if order in orders]


def test_every_cell_has_an_order() -> None:
    assert STACKING.keys() == set(get_args(CellName))
    assert all(len(set(order)) == len(order) for order in STACKING.values())
    assert set(PEEPHOLES) < set(STACKING["peephole"])


def test_the_page_has_the_same_orders_and_bounds() -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `peephole` |")]
    assert row.split("|")[3].strip() == ", ".join(PEEPHOLES)
    assert f"[directions, inputs + {INT8_BOUNDS}, 4 × (units + {INT8_BOUNDS})]" in PAGE


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (layer_name(3), "recurrent.3"),
        (table_name("shape"), "embedding.shape"),
        (scale_name("recurrent.0.W"), "recurrent.0.W.scale"),
        (fine_name(weights_layout.WORDS), "embedding.word.fine"),
    ],
)
def test_names_are_those_of_files_on_disk(made: str, name: str) -> None:
    assert made == name
