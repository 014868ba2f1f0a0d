"""The model repository: the served models and versions, and their changes while requests run.

`Registry.refresh` reads the repository on disk and swaps in a new, immutable snapshot at once. A replaced or retired
model lives as long as a request holds it. `Registry.load` and `Registry.unload` change one name on an administrator's
request, and `Registry.change` its versions. That change stands until the next one. `Registry.follow` repeats the
changes of another process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
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
from service.serving.bundle_store import BundleStore, RefusedVersion, printable, unreadable_names
from service.serving.served import (
    UNLOADED,
    IndexEntry,
    NoModelForTask,
    NoVersion,
    Served,
    VersionState,
    missing,
    no_other,
    put_together,
    unserved,
)

__all__ = ["Changes", "IndexEntry", "Model", "RefusedVersion", "Registry"]

DEFAULT_TASK: Task = "sentiment"
"""The task of a request without a model and a task."""
TASKS: tuple[Task, ...] = get_args(Task)
OWN_PREFIX = "my-"
"""Prefix of models that users trained. They are the default only if there is no other."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Requested:
    """An administrator's requests for a name since the start. `plan` replaces that of the settings."""

    pin: int | None = None
    """The version to serve in place of those by the plan's rule; `UNLOADED` for none."""
    plan: Plan | None = None


NOTHING = Requested()


@dataclass(frozen=True, slots=True)
class Changes:
    """The result of one refresh: loaded models, retired names, and newly refused versions."""

    loaded: tuple[Model, ...] = ()
    retired: tuple[str, ...] = ()
    refused: tuple[RefusedVersion, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.loaded or self.retired or self.refused)

    @property
    def counts(self) -> dict[str, int]:
        """The number of each outcome."""
        return {"loaded": len(self.loaded), "retired": len(self.retired), "refused": len(self.refused)}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The registry at one moment. An answer that names several models reads one snapshot: a look at the models folder
    may change the registry meanwhile."""

    served: Mapping[str, Served]
    models: Mapping[str, Model]
    """The stable version of each name."""
    defaults: Mapping[Task, str]
    refused: tuple[RefusedVersion, ...]

    def find(self, name: str) -> Served:
        """The loaded versions of a name. Raises `ModelNotFound`."""
        served = self.served.get(name)
        if served is None:
            raise ModelNotFound(name, self.models)
        return served

    def states(self, name: str) -> list[VersionState]:
        """The versions of a name, for `GET /models/NAME`. Raises `ModelNotFound`."""
        reasons = {each.version: each.reason for each in self.refused if each.name == name and each.version is not None}
        return self.find(name).states(reasons)


_EMPTY = Snapshot(MappingProxyType({}), MappingProxyType({}), MappingProxyType({}), ())


class Registry:
    """The models of one repository. Reading is thread-safe.

    `defaults` names each task's default model. None means the usual rule: TASK-bilstm, else the first by name, with
    users' own models last. `rollout` gives the versions to serve of each name. `load` loads a bundle; by default it is
    `loader` with the provider of `choose_provider`, which raises `StartupError` if there is none.
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
        self._requested: dict[str, Requested] = {}  # by name, since the start
        self._followed: dict[str, int] = {}  # the number of the last decision that was followed for each name
        self._problems: dict[str, list[str]] = {}  # current problems with each name's plan
        self._reported: set[str] = set()
        self._gone: set[str] = set()  # served names that the last look did not find
        self._snapshot = _EMPTY
        self._started = False
        self._refreshing = Lock()

    @property
    def snapshot(self) -> Snapshot:
        """All of it at this moment."""
        return self._snapshot

    @property
    def models(self) -> Mapping[str, Model]:
        """The stable version of each name at this moment, as an unchanging mapping."""
        return self._snapshot.models

    @property
    def served(self) -> Mapping[str, Served]:
        """All loaded versions of each name at this moment, as an unchanging mapping."""
        return self._snapshot.served

    @property
    def every(self) -> Iterator[Model]:
        """Every loaded version of every name at this moment."""
        for each in self._snapshot.served.values():
            yield from each.versions.values()

    @property
    def refused(self) -> tuple[RefusedVersion, ...]:
        """The versions on disk that cannot be served; for each name only those above the served one."""
        return self._snapshot.refused

    def get(self, name: str | None, task: Task | None, version: str | None = None, key: str | None = None) -> Model:
        """The model of a name; without a name the default of the task, and without both that of `DEFAULT_TASK`.

        Without a version, `key` chooses among the stable one and its canaries (`Served.choose`). Raises
        `ModelNotFound`; `VersionNotFound` for a version that is not loaded; `InvalidField` if the model has another
        task.
        """
        snapshot = self._snapshot
        if name is None:
            task = task or DEFAULT_TASK
            default = snapshot.defaults.get(task)
            if default is None:
                raise NoModelForTask(task, snapshot.models)
            name = default
        served = snapshot.find(name)
        model = served.choose(key) if version is None else served.get(version)
        if task is not None and model.task != task:
            raise InvalidField("/model", f"The model {name!r} is of the task {model.task!r}, not {task!r}.")
        return model

    def find(self, name: str) -> Served:
        """The loaded versions of a name. Raises `ModelNotFound`."""
        return self._snapshot.find(name)

    def plan(self, name: str) -> Plan:
        """The plan of a name: from a request since the start, else from the settings."""
        return self._requested.get(name, NOTHING).plan or self._rollout.of(name)

    def refresh(self) -> Changes:
        """Read the repository, load new bundles, and serve the result. Blocks.

        A bad bundle never raises. It is listed in `refused`, and its next lower version or the version served before is
        served. A name whose folder cannot be read is listed there too. A name that is not found, or cannot be read, is
        served as before: its folder may be on its way back.

        The first call raises `StartupError` if the repository is missing, a default model is not served, a version in
        the settings is missing, a canary or shadow does not fit, or the setting demands CUDA and no model runs on it.
        Later calls log such an error. If the repository is missing then, the models stay as they are.
        """
        with self._refreshing:
            unreadable: dict[str, str] = {}
            try:
                found = dict(bundles.discover(self._repository, unreadable))
            except OSError as error:
                self._report({f"The models folder {str(self._repository)!r} cannot be read: {error.strerror}."})
                return Changes()
            self._store.keep_broken({(name, version) for name, versions in found.items() for version in versions})
            served: dict[str, Served] = {}
            refused = unreadable_names(unreadable, self._snapshot.refused, self.served)
            self._problems = {}
            for name, versions in found.items():
                self._put(served, name, versions, refused)
            requested = {name for name, each in self._requested.items() if each.plan is not None}
            for name in (self._rollout.plans.keys() | requested) - found.keys():
                why = f"the models folder {missing(name, None, ())}"
                if name in unreadable:
                    why = f"{name!r}: {unreadable[name]}"
                self._problems[name] = [f"versions, canary, shadow: {why}"]
            gone = {name: each for name, each in self.served.items() if name not in found}
            served |= gone
            for name in sorted(gone.keys() - self._gone - unreadable.keys()):
                _log.warning("model folder missing", model=name, serves="what was verified before")
            self._gone = gone.keys() - unreadable.keys()
            changes = self._show(served, refused)
            self._started = True
            return changes

    def load(self, name: str, version: int | None = None) -> Model:
        """Load one version of a name, by default the highest, and serve it instead of the current one. Blocks.

        A version given here stays served even if higher ones appear, and is no longer canary or shadow. A served model
        stays while its bundle is the same. A refused bundle is tried again. Raises `ModelNotFound` if the models folder
        lacks the version, and `BundleRefused` if it cannot be served. After an error only `refused` may have changed.
        """
        with self._refreshing:
            versions, plan = self._versions(name), self.plan(name)
            own = [each for each in versions if each not in plan.extra]
            may = [each for each in own if not plan.rule.listed or each in plan.rule.listed]
            if version not in versions if version is not None else not may:
                raise NoVersion(name, version, versions)
            wanted = may[-1] if version is None else version
            requested = replace(self._requested.get(name, NOTHING), pin=version)
            if version in plan.extra:
                requested = replace(requested, plan=plan.without(wanted))
            return self._serve(name, versions, {wanted}, requested, strict=False).versions[wanted]

    def change(self, name: str, plan: Plan) -> Served:
        """Serve the versions of a name by a plan, which replaces that of the settings or of an earlier request. Blocks.

        Raises `ModelNotFound` if the models folder lacks a version of the plan, `BundleRefused` if one cannot be
        served, and `Unfit` if one does not fit. After an error nothing has changed.
        """
        with self._refreshing:
            versions = self._versions(name)
            named = {number for _, number in plan.named}
            absent = named.difference(versions)
            if absent or not versions:
                raise NoVersion(name, min(absent, default=None), versions)
            return self._serve(name, versions, named, Requested(plan=plan), strict=True)

    def unload(self, name: str) -> None:
        """Stop serving a name until it is loaded again. Raises `ModelNotFound` if it is not served."""
        with self._refreshing:
            if name not in self.models:
                raise ModelNotFound(name, self.models)
            self._requested[name] = replace(self._requested.get(name, NOTHING), pin=UNLOADED)
            self._problems.pop(name, None)
            rest = {each: served for each, served in self.served.items() if each != name}
            self._show(rest, [each for each in self.refused if each.name != name])

    def decision(self, name: str) -> dict[str, Any]:
        """The requests for a name since the start, as JSON values, with the digests of the versions that this process
        serves."""
        requested, served = self._requested.get(name, NOTHING), self.served.get(name)
        return {
            "pin": requested.pin,
            "plan": requested.plan and requested.plan.plain(),
            "versions": served.digests if served is not None else {},
        }

    def follow(self, decisions: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Repeat the changes of another process: the values of its `decision`, each with its growing ``number``.
        Returns the names that this process does not serve as decided. Each call tries them again, also that of a
        worker forked from this process. Blocks.

        If a model cannot be loaded here, the error is logged and this process serves the same as before.
        """
        lacking: list[str] = []
        with self._refreshing:
            found, served, refused = self._found(), dict(self.served), list(self.refused)
            newer = {name: each for name, each in decisions.items() if each["number"] > self._followed.get(name, 0)}
            for name, decision in newer.items():
                plan = decision["plan"] and restored(decision["plan"])
                self._requested[name] = Requested(decision["pin"], plan)
                self._store.try_again(name)
                refused = [each for each in refused if each.name != name]
                served.pop(name, None)
                self._put(served, name, found.get(name, []), refused)
                own = served[name].digests if name in served else {}
                if decision["versions"].items() - own.items():
                    lacking.append(name)
            if newer:
                self._show(served, refused)
            # Last: after an error, the next call repeats all of it.
            self._followed |= {name: each["number"] for name, each in newer.items() if name not in lacking}
        return lacking

    def note_followed(self, name: str, number: int) -> None:
        """Note that this process made the decision `number` itself."""
        self._followed[name] = max(number, self._followed.get(name, 0))

    def _serve(
        self, name: str, versions: list[int], wanted: Collection[int], requested: Requested, *, strict: bool
    ) -> Served:
        """Serve a name as requested. If a wanted version, or with `strict` any part of the plan, cannot be served,
        raise; the earlier request then holds."""
        requests, before = dict(self._requested), dict(self._problems)
        served, refused = dict(self.served), list[RefusedVersion]()
        self._requested[name] = requested
        self._store.try_again(name)
        served.pop(name, None)
        self._put(served, name, versions, refused)
        others = [each for each in self._snapshot.refused if each.name != name]
        found, problems = served.get(name), self._problems.get(name, [])
        lacking = [each for each in sorted(wanted) if found is None or each not in found.versions]
        # A loaded version whose files have gone bad answers as before: a plan may keep it, but no load may ask for it.
        broken = [
            each for each in refused if each.version is not None and each.version in (lacking if strict else wanted)
        ]
        if lacking or broken or found is None or (strict and problems):
            self._requested, self._problems = requests, before
            self._snapshot = replace(self._snapshot, refused=(*others, *refused))
            if broken:
                reason = broken[0].reason.rstrip(".")
                raise BundleRefused(f"{name} {broken[0].version} cannot be served: {reason}.")
            raise Unfit(f"{problems[0] if problems else f'{name}: no version can be served'}.")
        self._show(served, [*others, *refused])
        return found

    def index(self) -> list[IndexEntry]:
        """Every version that is loaded or in the models folder, by name, then by version. Blocks."""
        snapshot, requested = self._snapshot, dict(self._requested)
        reasons = {(each.name, each.version): each.reason for each in snapshot.refused}
        entries, found = [], self._found()
        for name in sorted(found.keys() | snapshot.served.keys()):
            served = snapshot.served.get(name)
            for version in sorted({*found.get(name, ()), *(served.versions if served is not None else ())}):
                ready = served is not None and version in served.versions
                model = served.stable if served is not None else None
                why = (
                    ""
                    if ready
                    else reasons.get((name, version)) or unserved(model, version, requested.get(name, NOTHING).pin)
                )
                entries.append(IndexEntry(printable(name), version, ready, why))
        return entries

    def _found(self, unreadable: MutableMapping[str, str] | None = None) -> dict[str, list[int]]:
        """The content of the models folder; empty if it cannot be read. `unreadable`: see `bundle.discover`."""
        try:
            return dict(bundles.discover(self._repository, unreadable))
        except OSError:
            return {}

    def _versions(self, name: str) -> list[int]:
        """The versions of a name in the models folder. Raises `BundleRefused` if the folder of the name cannot be
        read."""
        unreadable: dict[str, str] = {}
        versions = self._found(unreadable).get(name, [])
        if name in unreadable:
            raise BundleRefused(f"{name} cannot be served: {unreadable[name]}.")
        return versions

    def _put(self, served: dict[str, Served], name: str, versions: list[int], refused: list[RefusedVersion]) -> None:
        """Load the available versions of a name by its plan, and add them to `served`."""
        self._problems.pop(name, None)
        pin, plan, before = self._requested.get(name, NOTHING).pin, self.plan(name), self._snapshot.served.get(name)
        if pin == UNLOADED:
            return
        if pin is not None:
            plan = replace(plan.without(pin), rule=Rule(listed=(pin,)))
        models, most = dict[int, Model](), plan.rule.latest or len(versions)
        for version in sorted(set(versions) - plan.extra, reverse=True):
            if len(models) < most and (not plan.rule.listed or version in plan.rule.listed):
                self._add(models, name, version, before, refused)
        mistaken = bool(plan.rule.listed) and plan.extra.issuperset(plan.rule.listed)  # no version could be stable
        if not models and not mistaken and before is not None and before.stable.bundle.version not in plan.extra:
            models[before.stable.bundle.version] = before.stable  # better than none
        problems = [
            f"{setting}: the models folder {missing(name, version, versions)}"
            for setting, version in plan.named
            if version not in versions and (pin is None or setting != "versions")  # a pinned version may disappear
        ]
        if models:
            stable = models[max(models)]
            for version in plan.extra & set(versions):
                self._add(models, name, version, before, refused)
            served[name], unlike = put_together(stable, models, plan)
            problems += unlike
        elif plan.extra:
            why = no_other(plan, versions)
            problems.append(f"canary and shadow: one served version of {name!r} has to be neither, but {why}")
        if problems:
            self._problems[name] = problems

    def _add(
        self, models: dict[int, Model], name: str, version: int, before: Served | None, refused: list[RefusedVersion]
    ) -> None:
        """Add a version to `models`, or to `refused`. A served version stays even if its files are broken now."""
        current = before.versions.get(version) if before is not None else None
        outcome = self._store.get(name, version, current)
        if isinstance(outcome, RefusedVersion):
            refused.append(outcome)
            if current is None:
                return
            outcome = current
        models[version] = outcome

    def _show(self, served: Mapping[str, Served], refused: Iterable[RefusedVersion]) -> Changes:
        """Serve these models from now on."""
        before, served = self._snapshot, dict(sorted(served.items()))
        models = {name: each.stable for name, each in served.items()}
        loaded = {(name, version): model for name, each in served.items() for version, model in each.versions.items()}
        self._store.keep(loaded)
        self._report(self._mismatches(models))
        defaults = {task: default for task in TASKS if (default := self._default(task, models)) is not None}
        self._snapshot = Snapshot(
            MappingProxyType(served), MappingProxyType(models), MappingProxyType(defaults), tuple(refused)
        )
        known = {
            (name, version): model for name, each in before.served.items() for version, model in each.versions.items()
        }
        changes = Changes(
            loaded=tuple(model for key, model in loaded.items() if known.get(key) is not model),
            retired=tuple(name for name in before.models if name not in models),
            refused=tuple(each for each in self._snapshot.refused if each not in before.refused),
        )
        for name in changes.retired:
            _log.info("model retired", model=name)
        if changes.loaded:
            interpreter.give_back()  # loading takes several times the memory of a model
        return changes

    def _default(self, task: Task, models: Mapping[str, Model]) -> str | None:
        """A task's default. A default from the settings has no substitute."""
        names = sorted(name for name, model in models.items() if model.task == task)
        chosen = self._chosen_defaults.get(task)
        if chosen is not None:
            return chosen if chosen in names else None
        usual = f"{task}-bilstm"
        if usual in names:
            return usual
        return min(names, key=lambda name: (name.startswith(OWN_PREFIX), name), default=None)

    def _mismatches(self, models: Mapping[str, Model]) -> set[str]:
        """Differences between the settings and the models to serve. The caller judges an empty repository."""
        mismatches = {f"{problem}." for problems in self._problems.values() for problem in problems}
        if not models:
            return mismatches
        for task, name in self._chosen_defaults.items():
            if name not in models:
                others = ", ".join(sorted(models))
                mismatches.add(f"The default model for {task}, {name!r}, is not loaded. Loaded: {others}.")
            elif models[name].task != task:
                mismatches.add(f"The default model for {task}, {name!r}, is of the task {models[name].task!r}.")
        if self._wanted == "cuda" and all(model.engine.provider != "cuda" for model in models.values()):
            mismatches.add("The provider is set to cuda, but no model runs on it: is there a GPU, and its driver?")
        return mismatches

    def _report(self, mismatches: set[str]) -> None:
        """Raise at the start. Later, log the differences that are new since the last look."""
        if mismatches and not self._started:
            raise StartupError(" ".join(sorted(mismatches)))
        for mismatch in sorted(mismatches - self._reported):
            _log.error("the models are not as the settings say", reason=mismatch)
        self._reported = mismatches
