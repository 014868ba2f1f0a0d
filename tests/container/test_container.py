"""The image and docker-compose.yml: that they serve, what they hold, how little they may, and how they end."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.model import bundle
from tests.container.conftest import (
    MODELS,
    ROOT,
    STOPS_WITHIN,
    Compose,
    Composed,
    Container,
    Run,
    docker,
    served,
    wait,
)
from tests.patience import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LARGEST = 300e6
"""Bytes of the image above its base."""
TEXT = "Ada Lovelace lived in London."
SHIPPED = sorted(name for name, _ in bundle.discover(MODELS))


def stop(container: Container) -> None:
    """Stop it as docker-compose.yml's grace period has it, and see that it ended by itself."""
    started = time.monotonic()
    docker("stop", "--time", str(STOPS_WITHIN), container.id)
    assert time.monotonic() - started < STOPS_WITHIN
    state = container.inspect()["State"]
    assert (state["Running"], state["ExitCode"], state["OOMKilled"]) == (False, 0, False)


def test_it_is_live_ready_and_healthy(client: httpx.Client, composed: Composed) -> None:
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200
    assert composed.container.healthy


def test_every_shipped_model_is_in_the_image(client: httpx.Client) -> None:
    answer = client.get("/models").json()
    assert sorted(model["name"] for model in answer["models"]) == SHIPPED
    assert answer["refused"] == []
    assert {model["provider"] for model in answer["models"]} == {"cpu"}


@pytest.mark.parametrize("model", SHIPPED)
def test_it_predicts(client: httpx.Client, model: str) -> None:
    response = client.post("/predict", json={"model": model, "inputs": [TEXT, TEXT.split()]})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["model"] == model
    assert len(answer["predictions"]) == 2


@pytest.mark.parametrize("model", SHIPPED)
def test_it_shows_gates(client: httpx.Client, model: str) -> None:
    response = client.post("/gates", json={"model": model, "inputs": TEXT})
    assert response.status_code == 200, response.text
    (trace,) = response.json()["traces"]
    description = client.get(f"/models/{model}").json()
    assert len(trace["layers"]) == description["layers"] * len(description["directions"])
    for layer in trace["layers"]:
        assert list(layer["gates"]) == description["gates"]
        for rows in layer["gates"].values():
            assert [len(row) for row in rows] == [description["hidden"]] * len(trace["tokens"])


def test_it_runs_as_a_number_without_any_privilege(composed: Composed) -> None:
    script = "import pathlib; print(pathlib.Path('/proc/1/status').read_text())"
    status = dict(line.split(":\t", 1) for line in composed.container.python(script).splitlines())
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert {status[each] for each in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


def test_nothing_but_tmp_can_be_written(composed: Composed) -> None:
    mounts = composed.container.python("import pathlib; print(pathlib.Path('/proc/mounts').read_text())")
    options = {fields[1]: fields[3].split(",") for fields in map(str.split, mounts.splitlines())}
    assert "ro" in options["/"]
    assert {"rw", "nosuid", "nodev", "noexec"} <= set(options["/tmp"])


def test_it_holds_what_serves_and_nothing_else(composed: Composed) -> None:
    script = "import json, os; print(json.dumps(sorted(os.listdir('/app'))))"
    # "mounted" is compose's: the place of the folder that MODELS names.
    assert set(json.loads(composed.container.python(script))) - {"mounted"} == {"LICENSE", "models", "service"}
    script = "import importlib.util as i; print([n for n in ('torch', 'onnx', 'training', 'pip') if i.find_spec(n)])"
    assert composed.container.python(script) == "[]"


def test_it_is_small_above_its_base(image: str, measure: Callable[[str], None]) -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    sizes = [json.loads(docker("image", "inspect", name))[0]["Size"] for name in (image, base)]
    above = sizes[0] - sizes[1]
    assert above < LARGEST
    lines = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image).splitlines()
    layers = [int(line.split()[0]) for line in lines if " COPY --link" in line or " COPY /" in line]
    code, models, packages = layers[:3]
    assert code + models + packages == pytest.approx(above, rel=0.01)
    parts = f"packages {packages / 1e6:.0f}, models {models / 1e6:.0f}, code {code / 1e6:.1f}"
    measure(f"image {sizes[0] / 1e6:.0f} MB, {above / 1e6:.0f} above its base ({parts})")


def test_the_limits_hold_and_the_service_knows_its_cpus(composed: Composed) -> None:
    limits = composed.container.inspect()["HostConfig"]
    assert (limits["NanoCpus"], limits["Memory"], limits["PidsLimit"]) == (1_000_000_000, 2**30, 256)
    assert composed.container.event("ready")["threads"] == 1


def test_alone_without_a_network_it_starts_quietly_and_stops_with_status_0(
    run: Run, measure: Callable[[str], None]
) -> None:
    container = run()
    wait(lambda: container.healthy)
    assert {line["level"] for line in container.log} == {"info"}
    assert "/app" not in {mount["Destination"] for mount in container.inspect()["Mounts"]}
    measure(f"ready {container.seconds_to_ready():.1f} s after its start with {len(SHIPPED)} models")
    stop(container)
    assert container.log[-1]["event"] == "stopped"


def test_a_setting_comes_from_the_environment(run: Run) -> None:
    container = run("--env", "SERVICE_PORT=9000", "--env", "SERVICE_THREADS=3")
    wait(lambda: container.healthy)
    assert container.event("listening")["url"].endswith(":9000")
    assert container.event("ready")["threads"] == 3


def test_a_folder_without_models_ends_it_with_a_reason(run: Run, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()  # unlike tmp_path itself, for everyone to read
    container = run("--volume", f"{models}:/app/models:ro")
    wait(lambda: not container.running)
    assert container.inspect()["State"]["ExitCode"] == 1
    assert "no model to serve" in container.log[-1]["event"]


def test_models_of_a_mounted_folder_are_served_and_new_ones_found(compose: Compose, tmp_path: Path) -> None:
    models, override, name = tmp_path / "models", tmp_path / "models.yml", SHIPPED[0]
    newest = str(bundle.versions(MODELS / name)[-1])
    shutil.copytree(MODELS / name / newest, models / "mounted" / "1")
    override.write_text(f"services: {{service: {{volumes: !override ['{models}:/app/models:ro']}}}}", encoding="utf-8")
    url = compose(override, RELOAD="0.2").url
    assert served(url) == {"mounted": "1"}
    shutil.copytree(MODELS / name / newest, models / "mounted" / ".new")
    (models / "mounted" / ".new").rename(models / "mounted" / "2")
    wait(lambda: served(url) == {"mounted": "2"})


def test_a_stop_finishes_what_was_taken(compose: Compose) -> None:
    composed = compose()
    container = composed.container
    inputs = ["word " * 900] * 80  # a second or so of work
    url = composed.url
    body = {"inputs": inputs, "task": "ner"}

    def taken() -> bool:
        waiting = re.search(
            r"^gatelight_queued_tokens (\S+)$", httpx.get(f"{url}/metrics", timeout=PATIENCE).text, re.MULTILINE
        )
        assert waiting
        return float(waiting[1]) > 0

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{url}/predict", json=body, timeout=PATIENCE)
        wait(lambda: answer.done() or taken())
        stop(container)
        assert answer.result().status_code == 200, answer.result().text
        assert len(answer.result().json()["predictions"]) == len(inputs)
