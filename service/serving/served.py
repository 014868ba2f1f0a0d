"""The loaded versions of one name, and the choice among them for a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypedDict

from service.errors import ModelNotFound, RequestError, VersionNotFound
from service.model.bundle import Task
from service.model.loading import Model
from service.rollout import Plan, position

UNLOADED: Literal[0] = 0
"""The version recorded for a name that was unloaded."""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One version in the models folder. `reason` says why it is not served, without a path of this machine."""

    name: str
    version: int
    ready: bool
    reason: str = ""


class VersionState(TypedDict):
    """One version in `GET /models/NAME`. `share` is its part of the requests without a version, `shadow_share` its part
    of the stable version's requests; both from 0 to 1."""

    version: str
    state: Literal["ready", "refused"]
    share: float
    shadow: bool
    shadow_share: float
    stable: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Served:
    """The loaded versions of one name. `stable` is the highest that is neither canary nor shadow."""

    stable: Model
    versions: Mapping[int, Model]
    """All versions, ascending: the stable one, canaries and the shadow."""
    canary: tuple[tuple[Model, float], ...] = ()
    """The canaries and their shares, ascending by version."""
    shadow: tuple[Model, float] | None = None

    @property
    def name(self) -> str:
        return self.stable.name

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each version's bundle, by its number as text."""
        return {str(number): model.bundle.digest for number, model in self.versions.items()}

    def choose(self, key: str | None) -> Model:
        """The version for a request without one. A key always gets the same version, in every process, and keeps its
        canary when the canary's share grows. Without a key: the stable version."""
        if not self.canary or key is None:
            return self.stable
        at, bound = position(self.name, key), 0.0
        for model, share in self.canary:
            bound += share
            if at < bound:
                return model
        return self.stable

    def get(self, version: str) -> Model:
        """The model of a version. Raises `VersionNotFound`, which lists the loaded versions."""
        for number, model in self.versions.items():
            if str(number) == version:
                return model
        raise VersionNotFound(self.name, version, [str(number) for number in self.versions])

    def shadow_of(self, model: Model, key: str) -> Model | None:
        """The shadow that runs a request answered by `model` again; None if it is not chosen."""
        if self.shadow is None or model is not self.stable:
            return None
        shadow, share = self.shadow
        return shadow if share >= 1 or position(f"{self.name}/shadow", key) < share else None

    def share(self, model: Model) -> float:
        """A version's share of the requests without a version."""
        shares = {id(each): share for each, share in self.canary}
        return max(0.0, 1 - sum(shares.values())) if model is self.stable else shares.get(id(model), 0.0)

    def states(self, refused: Mapping[int, str]) -> list[VersionState]:
        """Every loaded version and every refused one with its reason, ascending."""
        numbers = sorted({*self.versions, *refused})
        return [self._state(number, self.versions.get(number), refused.get(number)) for number in numbers]

    def _state(self, number: int, model: Model | None, reason: str | None) -> VersionState:
        """A version's state; `model` is None for a refused one."""
        shadow = self.shadow[1] if self.shadow is not None and model is self.shadow[0] else 0.0
        return VersionState(
            version=str(number),
            state="refused" if model is None else "ready",
            share=0.0 if model is None else round(self.share(model), 12),
            shadow=shadow > 0,
            shadow_share=shadow,
            stable=model is self.stable,
            reason=reason if model is None else None,
        )


def put_together(stable: Model, others: Mapping[int, Model], plan: Plan) -> tuple[Served, list[str]]:
    """Combine the stable version and others by a plan. Returns them and the plan's problems as texts.

    A canary of another task is left out, and so is a shadow of another task or with other labels.
    """
    problems: list[str] = []
    versions = dict(sorted({**others, stable.bundle.version: stable}.items()))
    for setting, number in plan.named:
        model = versions.get(number) if setting != "versions" else None
        if model is not None and (problem := _unlike(stable, model, labels=setting == "shadow")):
            problems.append(f"{setting}: {problem}")
            del versions[number]
    canary = tuple((model, plan.canary[number]) for number, model in versions.items() if number in plan.canary)
    shadow = (versions[plan.shadow[0]], plan.shadow[1]) if plan.shadow and plan.shadow[0] in versions else None
    return Served(stable, MappingProxyType(versions), canary, shadow), problems


def _unlike(stable: Model, model: Model, *, labels: bool) -> str | None:
    """The reason why a version cannot stand beside the stable one; None if it can."""
    name, one, other = stable.name, stable.bundle.manifest, model.bundle.manifest
    if one.task != other.task:
        return (
            f"{name} {model.version} is of the task {other.task!r}, and version {stable.version}, which is served, "
            f"of the task {one.task!r}; both have to be of one task"
        )
    if labels and set(one.labels) != set(other.labels):
        return (
            f"{name} {model.version} has the labels {', '.join(other.labels)}, and version {stable.version}, which is "
            f"served, has {', '.join(one.labels)}; both have to have the same"
        )
    return None


class NoVersion(ModelNotFound):
    """A version to be loaded is missing in the models folder."""

    def __init__(self, name: str, version: int | None, there: Iterable[int]) -> None:
        RequestError.__init__(self, f"The models folder {missing(name, version, there)}.")


def missing(name: str, version: int | None, there: Iterable[int]) -> str:
    """A message about missing bundles; it continues "The models folder"."""
    versions = ", ".join(map(str, there))
    return f"has no version {version} of {name!r}; it has {versions}" if versions else f"has no bundle of {name!r}"


def no_other(plan: Plan, versions: Iterable[int]) -> str:
    """The reason why no version that is neither canary nor shadow is served."""
    others = [each for each in versions if each not in plan.extra]
    own = [each for each in others if not plan.rule.listed or each in plan.rule.listed]
    listed = ", ".join(map(str, own or others))
    if own:
        return f"{listed} cannot be served"
    return f"versions is {plan.rule}; add one of {listed} to it" if others else "it has no other"


class NoModelForTask(ModelNotFound):
    """A request named only a task, and no model of it is loaded."""

    def __init__(self, task: Task, known: Iterable[str]) -> None:
        RequestError.__init__(
            self, f"No model is loaded for the task {task!r}. Loaded: {', '.join(sorted(known)) or 'none'}."
        )


def unserved(model: Model | None, version: int, pin: int | None) -> str:
    """The reason why a valid version is not served."""
    if pin == UNLOADED:
        return "unloaded"
    if model is None:
        return "not loaded"
    return f"version {model.version} is served" if pin or model.bundle.version > version else "not loaded yet"
