"""Models for the command line: found in a folder, verified, loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import BundleError, ServiceError
from service.model import bundle as bundles
from service.model.bundle import Bundle
from service.model.loading import Model, ProviderSetting, choose_provider, loader


class NoSuchModel(ServiceError):
    """The named bundle does not exist."""


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """One version in a repository: its verified bundle, or the reason why there is none.

    `version` is None if the folder of the name cannot be read.
    """

    name: str
    version: int | None
    bundle: Bundle | None
    reason: str = ""


def find(models: Path, name: str) -> Path:
    """The folder of a bundle: ``NAME`` (its highest version) or ``NAME/VERSION`` below `models`, or such a path."""
    for path in (models / name, Path(name)):
        try:
            if bundles.is_version(path.name) and path.is_dir():
                return path
            if found := bundles.versions(path):
                return path / str(found[-1])
        except OSError as error:
            raise NoSuchModel(f"the folder {path} cannot be read: {error.strerror} (--models)") from error
    try:
        there = ", ".join(each for each, _ in bundles.discover(models))
    except OSError as error:
        raise NoSuchModel(f"the models folder {models}: {error.strerror} (--models)") from error
    raise NoSuchModel(f"there is no model {name!r}; the folder {models} has {there or 'none'} (--models)")


def load(path: Path, provider: ProviderSetting, token_limit: int) -> Model:
    """A bundle, verified and warmed up; one thread for each run. Raises `BundleError` or `StartupError`."""
    return loader(choose_provider(provider), threads=1, token_limit=token_limit)(bundles.load(path))


def every(models: Path) -> Iterator[FoundVersion]:
    """Every version of every model, verified: digests and manifest. Raises `NoSuchModel` for no folder."""
    unreadable: dict[str, str] = {}
    try:
        found = list(bundles.discover(models, unreadable))
    except OSError as error:
        raise NoSuchModel(f"the models folder {models}: {error.strerror} (--models)") from error
    for name, reason in unreadable.items():
        yield FoundVersion(name, None, None, reason)
    for name, versions in found:
        for version in versions:
            try:
                yield FoundVersion(name, version, bundles.load(models / name / str(version)))
            except BundleError as error:
                yield FoundVersion(name, version, None, str(error))
