"""docker-compose.yml beyond the serving itself: limits that are respected, restarts, secrets and profiles."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.container.conftest import IMAGE, MODELS, ROOT, THIS_RUN, Compose, Composed, Run, docker, served, wait
from tests.patience import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRAIN_IMAGE = f"{THIS_RUN}:train"
CPUS = "import os; from service.cpus import usable_cpus; print(usable_cpus(), len(os.sched_getaffinity(0)))"
KILL = """
import contextlib, os, pathlib
for each in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):  # it has ended since
        if int(each.name) not in (1, os.getpid()) and b'service' in (each / 'cmdline').read_bytes():
            os.kill(int(each.name), 9)
"""


@pytest.mark.parametrize(("quota", "usable"), [("0.5", 1), ("1", 1), ("1.9", 1)])
def test_threads_come_from_the_quota_and_not_from_the_machine(run: Run, quota: str, usable: int) -> None:
    container = run("--cpus", quota)
    wait(lambda: container.healthy)
    # All CPUs that the engine has: these tests themselves may be pinned to fewer.
    assert container.python(CPUS).split() == [str(usable), docker("info", "--format", "{{.NCPU}}").strip()]
    assert container.event("ready")["threads"] == usable


def test_threads_come_from_the_cpus_it_is_pinned_to(run: Run) -> None:
    container = run("--cpuset-cpus", "0")
    wait(lambda: container.healthy)
    assert container.event("ready")["threads"] == 1


def test_all_models_and_long_requests_stay_within_the_memory(compose: Compose, measure: Callable[[str], None]) -> None:
    composed = compose()
    for model in served(composed.url):
        body = {"model": model, "inputs": ["word " * 1000] * 64}
        assert httpx.post(f"{composed.url}/predict", json=body, timeout=120).status_code == 200
    (line,) = docker(
        "stats", "--no-stream", "--format", "{{.MemPerc}} {{.MemUsage}}", composed.container.id
    ).splitlines()
    assert float(line.split("%")[0]) < 75, line  # taggers that read characters take 20 numbers for each token
    assert composed.container.inspect()["State"]["OOMKilled"] is False
    measure(f"memory {line.split()[1]} after long requests to every model")


def test_one_that_dies_is_started_again(compose: Compose) -> None:
    composed = compose()
    container = composed.container
    docker("exec", "--detach", container.id, "python", "-c", KILL)  # the container takes it along as it ends
    wait(lambda: container.inspect()["RestartCount"] == 1 and container.running)
    wait(lambda: container.healthy)
    assert served(composed.url)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("folder", "source", "path"),
    [
        ("", "/dev/null", "/app/models"),
        ("./models", str(MODELS), "/app/mounted/models"),
        ("models", str(MODELS), "/app/mounted/models"),
        ("/srv/my models: a+b", "/srv/my models: a+b", "/app/mounted/models"),
    ],
)
def test_a_folder_of_models_is_named_by_a_variable(tmp_path: Path, folder: str, source: str, path: str) -> None:
    for service in ("service", "service-cuda"):
        config = json.loads(
            Composed(f"{THIS_RUN}-config", tmp_path, MODELS=folder)(
                "--profile", "cuda", "config", "--format", "json", service
            )
        )["services"][service]
        (mount,) = [volume for volume in config["volumes"] if volume["type"] == "bind"]
        assert (mount["source"], mount["target"]) == (source, "/app/mounted/models")
        assert mount["read_only"] is True
        assert config["environment"]["SERVICE_MODELS"] == path


def test_the_models_of_a_folder_are_served_instead(compose: Compose, tmp_path: Path) -> None:
    folder = tmp_path / "my models"
    shutil.copytree(MODELS / "sentiment-gru", folder / "mine")
    for each in (tmp_path, folder, *folder.rglob("*")):  # the container's user is another
        each.chmod(0o755 if each.is_dir() else 0o644)
    composed = compose(MODELS=str(folder), RELOAD="0.5")
    assert list(served(composed.url)) == ["mine"]
    shutil.copytree(folder / "mine", folder / "other")
    wait(lambda: sorted(served(composed.url)) == ["mine", "other"])


def test_a_folder_that_is_not_there_is_refused(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nothing-here"):
        compose(MODELS=str(tmp_path / "nothing-here"))
    assert not (tmp_path / "nothing-here").exists()


def test_api_keys_come_from_a_secret_and_can_be_changed(compose: Compose, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key-of-the-test\n", encoding="utf-8")
    keys.chmod(0o644)  # the container's user is another
    composed = compose(API_KEYS_FILE=str(keys))

    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{composed.url}/models", headers=headers, timeout=PATIENCE).status_code

    assert httpx.get(f"{composed.url}/models", timeout=PATIENCE).status_code == 401
    assert httpx.get(f"{composed.url}/health/ready", timeout=PATIENCE).status_code == 200
    assert (status("first-key-of-the-test"), status("other-key-of-the-test")) == (200, 401)
    assert "key-of-the-test" not in json.dumps(composed.container.inspect())
    keys.write_text("other-key-of-the-test\n", encoding="utf-8")
    wait(lambda: status("other-key-of-the-test") == 200)
    assert status("first-key-of-the-test") == 401


@pytest.fixture(scope="session")
def train_image(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The training image, built with the wheel of torch for CPUs that lies on this machine; else it is skipped: the
    usual index has torch for GPUs, and that takes minutes and 5 GB."""
    wheels = Path(os.environ.get("PIP_FIND_LINKS", "/opt/wheels"))
    if not list(wheels.glob("torch-*+cpu-*.whl")):
        pytest.skip("training image: there is no wheel of torch for CPUs on this machine (PIP_FIND_LINKS)")
    build = Composed(f"{THIS_RUN}-train", tmp_path_factory.mktemp("train"), IMAGE_TRAIN=TRAIN_IMAGE, WHEELS=str(wheels))
    build("build", "train")
    yield TRAIN_IMAGE
    docker("image", "rm", "--force", TRAIN_IMAGE)


def test_what_the_training_job_writes_is_served_without_a_restart(train_image: str, compose: Compose) -> None:
    composed = compose(IMAGE_TRAIN=train_image, RELOAD="0.5", EPOCHS="1", CPUS="1")
    started = composed.container.inspect()["State"]["StartedAt"]
    assert "my-sentiment" not in served(composed.url)
    composed("run", "--rm", "--no-deps", "train")
    wait(lambda: served(composed.url).get("my-sentiment") == "1")
    body = {"model": "my-sentiment", "inputs": "A slow start, but the ending is wonderful."}
    assert httpx.post(f"{composed.url}/predict", json=body, timeout=PATIENCE).json()["version"] == "1"
    assert composed.container.inspect()["State"]["StartedAt"] == started


@pytest.mark.usefixtures("engine")
def test_the_gpu_is_reserved_in_its_profile_alone() -> None:
    command = ("compose", "--file", str(ROOT / "docker-compose.yml"))
    usual = json.loads(docker(*command, "config", "--format", "json", IMAGE=IMAGE))
    assert list(usual["services"]) == ["service"]
    cuda = json.loads(docker(*command, "--profile", "cuda", "config", "--format", "json"))["services"]["service-cuda"]
    (device,) = cuda["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert (cuda["build"]["target"], cuda["environment"]["SERVICE_PROVIDER"]) == ("cuda", "cuda")
    service = usual["services"]["service"]
    same = ("cap_drop", "read_only", "security_opt", "tmpfs", "init", "restart", "healthcheck", "stop_grace_period")
    assert {key: cuda[key] for key in same} == {key: service[key] for key in same}
