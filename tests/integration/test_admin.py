"""Loading and unloading models over HTTP, while requests run."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi.openapi.models import OpenAPI

from service.http.schemas.responses import ModelDescription, Unloaded, Versions
from tests.integration.conftest import Process, Start
from tests.integration.metrics import value
from tests.integration.models import write_model
from tests.integration.together import together
from tests.patience import PATIENCE

GRU = "sentiment-gru"


@pytest.fixture
def models(tmp_path: Path, repository: Path) -> Path:
    """A repository of the test's own: version 1 of `GRU`, and another model."""
    folder = tmp_path / "models"
    for name in (GRU, "ner-bigru"):
        shutil.copytree(repository / name, folder / name)
    return folder


def add(models: Path, hidden: int, *, broken: bool = False) -> None:
    """Put the next version of `GRU` in place, whole, by rename."""
    aside = models.parent / "aside"
    bundle = write_model(aside / GRU, cell="gru", bidirectional=False, head="last", hidden=hidden)
    if broken:
        with bundle.file("weights.safetensors").open("ab") as file:
            file.write(b"x")
    version = max(int(each.name) for each in (models / GRU).iterdir()) + 1
    bundle.path.rename(models / GRU / str(version))


@contextmanager
def traffic(url: str) -> Iterator[list[tuple[int, str]]]:
    """Requests for `GRU` all the while: their statuses, and the versions that answered."""
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while not stop.is_set():
                response = client.post("/predict", json={"inputs": ["a fine film"] * 3, "model": GRU})
                seen.append((response.status_code, response.json().get("version", "")))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_without_the_setting_there_are_no_such_routes(client: httpx.Client) -> None:
    for path in (f"/admin/models/{GRU}/load", f"/admin/models/{GRU}/unload", "/admin/models"):
        refused = client.post(path)
        assert refused.status_code == 404
        assert "--admin" in refused.json()["detail"]
    assert "--admin" not in client.post("/administration").json()["detail"]
    assert not [path for path in client.get("/openapi.json").json()["paths"] if path.startswith("/admin")]


def test_a_version_is_swapped_in_while_requests_run(start: Start, models: Path) -> None:
    service = start("--admin", models=models).until_ready()
    admin = f"/admin/models/{GRU}"
    with traffic(service.url) as seen:
        service.wait(lambda: len(seen) > 5)
        add(models, 24)
        description = ModelDescription.model_validate_json(service.client.post(f"{admin}/load").content)
        assert (description.version, description.hidden) == ("2", 24)
        count = len(seen)
        service.wait(lambda: len(seen) > count + 5)
        add(models, 32, broken=True)
        refused = service.client.post(f"{admin}/load", json={})
        assert refused.status_code == 409
        assert "weights.safetensors does not match" in refused.json()["detail"]
        assert str(models) not in refused.text
        count = len(seen)
        service.wait(lambda: len(seen) > count + 5)
        back = service.client.post(f"{admin}/load", json={"version": 1})
        assert (back.status_code, back.json()["version"]) == (200, "1")
        count = len(seen)
        service.wait(lambda: len(seen) > count + 5)
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {"1", "2"}


def test_a_refused_version_stands_in_models(start: Start, models: Path) -> None:
    service = start("--admin", models=models).until_ready()
    add(models, 24, broken=True)
    assert service.client.post(f"/admin/models/{GRU}/load").status_code == 409
    (refused,) = service.client.get("/models").json()["refused"]
    assert (refused["name"], refused["version"]) == (GRU, "2")
    assert service.client.get(f"/models/{GRU}").json()["version"] == "1"
    versions = Versions.model_validate_json(service.client.get("/admin/models").content).versions
    found = [(each.name, each.version, each.ready) for each in versions]
    assert found == [("ner-bigru", "1", True), (GRU, "1", True), (GRU, "2", False)]
    assert versions[2].reason == refused["reason"]


def test_an_unloaded_model_finishes_its_requests(start: Start, models: Path) -> None:
    add(models, 64)  # slow enough: what follows takes a fraction of the time of 480,000 tokens
    service = start("--admin", "--threads", "1", models=models).until_ready()
    with together(service, "/predict", [{"inputs": ["a fine film . " * 1000] * 120, "model": GRU}]) as asked:
        service.wait(lambda: value(service, "batch_rows_count") > 0)
        unloaded = service.client.post(f"/admin/models/{GRU}/unload")
        assert Unloaded.model_validate_json(unloaded.content).name == GRU
        assert service.client.post("/predict", json={"inputs": "a", "model": GRU}).status_code == 404
        assert not asked.answered, "the long request was to outlast the unloading"
        (answer,) = asked.answers
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 120


def test_the_last_model_can_go_and_come_back(start: Start, tmp_path: Path, repository: Path) -> None:
    models = tmp_path / "none"
    models.mkdir()
    service = start("--admin", models=models)
    client = service.client
    service.wait(lambda: client.post("/admin/models/x/load").status_code == 404)
    assert client.get("/health/ready").status_code == 503
    shutil.copytree(repository / GRU, models / GRU)
    assert client.post(f"/admin/models/{GRU}/load").status_code == 200
    assert client.get("/health/ready").status_code == 200
    assert client.post("/predict", json={"inputs": "a"}).json()["model"] == GRU
    assert client.post(f"/admin/models/{GRU}/unload").status_code == 200
    assert client.post(f"/admin/models/{GRU}/unload").status_code == 404
    assert client.get("/health/ready").status_code == 503
    assert client.post("/predict", json={"inputs": "a"}).status_code == 503
    assert client.post(f"/admin/models/{GRU}/load").status_code == 200
    assert client.post("/predict", json={"inputs": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        (b"[]", 422, "invalid-field"),
        (b"{", 400, "malformed-body"),
        (b'{"version":0}', 422, "invalid-field"),
        (b'{"version":"1"}', 422, "invalid-field"),
        (b'{"version":1e400}', 400, "malformed-body"),
        (b'{"version":7}', 404, "model-not-found"),
        (b'{"verse":1}', 422, "invalid-field"),
        (b" " * 2000, 413, "too-large"),
    ],
)
def test_bodies_of_load(admin: Process, body: bytes, status: int, slug: str) -> None:
    headers = {"Content-Type": "application/json"}
    response = admin.client.post(f"/admin/models/{GRU}/load", content=body, headers=headers)
    assert response.status_code == status, response.text
    assert response.json()["type"].endswith(slug)


def test_other_bodies_of_load(admin: Process) -> None:
    path = f"/admin/models/{GRU}/load"
    assert admin.client.post(path, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    streamed = admin.client.post(path, content=iter([b"{}"]), headers={"Content-Type": "application/json"})
    assert streamed.status_code == 200
    for name in ("none", "..%2f..%2fetc", "%2e%2e", "a" * 3000, "%00", "%ff"):
        assert admin.client.post(f"/admin/models/{name}/load").status_code == 404
        assert admin.client.post(f"/admin/models/{name}/unload").status_code == 404
    assert admin.client.get(path).status_code == 405


def test_the_document_has_the_routes(admin: Process) -> None:
    document = admin.client.get("/openapi.json").json()
    OpenAPI.model_validate(document)
    assert {"/admin/models", "/admin/models/{name}/load", "/admin/models/{name}/unload"} < set(document["paths"])


def test_web_pages_of_other_origins_are_refused(admin: Process) -> None:
    headers = {"Origin": "https://evil.example"}
    response = admin.client.post(f"/admin/models/{GRU}/unload", headers=headers)
    assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (403, "forbidden")
    assert admin.client.get(f"/models/{GRU}").status_code == 200


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Process]:
    """A service that only says no."""
    process = Process(tmp_path_factory.mktemp("admin"), repository, "--admin")
    yield process.until_ready()
    process.close()
