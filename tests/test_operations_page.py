"""docs/operations.md names every metric, every reason and every limit there is, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.errors import Refusal
from service.observability.metrics import FAMILIES, PREFIX
from service.settings import Settings

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_every_metric_is_described(name: str) -> None:
    if name.startswith(("gate_", "model_quality")):
        pytest.skip("of the models, not of their operation")
    assert f"`{PREFIX}{name}`" in PAGE


def test_no_metric_is_described_that_is_not_there() -> None:
    named = set(re.findall(rf"`{PREFIX}(\w+)`", PAGE))
    assert named <= {family.name for family in FAMILIES}


def test_settings_on_the_page_exist_with_the_defaults_that_it_says() -> None:
    rows = dict(re.findall(r"^\| [^|]+ \| `([a-z-]+)` \| ([\d,.]+)", PAGE, flags=re.M))
    assert len(rows) >= 7
    for flag, default in rows.items():
        actual = Settings.model_fields[flag.replace("-", "_")].default
        assert float(default.replace(",", "")) in (actual, actual / 1024**2), flag


@pytest.mark.parametrize("reason", [reason for reason in Refusal if reason is not Refusal.INTERNAL])
def test_every_reason_of_a_refusal_is_on_the_page(reason: Refusal) -> None:
    assert f"`{reason}`" in PAGE
