"""The certificate is taken up anew when its file changes."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from structlog.testing import capture_logs

from service import settings
from service.process import tls
from tests.patience import next_tick


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def issue(authority: trustme.CA, file: Path) -> None:
    file.write_bytes(authority.issue_cert("service.example").private_key_and_cert_chain_pem.bytes())


def shown(server: ssl.SSLContext, authority: trustme.CA) -> bytes:
    """The certificate that a client is shown, in a handshake in memory."""
    client = ssl.create_default_context()
    authority.configure_trust(client)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname="service.example")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [ours, theirs]
    while pending:
        for side in list(pending):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            pending.remove(side)
    certificate = ours.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def test_a_renewed_certificate_is_shown_to_whoever_comes_next(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(tls, "monotonic", lambda: now)
    file = tmp_path / "certificate.pem"
    issue(authority, file)
    options = tls.options(settings.read({"tls_certificate": file}, _env_file=None))
    context = options["ssl_context_factory"](None, None)
    first = shown(context, authority)
    next_tick(file)
    issue(authority, file)
    assert shown(context, authority) == first, "the file is looked at once in a while"
    now += tls.LOOK_EVERY
    with capture_logs() as logs:
        second = shown(context, authority)
    assert second != first
    assert shown(context, authority) == second
    file.write_text("half of a certifica", encoding="utf-8")
    now += tls.LOOK_EVERY
    with capture_logs() as more:
        assert shown(context, authority) == second
    assert [log["event"] for log in [*logs, *more]] == ["certificate read", "the certificate stays as it was"]


def test_without_a_certificate_there_is_no_tls() -> None:
    assert tls.options(settings.read({}, _env_file=None)) == {}
