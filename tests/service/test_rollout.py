"""The grammar of `versions`, `canary` and `shadow`, and where a key stands."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.rollout import MAX_LATEST, Plan, Rollout, Rule, conflict, position, read, restored
from service.settings import Settings, SettingsError
from service.settings import read as read_settings


def rules(text: str) -> Rollout:
    return read(text, "", "")


def test_the_default_serves_the_newest() -> None:
    assert Settings(_env_file=None).rollout == Rollout()
    assert Rollout().of("any") == Plan(Rule(latest=1))


def test_rules() -> None:
    assert rules("latest:3").of("x").rule == Rule(latest=3)
    assert rules("all").of("x").rule == Rule()
    found = rules(" a = 1 + 3 ,latest:2, b=all,c=latest:4,d=7, ")
    expected = {"a": Rule(listed=(1, 3)), "b": Rule(), "c": Rule(latest=4), "d": Rule(listed=(7,)), "e": Rule(latest=2)}
    assert {name: found.of(name).rule for name in expected} == expected


def test_canary_and_shadow() -> None:
    found = read("", "a=4:0.1, b=2:.25+3:0.75,a=5:1e0".replace("1e0", "0.9"), "a=6,c=4:0.25")
    assert found.of("a").canary == {4: 0.1, 5: 0.9}
    assert found.of("a").shadow == (6, 1.0)
    assert found.of("a").extra == {4, 5, 6}
    assert found.of("b").canary == {2: 0.25, 3: 0.75}
    assert found.of("c").shadow == (4, 0.25)
    assert read("a=1+3", "a=4:0", "").of("a").named == [("versions", 1), ("versions", 3), ("canary", 4)]
    assert read("", ",".join(f"a={version}:0.1" for version in range(1, 11)), "").of("a").canary[10] == 0.1


@pytest.mark.parametrize(
    ("setting", "text", "said"),
    [
        ("versions", "latest", "'latest'"),
        ("versions", "latest:0", f"from 1 to {MAX_LATEST}"),
        ("versions", "latest:101", f"from 1 to {MAX_LATEST}"),
        ("versions", "latest:-1", "no version"),
        ("versions", "newest:1", "no version"),
        ("versions", "1+3", "write NAME=1+3"),
        ("versions", "3", "write NAME=3"),
        ("versions", "latest:1,all", "second rule"),
        ("versions", "a=1,a=2", "stands twice"),
        ("versions", "a=1+1", "twice"),
        ("versions", "a=0", "whole number from 1"),
        ("versions", "a=01", "whole number from 1"),
        ("versions", "a=1+", "whole number from 1"),
        ("versions", "a=1.5", "whole number from 1"),
        ("versions", "a=9999999999", "whole number from 1"),
        ("versions", "a=", "'a='"),
        ("versions", "=1", "'=1'"),
        ("canary", "a=4", "has no share"),
        ("canary", "a=4:", "no share"),
        ("canary", "a=4:10%", "no share"),
        ("canary", "a=4:1.1", "from 0 to 1"),
        ("canary", "a=4:-0.1", "no share"),
        ("canary", "a=4:nan", "no share"),
        ("canary", "a=4:inf", "no share"),
        ("canary", "a=x:0.1", "no version"),
        ("canary", "a=٤:0.1", "no version"),
        ("canary", "4:0.1", "NAME=VERSION:SHARE"),
        ("canary", "a=4:0.5,a=4:0.1", "stands twice"),
        ("canary", "a=3:0.5+4:0.6", "sum to 1.1"),
        ("canary", "a=3:0.5,a=4:0.6", "sum to 1.1"),
        ("shadow", "a", "NAME=VERSION"),
        ("shadow", "a=4:0", "0 is no shadow"),
        ("shadow", "a=4:2", "from 0 to 1"),
        ("shadow", "a=4,a=5", "one shadow"),
        ("shadow", "a=4+5", "no version"),
    ],
)
def test_mistakes_are_one_line_that_names_the_setting(setting: str, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings({setting: text}, _env_file=None)
    assert str(error.value).startswith(f"{setting}: "), error.value
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_version_is_canary_or_shadow() -> None:
    with pytest.raises(SettingsError, match=r"canary and shadow: a: version 4 is both"):
        read_settings({"canary": "a=4:0.5", "shadow": "a=4"}, _env_file=None)
    assert conflict(Plan(canary={4: 0.5}, shadow=(5, 1.0))) is None


def test_plans_as_plain_values() -> None:
    for plan in (
        Plan(),
        Plan(Rule(listed=(1, 3)), {4: 0.1, 5: 0.2}, (6, 0.5)),
        read("all", "a=2:0.5", "").of("a"),
    ):
        assert restored(plan.plain()) == plan
    assert Plan(canary={4: 0.1}, shadow=(5, 1.0)).without(4).without(5) == Plan()


@given(st.text(max_size=30), st.text(max_size=200))
def test_a_position_is_a_share(name: str, key: str) -> None:
    assert 0 <= position(name, key) < 1
    assert position(name, key) == position(name, key)


def test_positions_are_even_and_differ_by_name() -> None:
    keys = [str(number) for number in range(20_000)]
    for share in (0.01, 0.1, 0.5, 0.9):
        found = sum(position("a", key) < share for key in keys) / len(keys)
        assert abs(found - share) < 5 * math.sqrt(share * (1 - share) / len(keys))
    both = sum(position("a", key) < 0.1 and position("b", key) < 0.1 for key in keys) / len(keys)
    assert both < 0.02, "the keys of one model's canary are not those of another's"
