"""The versions of a model that are served, and their shares of the requests: the settings' own grammar.

    versions  latest:2 | all | NAME=1+3, NAME=latest:2, NAME=all      separated by commas
    canary    NAME=4:0.1, NAME=4:0.1+5:0.2                            share of the requests that name no version
    shadow    NAME=4, NAME=4:0.25                                     share of the requests that are run again

Every mistake raises `ValueError` with one line: the entry, the fault, and the right form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

MAX_VERSION = 10**9
"""The highest version number that can be named."""
MAX_LATEST = 100
"""The most versions of one name that `latest:N` keeps loaded."""

_NUMBER = re.compile(r"[1-9]\d{0,9}")
_LATEST = re.compile(r"latest:(\d{1,9})")
_SHARE = re.compile(r"\d{1,3}(\.\d{1,12})?|\.\d{1,12}")
_ROUNDING = 1e-9
"""How far over 1 a sum of shares may be: decimal fractions are not exact in binary."""

_VERSIONS = "latest:N, all, or NAME=1+3"
_CANARY = "NAME=VERSION:SHARE, such as sentiment-lstm=4:0.1"
_SHADOW = "NAME=VERSION or NAME=VERSION:SHARE, such as sentiment-lstm=4:0.25"


@dataclass(frozen=True, slots=True)
class Rule:
    """The served versions of one name, beside canary and shadow: the highest `latest` versions, those `listed`, or all
    if neither is given."""

    latest: int | None = None
    listed: tuple[int, ...] = ()

    def __str__(self) -> str:
        return "+".join(map(str, self.listed)) or ("all" if self.latest is None else f"latest:{self.latest}")


NEWEST = Rule(latest=1)
"""The default: the highest version alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of one name. `canary` is share by version, `shadow` a version and its share of the requests."""

    rule: Rule = NEWEST
    canary: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    shadow: tuple[int, float] | None = None

    @property
    def extra(self) -> frozenset[int]:
        """The versions that are loaded in addition, and never count as latest."""
        return frozenset(version for setting, version in self.named if setting != "versions")

    @property
    def named(self) -> list[tuple[str, int]]:
        """Every version that the plan names, and that therefore has to be there, with the setting that names it."""
        shadow = [("shadow", self.shadow[0])] if self.shadow else []
        return [
            *(("versions", each) for each in self.rule.listed),
            *(("canary", each) for each in self.canary),
            *shadow,
        ]

    def without(self, version: int) -> Plan:
        """The same plan, with a version neither canary nor shadow."""
        canary = {each: share for each, share in self.canary.items() if each != version}
        shadow = None if self.shadow and self.shadow[0] == version else self.shadow
        return replace(self, canary=MappingProxyType(canary), shadow=shadow)

    def plain(self) -> dict[str, Any]:
        """The plan as plain JSON values, for `restored`."""
        return {
            "versions": str(self.rule),
            "canary": [[version, share] for version, share in self.canary.items()],
            "shadow": list(self.shadow) if self.shadow else None,
        }


@dataclass(frozen=True, slots=True)
class Rollout:
    """The plans of all names: `plans` of those that the settings name, `rule` for every other."""

    rule: Rule = NEWEST
    plans: Mapping[str, Plan] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, name: str) -> Plan:
        """The plan of a name."""
        return self.plans.get(name) or Plan(self.rule)


def restored(plain: Mapping[str, Any]) -> Plan:
    """A plan from its plain values."""
    shadow = plain["shadow"]
    canary = {int(version): float(share) for version, share in plain["canary"]}
    return Plan(
        read_rule(plain["versions"]), MappingProxyType(canary), (int(shadow[0]), float(shadow[1])) if shadow else None
    )


def read(versions: str, canary: str, shadow: str) -> Rollout:
    """The plans of the three settings together. Raises `ValueError`; its line begins with the setting's name."""
    rule, rules = _read_versions(versions)
    canaries, shadows = _read_canaries(canary), _read_shadows(shadow)
    plans = {
        name: Plan(rules.get(name, rule), MappingProxyType(canaries.get(name, {})), shadows.get(name))
        for name in sorted({*rules, *canaries, *shadows})
    }
    for name, plan in plans.items():
        if problem := conflict(plan):
            raise ValueError(f"{'canary and shadow' if plan.shadow else 'canary'}: {name}: {problem}")
    return Rollout(rule, MappingProxyType(plans))


def conflict(plan: Plan) -> str | None:
    """The contradiction in a plan; None if there is none."""
    total = math.fsum(plan.canary.values())
    if total > 1 + _ROUNDING:
        return f"the canaries' shares sum to {total:g}; at most 1 is right, and the stable version gets the rest"
    if plan.shadow and plan.shadow[0] in plan.canary:
        return f"version {plan.shadow[0]} is both canary and shadow; it can be one of them"
    return None


def read_rule(text: str) -> Rule:
    """One rule: ``latest:N``, ``all`` or ``1+3``. Raises `ValueError`."""
    if text == "all":
        return Rule()
    if found := _LATEST.fullmatch(text):
        latest = int(found[1])
        if not 1 <= latest <= MAX_LATEST:
            raise ValueError(f"{text!r}: N is a whole number from 1 to {MAX_LATEST}")
        return Rule(latest=latest)
    listed = [_version(each.strip(), text) for each in text.split("+")]
    if len(set(listed)) < len(listed):
        raise ValueError(f"{text!r} names a version twice")
    return Rule(listed=tuple(sorted(listed)))


def position(name: str, key: str) -> float:
    """The position of a key in [0, 1) for a model's canaries: the same in every process, and evenly spread."""
    digest = blake2b(f"{name}\0{key}".encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)  # 53 bits would do; 56 divide exactly enough to stay under 1


def _read_versions(text: str) -> tuple[Rule, dict[str, Rule]]:
    general: Rule | None = None
    rules: dict[str, Rule] = {}
    for entry in _entries(text):
        try:
            if "=" not in entry:
                if _NUMBER.fullmatch(entry.split("+")[0].strip()):
                    raise ValueError(f"{entry!r} names no model; write NAME={entry}")
                if general is not None:
                    raise ValueError(f"{entry!r} is a second rule for every model")
                general = read_rule(entry)
                continue
            name, rule = _named(entry, _VERSIONS)
            if name in rules:
                raise ValueError(f"{name!r} stands twice; join its versions with +, as in {name}=1+3")
            rules[name] = read_rule(rule)
        except ValueError as error:
            raise ValueError(f"versions: {error} ({_VERSIONS})") from None
    return general or NEWEST, rules


def _read_canaries(text: str) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    try:
        for entry in _entries(text):
            name, parts = _named(entry, _CANARY)
            for part in parts.split("+"):
                version, colon, share = part.strip().partition(":")
                number = _version(version, entry)
                if not colon:
                    raise ValueError(f"{entry!r} has no share; write {name}={version}:0.1 for a tenth of the requests")
                if number in found.setdefault(name, {}):
                    raise ValueError(f"version {number} of {name!r} stands twice")
                found[name][number] = _share(share, entry)
    except ValueError as error:
        raise ValueError(f"canary: {error} ({_CANARY})") from None
    return found


def _read_shadows(text: str) -> dict[str, tuple[int, float]]:
    found: dict[str, tuple[int, float]] = {}
    try:
        for entry in _entries(text):
            name, part = _named(entry, _SHADOW)
            version, colon, share = part.partition(":")
            if name in found:
                raise ValueError(f"{name!r} stands twice; a model has one shadow")
            part_of = _share(share, entry) if colon else 1.0
            if not part_of:
                raise ValueError(f"{entry!r}: a share of 0 is no shadow; leave the entry out")
            found[name] = _version(version, entry), part_of
    except ValueError as error:
        raise ValueError(f"shadow: {error} ({_SHADOW})") from None
    return found


def _entries(text: str) -> Iterator[str]:
    for entry in text.split(","):
        if entry.strip():
            yield entry.strip()


def _named(entry: str, right: str) -> tuple[str, str]:
    name, equals, rest = (part.strip() for part in entry.partition("="))
    if not (name and equals and rest):
        raise ValueError(f"{entry!r} is not {right.split(', such as')[0]}")
    return name, rest


def _version(text: str, entry: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > MAX_VERSION:
        raise ValueError(f"{entry!r}: {text!r} is no version, a whole number from 1 to {MAX_VERSION}")
    return int(text)


def _share(text: str, entry: str) -> float:
    if not _SHARE.fullmatch(text.strip()) or float(text) > 1:
        raise ValueError(f"{entry!r}: {text.strip()!r} is no share, a number from 0 to 1 such as 0.1")
    return float(text)
