"""TLS: the service's certificate, read again when its file changes."""

from __future__ import annotations

import ssl
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from service.errors import StartupError
from service.settings import Settings
from service.watched import Watch

LOOK_EVERY = 10.0
"""Seconds between two checks of the files. Open connections keep their certificate."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_log = structlog.get_logger()


def options(settings: Settings) -> dict[str, Any]:
    """uvicorn's arguments for TLS; empty if no certificate is set. Raises `StartupError`."""
    if settings.tls_certificate is None:
        return {}
    try:
        made = _Certificate(settings, settings.tls_certificate).context
    except (OSError, ValueError) as error:
        raise StartupError(f"the certificate cannot be used (--tls-certificate, --tls-key): {_why(error)}") from error
    return {"ssl_context_factory": lambda config, default: made}


class _Certificate:
    """A TLS context that switches to a newer one during a handshake after the files have changed."""

    def __init__(self, settings: Settings, certificate: Path) -> None:
        self._files = (certificate, settings.tls_key or certificate)
        self._password = settings.tls_key_password.get_secret_value()
        self._minimum = _VERSIONS[settings.tls_version]
        self._watch = Watch(*self._files, every=LOOK_EVERY, clock=monotonic)
        self.context = self._latest = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._minimum
        # Always a function: without one, OpenSSL prompts for the password at the terminal.
        context.load_cert_chain(*self._files, lambda: self._password)
        context.sni_callback = self._renew
        return context

    def _renew(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if self._watch.changed():
            try:
                self._latest = self._load()
                _log.info("certificate read")
            except (OSError, ValueError) as error:
                _log.error("the certificate stays as it was", reason=_why(error))
        if self._latest is not context:
            connection.context = self._latest


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or 'no certificate and key in PEM, or the wrong password'}"
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
