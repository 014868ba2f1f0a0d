"""deploy/swarm.yml, really deployed: replicas die, come, go and are replaced while requests run.

The proxy's image is a stand-in, Debian's HAProxy. The routing mesh is checked as configuration only: it needs IPVS in
the kernel.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from benchmarks.serving import free_port
from service.model import bundle
from tests.container.conftest import MODELS, ROOT, THIS_RUN, docker, served, wait
from tests.patience import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # another run's turn may come first

STACK = ROOT / "deploy" / "swarm.yml"
NAME = THIS_RUN
NEW_IMAGE = f"{THIS_RUN}:new-model"
PROXY_IMAGE = f"{THIS_RUN}:proxy"
TURN = Path(tempfile.gettempdir()) / "gatelight-test-swarm.lock"
UPDATED_WITHIN = 600
"""Seconds. Two replicas are replaced one after the other."""
PROXY = """FROM debian:bookworm-slim
RUN apt-get -qq update && apt-get -qq install --yes --no-install-recommends haproxy >/dev/null
USER haproxy
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"""
CLIENTS = 3


@contextmanager
def turn() -> Iterator[None]:
    """An engine is in one swarm at a time. Runs of these tests on one machine take turns."""
    with TURN.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(name: str, dockerfile: str, folder: Path) -> None:
    (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    docker("build", "--quiet", "--tag", name, str(folder))


class Stack:
    """The stack as deployed, and requests to it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def replicas(self) -> list[str]:
        """The containers of the service that are healthy."""
        label = f"label=com.docker.swarm.service.name={NAME}_service"
        return docker("ps", "--quiet", "--filter", label, "--filter", "health=healthy").split()

    def scale(self, replicas: int) -> None:
        docker("service", "scale", "--detach", f"{NAME}_service={replicas}")
        wait(lambda: len(self.replicas()) == replicas)


class Load:
    """`CLIENTS` clients that ask without a pause until the end of the block, and what went wrong for them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        self.answered = 0
        self.failures: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int = 60) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + count
        wait(lambda: self.answered >= wanted)

    def _ask(self) -> None:
        with httpx.Client(timeout=PATIENCE) as client:
            while not self._stop.is_set():
                try:
                    response = client.post(f"{self._url}/predict", json={"inputs": "A slow start, a wonderful ending."})
                    if response.status_code != 200:
                        self.failures.append(f"{response.status_code} {response.text[:200]}")
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self.answered += 1
                time.sleep(0.02)


@pytest.fixture(scope="module")
def stack(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    build(PROXY_IMAGE, PROXY, tmp_path_factory.mktemp("proxy"))
    with turn():
        swarm = json.loads(docker("info", "--format", "{{json .Swarm.LocalNodeState}}"))
        assert swarm == "inactive", "this engine is part of a swarm already"
        docker("swarm", "init", "--advertise-addr", "127.0.0.1")
        try:
            yield deployed(image)
        finally:
            try:
                docker("stack", "rm", NAME)
            finally:
                docker("swarm", "leave", "--force")
    docker("image", "rm", "--force", PROXY_IMAGE, NEW_IMAGE)


def deployed(image: str) -> Stack:
    port = str(free_port())
    variables = {"IMAGE": image, "PROXY_IMAGE": PROXY_IMAGE, "PORT": port, "CPUS": "1", "DRAIN_SECONDS": "2"}
    deploy = ("stack", "deploy", "--resolve-image", "never", "--detach=true", "--compose-file", str(STACK), NAME)
    docker(*deploy, **variables)
    one = Stack(f"http://127.0.0.1:{port}")
    wait(lambda: len(one.replicas()) == 2)
    wait(lambda: ready(one.url))
    return one


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_replica_is_killed(stack: Stack, measure: Callable[[str], None]) -> None:
    victim = stack.replicas()[0]
    with Load(stack.url) as load:
        load.more()
        docker("kill", victim)
        wait(lambda: len(stack.replicas()) == 2 and victim not in stack.replicas())
        load.more()
    assert len(load.failures) <= CLIENTS, load.failures  # those that it was answering
    measure(f"swarm: {len(load.failures)} of {load.answered} requests failed as a replica was killed")


def test_replicas_come_and_go_without_a_failure(stack: Stack) -> None:
    stack.scale(1)
    with Load(stack.url) as load:
        stack.scale(3)
        load.more()
        stack.scale(1)
        time.sleep(4)  # a replica that goes takes requests for a while
        load.more()
    assert load.failures == []


def test_an_update_to_an_image_with_a_new_model_fails_nothing(
    stack: Stack, image: str, tmp_path: Path, measure: Callable[[str], None]
) -> None:
    source = MODELS / "sentiment-gru"
    newest = str(bundle.versions(source)[-1])
    shutil.copytree(source / newest, tmp_path / "new" / "1")
    build(NEW_IMAGE, f"FROM {image}\nCOPY new /app/models/new\n", tmp_path)
    stack.scale(2)
    before = set(stack.replicas())
    with Load(stack.url) as load:
        docker("service", "update", "--detach", "--no-resolve-image", "--image", NEW_IMAGE, f"{NAME}_service")
        wait(lambda: updated(stack, before), within=UPDATED_WITHIN)
        load.more()
    assert load.failures == []
    for _ in range(4):  # whichever replica answers
        assert "new" in served(stack.url)
    measure(f"swarm: none of {load.answered} requests failed in a rolling update")


def updated(stack: Stack, before: set[str]) -> bool:
    now = set(stack.replicas())
    return len(now) == 2 and not before & now


@pytest.mark.usefixtures("engine")
def test_the_mesh_is_a_variable_away() -> None:
    for publish in ("host", "ingress"):
        rendered = yaml.safe_load(docker("stack", "config", "--compose-file", str(STACK), PUBLISH=publish))
        (port,) = rendered["services"]["proxy"]["ports"]
        assert (port["mode"], port["target"]) == (publish, 8000)
    service = rendered["services"]["service"]
    assert service["deploy"]["endpoint_mode"] == "dnsrr"
    assert service["deploy"]["update_config"]["order"] == "start-first"
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_the_proxy_asks_for_the_service_by_its_name_and_waits_as_long_as_it_does() -> None:
    text = (ROOT / "deploy" / "proxy" / "haproxy.cfg").read_text(encoding="utf-8")
    services = yaml.safe_load(STACK.read_text(encoding="utf-8"))["services"]
    (name,) = re.findall(r"server-template \w+ \d+ (\w+):8000", text)
    assert name in services
    assert {int(seconds) for seconds in re.findall(r"timeout (?:client|server) (\d+)s", text)} == {330}
