"""The model repository: which models are served, in which versions, and how that changes while requests run.

`Registry.refresh` looks at the repository on disk and swaps in a new, immutable picture of it at once. A model that was
replaced or retired lives for as long as a request holds it. `Registry.load` and `Registry.unload` do the same for one
name, and `Registry.change` for its versions, at somebody's word: that word stands until the next one, or until the
name has gone from the folder. `Registry.follow` repeats in one process what was decided in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, get_args

import structlog

from service import interpreter
from service.errors import BundleRefused, InvalidField, ModelNotFound, StartupError, Unfit
from service.model import bundle as bundles
from service.model.bundle import Task
from service.model.loading import Load, Model, ProviderSetting, choose_provider, loader
from service.rollout import Plan, Rollout, Rule, restored
from service.serving.bundle_store import BundleStore, Refused, printable
from service.serving.served import (
    UNLOADED,
    Entry,
    NoModelForTask,
    NoVersion,
    Served,
    VersionState,
    missing,
    put_together,
    unserved,
)
from service.settings import Settings

__all__ = ["Changes", "Entry", "Model", "Refused", "Registry", "open_registry"]

DEFAULT_TASK: Task = "sentiment"
"""What is meant by a request that names neither a model nor a task."""
TASKS: tuple[Task, ...] = get_args(Task)
OWN_PREFIX = "my-"
"""Names of models that users trained: not the default while there is another."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Changes:
    """What one refresh changed: models loaded, names retired, and versions refused that were not refused before."""

    loaded: tuple[Model, ...] = ()
    retired: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.loaded or self.retired or self.refused)

    @property
    def counts(self) -> dict[str, int]:
        """How many of each outcome."""
        return {"loaded": len(self.loaded), "retired": len(self.retired), "refused": len(self.refused)}


@dataclass(frozen=True, slots=True)
class _Picture:
    """The registry at one moment."""

    served: Mapping[str, Served]
    models: Mapping[str, Model]
    """The stable version of each."""
    defaults: Mapping[Task, str]
    refused: tuple[Refused, ...]


_EMPTY = _Picture(MappingProxyType({}), MappingProxyType({}), MappingProxyType({}), ())


class Registry:
    """The models of one repository. Reading it is safe at any time and from any thread.

    `defaults` names each task's default model, or None for the usual rule: TASK-bilstm, else the first by name, those
    that users trained last. `rollout` says which versions of each name are served. `load` stands in for the loading of
    a bundle; left out, it is `loader` with the provider that `choose_provider` finds, which raises `StartupError` where
    there is none.
    """

    def __init__(
        self,
        repository: Path,
        *,
        provider: ProviderSetting,
        threads: int,
        token_limit: int,
        defaults: Mapping[Task, str | None],
        rollout: Rollout | None = None,
        strict: bool = False,
        load: Load | None = None,
    ) -> None:
        self._repository = repository
        self._wanted = provider
        load = load or loader(choose_provider(provider), threads, token_limit, strict=strict)
        self._store = BundleStore(repository, load)
        self._chosen_defaults = {task: name for task, name in defaults.items() if name is not None}
        self._rollout = rollout or Rollout()
        self._wishes: dict[str, int] = {}  # the version of a name that somebody asked for, or `UNLOADED`
        self._plans: dict[str, Plan] = {}  # what somebody asked for since the start, in place of the settings' plans
        self._followed: dict[str, int] = {}  # the number of the last decision on each name that was followed
        self._problems: dict[str, list[str]] = {}  # with each name's plan, as of now
        self._complaints: set[str] = set()
        self._gone: set[str] = set()  # names, served or wished for, that the last look did not find
        self._picture = _EMPTY
        self._started = False
        self._refreshing = Lock()

    @property
    def models(self) -> Mapping[str, Model]:
        """The stable version of each name, as of now; this mapping does not change any more."""
        return self._picture.models

    @property
    def served(self) -> Mapping[str, Served]:
        """All loaded versions of each name, as of now; this mapping does not change any more."""
        return self._picture.served

    @property
    def every(self) -> Iterator[Model]:
        """Every loaded version of every name, as of now."""
        for each in self._picture.served.values():
            yield from each.versions.values()

    @property
    def defaults(self) -> Mapping[Task, str]:
        """The default model of each task that has one."""
        return self._picture.defaults

    @property
    def refused(self) -> tuple[Refused, ...]:
        """The versions on disk that cannot be served; of each name only those above the one that is."""
        return self._picture.refused

    def get(self, name: str | None, task: Task | None, version: str | None = None, key: str | None = None) -> Model:
        """The model of this name, or the default of the task, or of `DEFAULT_TASK` where neither is given.

        Where no version is named, `key` chooses among the stable one and its canaries: `Served.choose`. Raises
        `ModelNotFound`, `VersionNotFound` for one that is not loaded, and `InvalidField` for a model that is not of the
        task.
        """
        picture = self._picture
        if name is None:
            task = task or DEFAULT_TASK
            default = picture.defaults.get(task)
            if default is None:
                raise NoModelForTask(task, picture.models)
            name = default
        served = picture.served.get(name)
        if served is None:
            raise ModelNotFound(name, picture.models)
        model = served.choose(key) if version is None else served.get(version)
        if task is not None and model.task != task:
            raise InvalidField("/model", f"The model {name!r} is of the task {model.task!r}, not {task!r}.")
        return model

    def find(self, name: str) -> Served:
        """The loaded versions of a name. Raises `ModelNotFound`."""
        picture = self._picture
        served = picture.served.get(name)
        if served is None:
            raise ModelNotFound(name, picture.models)
        return served

    def states(self, name: str) -> list[VersionState]:
        """The versions of a name, as `GET /models/NAME` lists them. Raises `ModelNotFound`."""
        return self.find(name).states({each.version: each.reason for each in self.refused if each.name == name})

    def plan(self, name: str) -> Plan:
        """What is wanted of a name: by the settings, or by somebody since."""
        return self._plans.get(name) or self._rollout.of(name)

    def refresh(self) -> Changes:
        """Look at the repository, load what is new in it, retire what two looks in a row did not find, and serve the
        result. Blocks.

        One bad bundle never raises: it is listed in `refused`, and its next lower version, or the model that was served
        before, is served. Raises `StartupError` at the first call, when the repository is not there, a default model is
        not served, a version that the settings name is not there, a canary or shadow does not fit, or no model runs on
        CUDA though the setting says so; later calls log such an error, and a repository that is not there leaves the
        models as they are.
        """
        with self._refreshing:
            try:
                found = dict(bundles.discover(self._repository))
            except OSError as error:
                self._complain({f"The models folder {str(self._repository)!r} cannot be read: {error.strerror}."})
                self._gone = set()
                return Changes()
            self._store.keep_broken({(name, version) for name, versions in found.items() for version in versions})
            served: dict[str, Served] = {}
            refused: list[Refused] = []
            self._problems = {}
            for name, versions in found.items():
                self._put(served, name, versions, refused)
            for name in (self._rollout.plans.keys() | self._plans.keys()) - found.keys():
                self._problems[name] = [f"versions, canary, shadow: the models folder {missing(name, None, ())}"]
            served |= {name: self.served[name] for name in self._missing(found) if name in self.models}
            changes = self._show(served, refused)
            self._started = True
            return changes

    def load(self, name: str, version: int | None = None) -> Model:
        """Load one version of a name, the highest where none is given, and serve it in place of what is served. Blocks.

        A version that is given is kept to, whatever is put beside it later; it ends being canary or shadow. The model
        that is served already is left alone while its bundle is the same; a bundle that was refused is tried again.
        Raises `ModelNotFound` when the models folder has no such version, and `BundleRefused` when it cannot be served:
        then everything is as before, but for what `refused` says.
        """
        with self._refreshing:
            versions, plan = self._found().get(name, []), self.plan(name)
            own = [each for each in versions if each not in plan.extra]
            may = [each for each in own if not plan.rule.listed or each in plan.rule.listed]
            if version not in versions if version is not None else not may:
                raise NoVersion(name, version, versions)
            wanted = may[-1] if version is None else version
            wishes, plans = dict(self._wishes), dict(self._plans)
            self._wishes.pop(name, None)
            if version is not None:
                self._wishes[name] = version
                if version in plan.extra:
                    self._plans[name] = plan.without(version)
            self._store.try_again(name)
            return self._decide(name, versions, {wanted}, wishes, plans, strict=False).versions[wanted]

    def change(self, name: str, plan: Plan) -> Served:
        """Serve the versions of a name as a plan says, in place of what the settings or somebody said before. Blocks.

        Raises `ModelNotFound` where the models folder lacks a version that the plan names, `BundleRefused` where one
        cannot be served, and `Unfit` where one does not fit: then everything is as before.
        """
        with self._refreshing:
            versions = self._found().get(name, [])
            for number in sorted(plan.named):
                if number not in versions:
                    raise NoVersion(name, number, versions)
            if not versions:
                raise NoVersion(name, None, versions)
            self._store.try_again(name)
            wishes, plans = dict(self._wishes), dict(self._plans)
            self._wishes.pop(name, None)
            self._plans[name] = plan
            return self._decide(name, versions, plan.named, wishes, plans, strict=True)

    def unload(self, name: str) -> None:
        """Serve a name no more, until it is loaded again. Raises `ModelNotFound` where it is not served."""
        with self._refreshing:
            if name not in self.models:
                raise ModelNotFound(name, self.models)
            self._wishes[name] = UNLOADED
            self._problems.pop(name, None)
            rest = {each: served for each, served in self.served.items() if each != name}
            self._show(rest, [each for each in self.refused if each.name != name])

    def decision(self, name: str) -> dict[str, Any]:
        """What somebody has asked for of a name since the start, as plain values that JSON has: for `follow`."""
        plan = self._plans.get(name)
        return {"wish": self._wishes.get(name), "plan": plan.plain() if plan is not None else None}

    def follow(self, decisions: Mapping[str, Mapping[str, Any]]) -> None:
        """Do as another process of this service did: what `decision` gave there, each with its ``number``, which grows.
        Blocks. What cannot be loaded here is told in the log, and this process serves what it did."""
        with self._refreshing:
            found, served, refused = self._found(), dict(self.served), list(self.refused)
            for name, decision in decisions.items():
                if decision["number"] <= self._followed.get(name, 0):
                    continue
                self._followed[name] = decision["number"]
                self._wishes.pop(name, None)
                self._plans.pop(name, None)
                if decision["wish"] is not None:
                    self._wishes[name] = decision["wish"]
                if decision["plan"] is not None:
                    self._plans[name] = restored(decision["plan"])
                self._store.try_again(name)
                refused = [each for each in refused if each.name != name]
                served.pop(name, None)
                self._put(served, name, found.get(name, []), refused)
            self._show(served, refused)

    def note_followed(self, name: str, number: int) -> None:
        """This process made the decision of this number itself."""
        self._followed[name] = max(number, self._followed.get(name, 0))

    def _decide(
        self,
        name: str,
        versions: list[int],
        wanted: Iterable[int],
        wishes: dict[str, int],
        plans: dict[str, Plan],
        *,
        strict: bool,
    ) -> Served:
        """Serve a name as it is wanted now. Where the versions wanted, or with `strict` all of its plan, cannot be
        served: raise, with `wishes` and `plans` as they were."""
        before, served, refused = dict(self._problems), dict(self.served), list[Refused]()
        served.pop(name, None)
        self._put(served, name, versions, refused)
        others = [each for each in self._picture.refused if each.name != name]
        found, problems = served.get(name), self._problems.get(name, [])
        lacking = [each for each in sorted(wanted) if found is None or each not in found.versions]
        broken = [each for each in refused if each.version in wanted]
        if lacking or broken or found is None or (strict and problems):
            self._wishes, self._plans, self._problems = wishes, plans, before
            self._picture = replace(self._picture, refused=(*others, *refused))
            if broken:
                reason = broken[0].reason.rstrip(".")
                raise BundleRefused(f"{name} {broken[0].version} cannot be served: {reason}.")
            raise Unfit(f"{problems[0] if problems else f'{name}: no version can be served'}.")
        self._show(served, [*others, *refused])
        return found

    def index(self) -> list[Entry]:
        """Every version in the models folder, as it is now: by name, then by version. Blocks."""
        picture, wishes = self._picture, dict(self._wishes)
        reasons = {(each.name, each.version): each.reason for each in picture.refused}
        entries = []
        for name, versions in self._found().items():
            served = picture.served.get(name)
            for version in versions:
                ready = served is not None and version in served.versions
                model = served.stable if served is not None else None
                why = "" if ready else reasons.get((name, version)) or unserved(model, version, wishes.get(name))
                entries.append(Entry(printable(name), version, ready, why))
        return entries

    def _found(self) -> dict[str, list[int]]:
        """What the models folder holds; nothing when it cannot be read."""
        try:
            return dict(bundles.discover(self._repository))
        except OSError:
            return {}

    def _put(self, served: dict[str, Served], name: str, versions: list[int], refused: list[Refused]) -> None:
        """Load a name as it is wanted, of the versions that are there, and add it to what is served."""
        self._problems.pop(name, None)
        wish, plan, before = self._wishes.get(name), self.plan(name), self._picture.served.get(name)
        if wish == UNLOADED:
            return
        if wish is not None:
            plan = replace(plan.without(wish), rule=Rule(listed=(wish,)))
        models, most = dict[int, Model](), plan.rule.latest or len(versions)
        for version in sorted(set(versions) - plan.extra, reverse=True):
            if len(models) < most and (not plan.rule.listed or version in plan.rule.listed):
                self._add(models, name, version, before, refused)
        if not models and before is not None and before.stable.bundle.version not in plan.extra:
            models[before.stable.bundle.version] = before.stable  # better than none
        problems = [
            f"{setting}: the models folder {missing(name, version, versions)}"
            for setting, numbers in self._named(plan, wish)
            for version in numbers
            if version not in versions
        ]
        if models:
            stable = models[max(models)]
            for version in plan.extra & set(versions):
                self._add(models, name, version, before, refused)
            served[name], unlike = put_together(stable, models, plan)
            problems += unlike
        elif plan.extra:
            there = ", ".join(map(str, versions))
            problems.append(
                f"canary and shadow: {name!r} has no other version that can be served; it has {there}, and one has "
                "to be neither"
            )
        if problems:
            self._problems[name] = problems

    def _add(
        self, models: dict[int, Model], name: str, version: int, before: Served | None, refused: list[Refused]
    ) -> None:
        """Add a version to the models, or to what is refused; one that is served stays, whatever its files hold now."""
        current = before.versions.get(version) if before is not None else None
        outcome = self._store.get(name, version, current)
        if isinstance(outcome, Refused):
            refused.append(outcome)
            if current is None:
                return
            outcome = current
        models[version] = outcome

    @staticmethod
    def _named(plan: Plan, wish: int | None) -> Iterator[tuple[str, Iterable[int]]]:
        """The versions that have to be there, by the setting that says so."""
        if wish is None:  # a version that somebody asked for may go
            yield "versions", plan.rule.listed
        yield "canary", plan.canary
        yield "shadow", [plan.shadow[0]] if plan.shadow else []

    def _show(self, served: Mapping[str, Served], refused: Iterable[Refused]) -> Changes:
        """Serve these models from now on."""
        before, served = self._picture, dict(sorted(served.items()))
        models = {name: each.stable for name, each in served.items()}
        loaded = {(name, version): model for name, each in served.items() for version, model in each.versions.items()}
        self._store.keep(loaded)
        self._complain(self._complaints_about(models))
        defaults = {task: default for task in TASKS if (default := self._default(task, models)) is not None}
        self._picture = _Picture(
            MappingProxyType(served), MappingProxyType(models), MappingProxyType(defaults), tuple(refused)
        )
        known = {
            (name, version): model for name, each in before.served.items() for version, model in each.versions.items()
        }
        changes = Changes(
            loaded=tuple(model for key, model in loaded.items() if known.get(key) is not model),
            retired=tuple(name for name in before.models if name not in models),
            refused=tuple(each for each in self._picture.refused if each not in before.refused),
        )
        for name in changes.retired:
            _log.info("model retired", model=name)
        if changes.loaded:
            interpreter.give_back()  # loading takes several times the memory of a model
        return changes

    def _missing(self, found: Mapping[str, list[int]]) -> set[str]:
        """The names, served or wished for, that this look is the first not to find: they may come back. Of a folder
        that is being deleted one name goes after the other; by the next look it cannot be read. What two looks in a row
        did not find has gone."""
        gone = (self.models.keys() | self._wishes.keys()) - found.keys()
        missing, self._gone = gone - self._gone, gone
        self._wishes = {name: wish for name, wish in self._wishes.items() if name not in gone - missing}
        return missing

    def _default(self, task: Task, models: Mapping[str, Model]) -> str | None:
        """A task's default. One that was chosen and is not there has no substitute: nobody asked for another."""
        names = sorted(name for name, model in models.items() if model.task == task)
        chosen = self._chosen_defaults.get(task)
        if chosen is not None:
            return chosen if chosen in names else None
        usual = f"{task}-bilstm"
        if usual in names:
            return usual
        return min(names, key=lambda name: (name.startswith(OWN_PREFIX), name), default=None)

    def _complaints_about(self, models: Mapping[str, Model]) -> set[str]:
        """Hold the settings against what would be served. An empty repository is for the caller to judge."""
        complaints = {f"{problem}." for problems in self._problems.values() for problem in problems}
        if not models:
            return complaints
        for task, name in self._chosen_defaults.items():
            if name not in models:
                others = ", ".join(sorted(models))
                complaints.add(f"The default model for {task}, {name!r}, is not loaded. Loaded: {others}.")
            elif models[name].task != task:
                complaints.add(f"The default model for {task}, {name!r}, is of the task {models[name].task!r}.")
        if self._wanted == "cuda" and all(model.engine.provider != "cuda" for model in models.values()):
            complaints.add("The provider is set to cuda, but no model runs on it: is there a GPU, and its driver?")
        return complaints

    def _complain(self, complaints: set[str]) -> None:
        """Raise at the start; later, log what was not logged the last time."""
        if complaints and not self._started:
            raise StartupError(" ".join(sorted(complaints)))
        for complaint in sorted(complaints - self._complaints):
            _log.error("the models are not as the settings say", reason=complaint)
        self._complaints = complaints


def open_registry(settings: Settings) -> tuple[Registry, Changes]:
    """The registry that the settings ask for, and what its first look at the models folder loaded. Blocks.

    Raises `StartupError` where that fails, as `Registry.refresh` says, and where nothing can be served and the settings
    let nothing come.
    """
    try:
        registry = Registry(
            settings.models,
            provider=settings.provider,
            strict=settings.strict,
            threads=1,  # a batch takes one thread: two batches at once are faster than one batch on two threads
            token_limit=settings.max_tokens,
            defaults={"sentiment": settings.default_sentiment, "ner": settings.default_ner},
            rollout=settings.rollout,
        )
        changes = registry.refresh()
    except StartupError:
        raise
    except Exception as error:
        _log.exception("unexpected error")
        raise StartupError(f"loading models failed: {type(error).__name__}") from error
    if not registry.models and not (settings.reload or settings.admin):
        reasons = "; ".join(f"{r.name}/{r.version}: {r.reason}" for r in registry.refused)
        why = f"none of its bundles can be served: {reasons}" if reasons else "it holds no bundle NAME/VERSION/"
        raise StartupError(f"no model to serve in the folder {str(settings.models)!r}: {why}")
    return registry, changes
