"""Keys from a file, web pages of other origins, and TLS, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from websockets.asyncio.client import connect as connect_over_tls
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from deploy.image import health
from tests.integration.conftest import Start
from tests.integration.metrics import value
from tests.integration.streams import socket as websocket
from tests.patience import PATIENCE

ONE, TWO, SCRAPER = "first-key-0123456789", "second-key-0123456789", "scraper-key-0123456789"
ORIGIN = "https://pages.example"


def asked_with(client: httpx.Client, key: str, path: str = "/models") -> int:
    return client.get(path, headers={"Authorization": f"Bearer {key}"}).status_code


def test_keys_are_rotated_without_a_restart(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{ONE} name=acme\n{SCRAPER} metrics\n", encoding="utf-8")
    service = start("--api-keys-file", str(file)).until_ready()
    client = service.client
    assert client.get("/models").status_code == 401
    assert (asked_with(client, ONE), asked_with(client, TWO), asked_with(client, SCRAPER)) == (200, 401, 403)
    file.with_suffix(".new").write_text(f"{TWO}\n", encoding="utf-8")
    file.with_suffix(".new").rename(file)
    service.wait(lambda: asked_with(client, TWO) == 200)
    assert asked_with(client, ONE) == 401
    service.says('"key":"acme"')
    assert not any(key in service.output for key in (ONE, TWO, SCRAPER))


def test_the_log_names_route_and_key_of_what_is_refused(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{ONE} name=acme rate=0.001\n{TWO} rate=0.001\n{SCRAPER} metrics\n", encoding="utf-8")
    service = start("--api-keys-file", str(file)).until_ready()
    routes = {
        "/predict": "/predict",
        "/models/ner-bilstm/?top=1": "/models/{name}",
        "/v2/models/ner-bilstm/stats": "/v2/models/{name}/stats",
        "/nowhere": "none",
    }
    for key in (ONE, TWO):
        asked_with(service.client, key)
        for path in routes:
            assert asked_with(service.client, key, path) == 429
    assert asked_with(service.client, SCRAPER) == 403
    assert service.client.get("/models").status_code == 401
    service.says('"status":401')
    lines = [json.loads(line) for line in service.output.splitlines() if '"request"' in line]
    found = [(line["route"], line["key"]) for line in lines if line["status"] == 429]
    assert found == [(route, key) for key in ("acme", "api_keys_file line 2") for route in routes.values()]
    assert [(line["route"], line["key"]) for line in lines if line["status"] == 403] == [
        ("/models", "api_keys_file line 3")
    ]
    assert [line["route"] for line in lines if line["status"] == 401] == ["/models"]
    assert not any(key in service.output for key in (ONE, TWO, SCRAPER))


def test_a_key_for_metrics_opens_no_stream(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{ONE} name=acme\n{SCRAPER} metrics\n", encoding="utf-8")
    service = start("--api-keys-file", str(file)).until_ready()
    with pytest.raises(InvalidStatus) as refused, websocket(service, {"Authorization": f"Bearer {SCRAPER}"}):
        pass  # refused before the handshake, as HTTP
    assert refused.value.response.status_code == 403
    assert refused.value.response.headers["Content-Type"] == "application/problem+json"
    assert "/metrics alone" in json.loads(refused.value.response.body or b"")["detail"]
    with websocket(service) as opened:
        opened.send(model="sentiment-lstm", key=SCRAPER)
        error = opened.receive()
        assert (error["type"], error["status"]) == ("error", 403)
        assert "/metrics alone" in error["detail"]
        with pytest.raises(ConnectionClosed) as closed:
            opened.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    post = {"model": "sentiment-lstm", "text": "a film"}
    for key, status in ((SCRAPER, 403), (ONE, 200)):
        sent = {"Authorization": f"Bearer {key}"}
        assert service.client.post("/stream", json=post, headers=sent).status_code == status
    with websocket(service) as opened:
        opened.send(model="sentiment-lstm", key=ONE)
        assert opened.receive()["type"] == "ready"
    service.says('"key":"acme"')
    assert not any(key in service.output for key in (ONE, SCRAPER))


def test_a_file_of_keys_that_is_not_there_stops_the_start(start: Start, tmp_path: Path) -> None:
    process = start("--api-keys-file", str(tmp_path / "none"))
    assert process.exit_status() == 1
    assert "api_keys_file: No such file or directory" in process.output


def test_other_origins_are_let_in_where_they_are_set(start: Start) -> None:
    service = start("--cors-origins", f"{ORIGIN}, https://other.example", SERVICE_API_KEYS=ONE, SERVICE_ADMIN="true")
    client = service.until_ready().client
    asking = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    preflight = client.options("/predict", headers={**asking, "Access-Control-Request-Headers": "authorization"})
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in preflight.headers
    refused = client.post("/predict", json={"inputs": "a"}, headers={"Origin": ORIGIN})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)
    assert "X-Request-ID" in refused.headers["Access-Control-Expose-Headers"]
    assert "Origin" in refused.headers["Vary"]
    other = client.options("/predict", headers={**asking, "Origin": "https://evil.example"})
    assert other.status_code == 400
    assert "Access-Control-Allow-Origin" not in other.headers
    assert client.options("/admin/models/x/load", headers=asking).status_code == 200


def test_what_a_browser_asks_beforehand_is_answered_like_all_else(start: Start) -> None:
    service = start("--cors-origins", ORIGIN).until_ready()
    asking = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "X-Request-ID": "beforehand"}
    preflight = service.client.options("/predict", headers=asking)
    response = service.client.post("/predict", json={"inputs": "a"}, headers={"Origin": ORIGIN})
    of_all = {name for name in response.headers if not name.startswith("access-control-")}
    assert of_all <= set(preflight.headers)
    for name in ("X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Cache-Control"):
        assert preflight.headers.get_list(name) == response.headers.get_list(name)
    assert preflight.headers.get_list("X-Request-ID") == ["beforehand"]
    assert preflight.headers["Vary"].startswith("Origin")
    service.client.options("/predict", headers={**asking, "Origin": "https://evil.example"})
    for status in ("200", "400"):
        assert value(service, "requests_total", route="preflight", method="OPTIONS", status=status) == 1
    service.says('"route":"preflight"', times=2)


def test_other_origins_are_not_let_in_by_default(client: httpx.Client) -> None:
    response = client.post("/predict", json={"inputs": "a"}, headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("access-control")]
    asking = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert client.options("/predict", headers=asking).status_code == 405


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    issue(authority, certificate, key)
    return certificate, key


def issue(authority: trustme.CA, certificate: Path, key: Path) -> None:
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(key)
    certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_https(start: Start, files: tuple[Path, Path], authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SECONDS", PATIENCE)
    flags = ("--tls-certificate", str(files[0]), "--tls-key", str(files[1]), "--hsts-seconds", "60")
    service = start(*flags)
    assert service.url.startswith("https://127.0.0.1:")
    with httpx.Client(base_url=service.url, verify=trusting(authority), timeout=PATIENCE) as client:
        service.wait(lambda: client.get("/health/ready").status_code == 200)
        response = client.post("/predict", json={"inputs": "a fine film"})
        assert response.status_code == 200
        assert response.headers["Strict-Transport-Security"] == "max-age=60"
        large = client.post("/gates", json={"inputs": ["a fine film " * 300] * 4})
        assert len(large.json()["traces"]) == 4
    assert health.ready(int(service.url.rpartition(":")[2]), tls=True), "what the container asks of itself"
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{service.url}/health/live", timeout=PATIENCE)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{service.url.replace('https', 'http')}/health/live", timeout=PATIENCE)
    assert "Traceback" not in service.output


def test_streams_over_tls(start: Start, files: tuple[Path, Path], authority: trustme.CA) -> None:
    service = start("--tls-certificate", str(files[0]), "--tls-key", str(files[1]))
    text = "It was a f\u00eate, Mr. Babbage: not bad &amp; not dull! "
    context = trusting(authority)
    with httpx.Client(base_url=service.url, verify=context, timeout=PATIENCE) as client:
        service.wait(lambda: client.get("/health/ready").status_code == 200)
        bodies = [{"model": "sentiment-lstm", "inputs": each} for each in (text, text * 200)]
        expected = [client.post("/predict", json=body).json()["predictions"][0] for body in bodies]
    pieces = list(text), [text * 200]  # each character a message; one message of several TLS records

    async def read() -> list[dict[str, Any]]:
        """The last event of each text. websockets' other client reads and writes one TLS socket from two threads at
        once, and with CPython 3.11 some of its handshakes fail (docs/how-to/streams.md)."""
        done = []
        url, origin = service.url.replace("http", "ws", 1), {"Origin": service.url}
        async with connect_over_tls(
            f"{url}/stream", ssl=context, additional_headers=origin, open_timeout=PATIENCE, proxy=None
        ) as opened:
            await opened.send(json.dumps({"model": "sentiment-lstm", "every": 200}))
            assert json.loads(await opened.recv())["type"] == "ready"
            for whole in pieces:
                for piece in whole:
                    await opened.send(json.dumps({"text": piece}))
                await opened.send(json.dumps({"end": True}))
                while (event := json.loads(await opened.recv()))["type"] != "done":
                    assert event["type"] != "error", event
                done.append(event)
        return done

    for event, wanted in zip(asyncio.run(read()), expected, strict=True):
        assert event["prediction"]["scores"] == pytest.approx(wanted["scores"], abs=1e-5)
    with pytest.raises(ssl.SSLCertVerificationError), websocket(service):
        pass
    plain = service.url.replace("https", "http").replace("http", "ws", 1)
    with pytest.raises((InvalidHandshake, ConnectionClosed, OSError, EOFError)), connect(plain + "/stream", proxy=None):
        pass
    assert "Traceback" not in service.output


def test_who_begins_no_handshake_is_not_waited_for(
    start: Start, files: tuple[Path, Path], authority: trustme.CA
) -> None:
    service = start("--tls-certificate", str(files[0]), "--tls-key", str(files[1]), "--header-seconds", "2")
    host, port = service.url.removeprefix("https://").split(":")
    for said in (b"", b"\x16\x03\x01"):
        began = time.monotonic()
        with socket.create_connection((host, int(port)), timeout=30) as silent:  # asyncio's own limit is 60
            silent.sendall(said)
            with contextlib.suppress(ConnectionResetError):
                assert silent.recv(1) == b""
            assert time.monotonic() - began > 1.9
    assert httpx.get(f"{service.url}/health/live", verify=trusting(authority), timeout=PATIENCE).status_code == 200
    assert "Traceback" not in service.output


def test_every_tls_connection_is_answered_while_the_workers_take_over(
    start: Start, files: tuple[Path, Path], authority: trustme.CA
) -> None:
    flags = ("--tls-certificate", str(files[0]), "--tls-key", str(files[1]), "--header-seconds", f"{PATIENCE:g}")
    service = start("--workers", "2", *flags)
    context = trusting(authority)
    address = ("127.0.0.1", int(service.url.rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        # They are open before there is a worker, and begin their handshake with one.
        silent = [stack.enter_context(socket.create_connection(address, timeout=PATIENCE)) for _ in range(6)]
        ready: list[int] = []
        while not ready or ready[-1] != 200:
            with httpx.Client(verify=context, timeout=PATIENCE) as client:  # a connection of its own each time
                ready.append(client.get(f"{service.url}/health/ready").status_code)
        assert set(ready) <= {200, 503}
        for connection in silent:
            with context.wrap_socket(connection, server_hostname="127.0.0.1") as secured:
                secured.sendall(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert secured.recv(15) == b"HTTP/1.1 200 OK"
    assert "Traceback" not in service.output


@pytest.mark.parametrize(("least", "spoken"), [("1.2", True), ("1.3", False)])
def test_the_least_version(
    start: Start, files: tuple[Path, Path], authority: trustme.CA, least: str, spoken: bool
) -> None:
    service = start("--tls-certificate", str(files[0]), "--tls-key", str(files[1]), "--tls-version", least)
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    if spoken:
        assert httpx.get(f"{service.url}/health/live", verify=old, timeout=PATIENCE).status_code == 200
    else:
        with pytest.raises(httpx.ConnectError, match="SSL"):
            httpx.get(f"{service.url}/health/live", verify=old, timeout=PATIENCE)
        assert httpx.get(f"{service.url}/health/live", verify=trusting(authority), timeout=PATIENCE).status_code == 200


def test_a_key_with_a_password(start: Start, files: tuple[Path, Path], authority: trustme.CA) -> None:
    certificate, key = files
    encrypt(key, b"open sesame")
    flags = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    service = start(*flags, SERVICE_TLS_KEY_PASSWORD="open sesame")
    assert httpx.get(f"{service.url}/health/live", verify=trusting(authority), timeout=PATIENCE).status_code == 200
    for variables in ({}, {"SERVICE_TLS_KEY_PASSWORD": "wrong"}):
        process = start(*flags, **variables)
        assert process.exit_status() == 1
        assert "the certificate cannot be used" in process.output
        assert "Traceback" not in process.output


def encrypt(key: Path, password: bytes) -> None:
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
    )


def test_files_that_are_no_certificate(start: Start, files: tuple[Path, Path], tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate", encoding="utf-8")
    for certificate, key in ((tmp_path / "none.pem", files[1]), (nonsense, files[1]), (files[0], nonsense)):
        process = start("--tls-certificate", str(certificate), "--tls-key", str(key))
        assert process.exit_status() == 1
        assert "the certificate cannot be used (--tls-certificate, --tls-key)" in process.output


def test_settings_of_tls_that_do_not_fit(start: Start, files: tuple[Path, Path]) -> None:
    assert start("--tls-key", str(files[1])).exit_status() == 2
    assert start("--hsts-seconds", "60").exit_status() == 2
