"""The first look at the models folder, in a thread that can begin before the server is imported."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog

from service.errors import StartupError
from service.model.bundle import NO_BUNDLE
from service.serving.registry import Changes, Registry
from service.settings import Settings

_log = structlog.get_logger()


def open_registry(settings: Settings) -> tuple[Registry, Changes]:
    """The registry of the settings after its first look at the models folder, and the changes of that look. Blocks.

    Raises the errors of `Registry.refresh`, and `StartupError` if there is nothing to serve and neither reloading nor
    the admin routes could add a model.
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
        reasons = "; ".join(map(str, registry.refused))
        why = f"none of its bundles can be served: {reasons}" if reasons else f"it {NO_BUNDLE}"
        raise StartupError(f"no model to serve in the folder {str(settings.models)!r}: {why}")
    return registry, changes


class Opening:
    """Runs `open_registry` in a thread. Sessions, runs and digests release Python's lock, so that the main thread can
    import the server meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._executor = ThreadPoolExecutor(1, "models")
        self._opened = self._executor.submit(open_registry, settings)

    @property
    def done(self) -> bool:
        """True if the models are loaded, or cannot be."""
        return self._opened.done()

    async def registry(self) -> tuple[Registry, Changes]:
        """The result of `open_registry`, or its error. The thread has ended then, so that the process can be forked."""
        try:
            return await asyncio.wrap_future(self._opened)
        finally:
            self._executor.shutdown(wait=self._opened.done())

    def wait(self) -> tuple[Registry, Changes]:
        """The same as `registry`. Blocks."""
        self._executor.shutdown()
        return self._opened.result()
