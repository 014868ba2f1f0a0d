"""The model repository: which models are served, and how that changes while requests run.

`Registry.refresh` looks at the repository on disk and swaps in a new, immutable picture of it at once. A model that was
replaced or retired lives for as long as a request holds it. `Registry.load` and `Registry.unload` do the same for one
name, at somebody's word: that word stands until the next one, or until the name has gone from the folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Literal, get_args

import structlog

from service import interpreter
from service.errors import BundleError, BundleRefused, InvalidField, ModelNotFound, RequestError, StartupError
from service.model import bundle as bundles
from service.model.bundle import Task
from service.model.loading import Load, Model, ProviderSetting, choose_provider, loader
from service.settings import Settings

__all__ = ["Changes", "Entry", "Model", "Refused", "Registry", "open_registry"]

DEFAULT_TASK: Task = "sentiment"
"""What is meant by a request that names neither a model nor a task."""
TASKS: tuple[Task, ...] = get_args(Task)
OWN_PREFIX = "my-"
"""Names of models that users trained: not the default while there is another."""
UNLOADED: Literal[0] = 0
"""The version that is wished for of a name that was unloaded."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Refused:
    """A version on disk that cannot be served, and why. The reason holds no path of this machine."""

    name: str
    version: int
    reason: str


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
class Entry:
    """One version in the models folder: whether it is served, and why not. The reason holds no path of this machine."""

    name: str
    version: int
    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Picture:
    """The registry at one moment."""

    models: Mapping[str, Model]
    defaults: Mapping[Task, str]
    refused: tuple[Refused, ...]


_EMPTY = _Picture(MappingProxyType({}), MappingProxyType({}), ())


class Registry:
    """The models of one repository. Reading it is safe at any time and from any thread.

    `defaults` names each task's default model, or None for the usual rule: TASK-bilstm, else the first by name, those
    that users trained last. `load` stands in for the loading of a bundle; left out, it is `loader` with the provider
    that `choose_provider` finds, which raises `StartupError` where there is none.
    """

    def __init__(
        self,
        repository: Path,
        *,
        provider: ProviderSetting,
        threads: int,
        token_limit: int,
        defaults: Mapping[Task, str | None],
        strict: bool = False,
        load: Load | None = None,
    ) -> None:
        self._repository = repository
        self._wanted = provider
        self._load = load or loader(choose_provider(provider), threads, token_limit, strict=strict)
        self._chosen_defaults = {task: name for task, name in defaults.items() if name is not None}
        # Of each served model's files, when they were last found to be those that it was loaded from.
        self._states: dict[str, object] = {}
        # Versions found broken, with the state of their files then: they are tried again when that has changed.
        self._broken: dict[tuple[str, int], tuple[object, Refused]] = {}
        self._wishes: dict[str, int] = {}  # the version of a name that somebody asked for, or `UNLOADED`
        self._complaints: set[str] = set()
        self._gone: set[str] = set()  # names, served or wished for, that the last look did not find
        self._picture = _EMPTY
        self._started = False
        self._refreshing = Lock()

    @property
    def models(self) -> Mapping[str, Model]:
        """The models by name, as of now; this mapping does not change any more."""
        return self._picture.models

    @property
    def defaults(self) -> Mapping[Task, str]:
        """The default model of each task that has one."""
        return self._picture.defaults

    @property
    def refused(self) -> tuple[Refused, ...]:
        """The versions on disk that cannot be served; of each name only those above the one that is."""
        return self._picture.refused

    def get(self, name: str | None, task: Task | None) -> Model:
        """The model of this name, or the default of the task, or of `DEFAULT_TASK` where neither is given.

        Raises `ModelNotFound`, and `InvalidField` for a model that is not of the task.
        """
        picture = self._picture
        if name is None:
            task = task or DEFAULT_TASK
            default = picture.defaults.get(task)
            if default is None:
                raise _NoModelForTask(task, picture.models)
            return picture.models[default]
        model = picture.models.get(name)
        if model is None:
            raise ModelNotFound(name, picture.models)
        if task is not None and model.task != task:
            raise InvalidField("/model", f"The model {name!r} is of the task {model.task!r}, not {task!r}.")
        return model

    def refresh(self) -> Changes:
        """Look at the repository, load what is new in it, retire what two looks in a row did not find, and serve the
        result. Blocks.

        One bad bundle never raises: it is listed in `refused`, and its next lower version, or the model that was served
        before, is served. Raises `StartupError` at the first call, when the repository is not there, a default model is
        not served, or no model runs on CUDA though the setting says so; later calls log such an error, and a
        repository that is not there leaves the models as they are.
        """
        with self._refreshing:
            try:
                found = dict(bundles.discover(self._repository))
            except OSError as error:
                self._complain({f"The models folder {str(self._repository)!r} cannot be read: {error.strerror}."})
                self._gone = set()
                return Changes()
            there = {(name, version) for name, versions in found.items() for version in versions}
            self._broken = {key: value for key, value in self._broken.items() if key in there}
            models: dict[str, Model] = {}
            refused: list[Refused] = []
            for name, versions in found.items():
                model = self._newest(name, self._wished(name, versions), self._picture.models.get(name), refused)
                if model is not None:
                    models[name] = model
            models |= {name: self.models[name] for name in self._missing(found) if name in self.models}
            changes = self._show(models, refused)
            self._started = True
            return changes

    def load(self, name: str, version: int | None = None) -> Model:
        """Load one version of a name, the highest where none is given, and serve it in place of what is served. Blocks.

        A version that is given is kept to, whatever is put beside it later. The model that is served already is left
        alone while its bundle is the same; a bundle that was refused is tried again. Raises `ModelNotFound` when the
        models folder has no such version, and `BundleRefused` when it cannot be served: then everything is as before,
        but for what `refused` says.
        """
        with self._refreshing:
            versions = self._found().get(name, [])
            if not versions or (version is not None and version not in versions):
                raise _NoVersion(name, version, versions)
            wanted = version or versions[-1]
            self._broken.pop((name, wanted), None)
            refused: list[Refused] = []
            model = self._newest(name, [wanted], self._picture.models.get(name), refused)
            others = [each for each in self._picture.refused if each.name != name]
            if refused or model is None:
                self._picture = _Picture(self.models, self.defaults, (*others, *refused))
                raise BundleRefused(f"{name} {wanted} cannot be served: {refused[0].reason.rstrip('.')}.")
            self._wishes.pop(name, None)
            if version is not None:
                self._wishes[name] = version
            self._show({**self.models, name: model}, others)
            return model

    def unload(self, name: str) -> None:
        """Serve a name no more, until it is loaded again. Raises `ModelNotFound` where it is not served."""
        with self._refreshing:
            if name not in self.models:
                raise ModelNotFound(name, self.models)
            self._wishes[name] = UNLOADED
            rest = {each: model for each, model in self.models.items() if each != name}
            self._show(rest, [each for each in self.refused if each.name != name])

    def index(self) -> list[Entry]:
        """Every version in the models folder, as it is now: by name, then by version. Blocks."""
        picture, wishes = self._picture, dict(self._wishes)
        reasons = {(each.name, each.version): each.reason for each in picture.refused}
        entries = []
        for name, versions in self._found().items():
            model = picture.models.get(name)
            for version in versions:
                ready = model is not None and model.bundle.version == version
                why = "" if ready else reasons.get((name, version)) or _unserved(model, version, wishes.get(name))
                entries.append(Entry(_printable(name), version, ready, why))
        return entries

    def _found(self) -> dict[str, list[int]]:
        """What the models folder holds; nothing when it cannot be read."""
        try:
            return dict(bundles.discover(self._repository))
        except OSError:
            return {}

    def _wished(self, name: str, versions: list[int]) -> list[int]:
        """Those of a name's versions that may be served."""
        wish = self._wishes.get(name)
        return versions if wish is None else [version for version in versions if version == wish]

    def _show(self, models: Mapping[str, Model], refused: Iterable[Refused]) -> Changes:
        """Serve these models from now on."""
        before, models = self._picture, dict(sorted(models.items()))
        self._states = {name: state for name, state in self._states.items() if name in models}
        self._complain(self._complaints_about(models))
        defaults = {task: default for task in TASKS if (default := self._default(task, models)) is not None}
        self._picture = _Picture(MappingProxyType(models), MappingProxyType(defaults), tuple(refused))
        changes = Changes(
            loaded=tuple(model for name, model in models.items() if before.models.get(name) is not model),
            retired=tuple(name for name in before.models if name not in models),
            refused=tuple(each for each in self._picture.refused if each not in before.refused),
        )
        for name in changes.retired:
            _log.info("model retired", model=name)
        if changes.loaded:
            interpreter.give_back()  # loading takes several times the memory of a model
        return changes

    def _newest(self, name: str, versions: Iterable[int], served: Model | None, refused: list[Refused]) -> Model | None:
        """The model to serve under a name: of the highest version that can be, else the one that is served already."""
        for version in sorted(versions, reverse=True):
            path = self._repository / name / str(version)
            current = served if served is not None and served.bundle.version == version else None
            if current is not None and self._states[name] == _state(path):
                return current
            outcome = self._known_problem(path) or self._try(path, current)
            if isinstance(outcome, Model):
                return outcome
            refused.append(outcome)
            if current is not None:
                return current
        return served

    def _known_problem(self, path: Path) -> Refused | None:
        state, problem = self._broken.get((path.parent.name, int(path.name)), (None, None))
        return problem if state == _state(path) else None

    def _try(self, path: Path, current: Model | None) -> Model | Refused:
        """Load one version, unless it is what `current` was loaded from. A bundle at fault is remembered until its
        files change; any other trouble may pass."""
        name, version = path.parent.name, int(path.name)
        state, started = _state(path), time.perf_counter()  # what changes while it is read shows at the next look
        try:
            bundle = bundles.load(path)
            if current is not None and current.bundle.digest == bundle.digest:
                self._states[name] = state
                _log.info("model files verified again", model=name, version=version)
                return current
            model = self._load(bundle)
        except BundleError as error:
            problem = _refused(name, version, self._without_paths(str(error)))
            self._broken[name, version] = state, problem
            serves = {} if current is None else {"serves": "what was verified before"}
            _log.error("bundle refused", model=name, version=version, reason=problem.reason, **serves)
            return problem
        except Exception as error:
            problem = _refused(name, version, f"it cannot be loaded ({type(error).__name__})")
            if problem not in self._picture.refused:
                _log.exception("bundle refused", model=name, version=version, reason=problem.reason)
            return problem
        self._states[name] = state
        seconds = round(time.perf_counter() - started, 3)
        _log.info("model loaded", model=name, version=version, provider=model.engine.provider, seconds=seconds)
        return model

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
        complaints: set[str] = set()
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

    def _without_paths(self, reason: str) -> str:
        for folder in (self._repository.absolute(), self._repository.resolve()):
            reason = reason.replace(f"{folder}/", "").replace(str(folder), "the models folder")
        return reason


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


class _NoModelForTask(ModelNotFound):
    """A request that left the model to the task, of which none is loaded."""

    def __init__(self, task: Task, known: Iterable[str]) -> None:
        RequestError.__init__(
            self, f"No model is loaded for the task {task!r}. Loaded: {', '.join(sorted(known)) or 'none'}."
        )


class _NoVersion(ModelNotFound):
    """A version that was to be loaded, and is not in the models folder."""

    def __init__(self, name: str, version: int | None, there: Iterable[int]) -> None:
        versions = ", ".join(map(str, there))
        detail = (
            f"has no version {version} of {name!r}; it has {versions}" if versions else f"has no bundle of {name!r}"
        )
        RequestError.__init__(self, f"The models folder {detail}.")


def _unserved(model: Model | None, version: int, wish: int | None) -> str:
    """Why a version is not served with which nothing is wrong."""
    if wish == UNLOADED:
        return "unloaded"
    if model is None:
        return "not loaded"
    return f"version {model.version} is served" if wish or model.bundle.version > version else "not loaded yet"


def _refused(name: str, version: int, reason: str) -> Refused:
    return Refused(_printable(name), version, reason)


def _printable(name: str) -> str:
    """A folder's name need not be text; what is said of it must be."""
    return name.encode("utf-8", "replace").decode()


def _state(path: Path) -> object:
    """What changes when a bundle's files do, though their sizes and times of writing were kept."""
    try:
        return sorted((entry.name, _stamp(entry.lstat())) for entry in path.iterdir())
    except OSError as error:
        return error.errno


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
