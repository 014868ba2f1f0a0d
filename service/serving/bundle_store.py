"""Versions in the models folder: loaded once, kept while their files stay the same, tried again when these change."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from service.errors import BundleError
from service.model import bundle as bundles
from service.model.loading import Load, Model
from service.watched import stamp

_log = structlog.get_logger()

Key = tuple[str, int]
"""A name and a version."""


@dataclass(frozen=True, slots=True)
class RefusedVersion:
    """A version on disk that cannot be served, and the reason, which holds no path of this machine.

    `version` is None if the folder of the name cannot be read.
    """

    name: str
    version: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.name if self.version is None else f'{self.name}/{self.version}'}: {self.reason}"


class BundleStore:
    """Loads versions from one models folder. Not thread-safe."""

    def __init__(self, repository: Path, load: Load) -> None:
        self._repository = repository
        self._load = load
        # Signatures of the files of each loaded version, from the last time that they matched it.
        self._states: dict[Key, object] = {}
        # Broken versions with the signatures of their files. They are tried again when these change.
        self._broken: dict[Key, tuple[object, RefusedVersion]] = {}
        self._told: set[RefusedVersion] = set()  # possibly passing problems that are in the log already

    def get(self, name: str, version: int, current: Model | None) -> Model | RefusedVersion:
        """A version's model: `current`, the served one, if the files still match it; else loaded anew. Blocks."""
        path = self._repository / name / str(version)
        if current is not None and self._states.get((name, version)) == _state(path):
            return current
        return self._known_problem(path) or self._try(path, current)

    def keep(self, loaded: Container[Key]) -> None:
        """Forget the files of every version outside `loaded`."""
        self._states = {key: state for key, state in self._states.items() if key in loaded}

    def keep_broken(self, there: Container[Key]) -> None:
        """Forget broken versions outside `there`."""
        self._broken = {key: value for key, value in self._broken.items() if key in there}

    def try_again(self, name: str) -> None:
        """Forget the broken versions of a name."""
        self._broken = {key: value for key, value in self._broken.items() if key[0] != name}

    def _known_problem(self, path: Path) -> RefusedVersion | None:
        state, problem = self._broken.get((path.parent.name, int(path.name)), (None, None))
        return problem if state == _state(path) else None

    def _try(self, path: Path, current: Model | None) -> Model | RefusedVersion:
        """Load one version unless its files match `current`. A broken bundle is remembered until its files change; any
        other problem may pass."""
        name, version = path.parent.name, int(path.name)
        state, started = _state(path), time.perf_counter()  # a change during the load shows at the next look
        try:
            bundle = bundles.load(path)
            if current is not None and current.bundle.digest == bundle.digest:
                self._states[name, version] = state
                _log.info("model files verified again", model=name, version=version)
                return current
            model = self._load(bundle)
        except BundleError as error:
            problem = RefusedVersion(printable(name), version, self._without_paths(str(error)))
            self._broken[name, version] = state, problem
            serves = {} if current is None else {"serves": "what was verified before"}
            _log.error("bundle refused", model=name, version=version, reason=problem.reason, **serves)
            return problem
        except Exception as error:
            problem = RefusedVersion(printable(name), version, f"it cannot be loaded ({type(error).__name__})")
            if problem not in self._told:
                _log.exception("bundle refused", model=name, version=version, reason=problem.reason)
            self._told.add(problem)
            return problem
        self._told = {each for each in self._told if (each.name, each.version) != (name, version)}
        self._states[name, version] = state
        seconds = round(time.perf_counter() - started, 3)
        _log.info("model loaded", model=name, version=version, provider=model.engine.provider, seconds=seconds)
        return model

    def _without_paths(self, reason: str) -> str:
        for folder in (self._repository.absolute(), self._repository.resolve()):
            reason = reason.replace(f"{folder}/", "").replace(str(folder), "the models folder")
        return reason


def unreadable_names(
    reasons: Mapping[str, str], told: Container[RefusedVersion], served: Container[str]
) -> list[RefusedVersion]:
    """The names whose folders cannot be read, by their reasons. The log gets those that are not `told`."""
    refused = [RefusedVersion(printable(name), None, reason) for name, reason in reasons.items()]
    for each in refused:
        if each not in told:
            serves = {"serves": "what was verified before"} if each.name in served else {}
            _log.error("bundle refused", model=each.name, reason=each.reason, **serves)
    return refused


def printable(name: str) -> str:
    """A folder's name as valid text; undecodable bytes become ``?``."""
    return name.encode("utf-8", "replace").decode()


def _state(path: Path) -> object:
    """Signatures of a bundle's files. They differ after a change that keeps sizes and modification times."""
    try:
        return sorted((entry.name, stamp(entry.lstat())) for entry in path.iterdir())
    except OSError as error:
        return error.errno
