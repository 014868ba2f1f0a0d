"""Starting, reloading and stopping the process."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import ROOT, Process, Start
from tests.integration.models import write_model
from tests.integration.together import together
from tests.patience import PATIENCE

LONG = {"inputs": ["Ada lived in London . " * 800] * 64, "task": "ner"}


def reason(process: Process) -> str:
    """Why a start failed: the one line that says so, which is the last."""
    assert "Traceback" not in process.output
    lines = [line for line in process.output.splitlines() if '"error"' in line and "cannot start" in line]
    assert len(lines) == 1, process.output
    return str(json.loads(lines[0])["event"])


def test_a_port_in_use(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = start("--port", port)
        assert process.exit_status() == 1
    assert port in reason(process)
    assert "in use" in reason(process)


def test_a_host_that_is_not_there(start: Start) -> None:
    process = start("--host", "203.0.113.7")
    assert process.exit_status() == 1
    assert "203.0.113.7" in reason(process)


def test_an_empty_folder(start: Start, tmp_path: Path) -> None:
    (tmp_path / "none" / "sentiment" / "01").mkdir(parents=True)
    process = start(models=tmp_path / "none")
    assert process.exit_status() == 1
    assert "no model" in reason(process)
    assert "without leading zeros" in reason(process)


def test_a_folder_that_is_not_there(start: Start, tmp_path: Path) -> None:
    process = start(models=tmp_path / "nowhere")
    assert process.exit_status() == 1
    assert "nowhere" in reason(process)


def test_a_default_that_is_not_loaded(start: Start) -> None:
    process = start("--default-ner", "ner-xl")
    assert process.exit_status() == 1
    assert "ner-xl" in reason(process)


def test_cuda_where_there_is_none(start: Start) -> None:
    process = start("--provider", "cuda")
    if process.process.poll() is None and process.exit_status() == 0:
        pytest.skip("this machine has CUDA")
    assert process.exit_status() == 1
    assert "cuda" in reason(process)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--port", "99999"), ("port", "99999", "65535")),
        (("--max-body", "2MB"), ("max_body", "2MB", "whole number")),
        (("--provider", "gpu"), ("provider", "gpu", "auto, cpu, cuda")),
        (("--timeout", "400"), ("timeout", "400", "max_timeout")),
    ],
)
def test_a_setting_out_of_range(start: Start, flags: tuple[str, ...], words: tuple[str, ...]) -> None:
    process = start(*flags)
    assert process.exit_status() == 2
    (line,) = process.output.splitlines()
    assert all(word in line for word in words)


def test_an_unknown_variable_is_warned_of(start: Start) -> None:
    process = start("--port", "99999", SERVICE_PORT="1")
    assert process.exit_status() == 2
    process = start("--host", "203.0.113.7", SERVICE_PROT="8001")
    assert process.exit_status() == 1
    assert "SERVICE_PROT" in process.output


def test_a_broken_bundle_is_named_and_the_others_served(start: Start, repository: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(repository, models)
    with (models / "ner-bigru" / "1" / "model.onnx").open("ab") as graph:
        graph.write(b"x")
    service = start(models=models).until_ready()
    answer = service.client.get("/models").json()
    assert "ner-bigru" not in [model["name"] for model in answer["models"]]
    assert "ner-bilstm" in [model["name"] for model in answer["models"]]
    (refused,) = answer["refused"]
    assert (refused["name"], refused["version"]) == ("ner-bigru", "1")
    assert "model.onnx" in refused["reason"]
    assert str(tmp_path) not in json.dumps(answer)
    assert "bundle refused" in service.output


def test_reloading_waits_for_a_model_and_takes_new_versions(start: Start, tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    models.mkdir()
    service = start("--reload", "0.1", models=models)
    client = service.client
    assert client.get("/health/live").status_code == 200
    for response in (client.get("/health/ready"), client.post("/predict", json={"inputs": "a"}), client.get("/models")):
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1

    write_model(elsewhere, cell="gru")
    elsewhere.rename(models / "sentiment-gru")
    service.until_ready()
    first = client.post("/predict", json={"inputs": "a"}).json()
    assert (first["model"], first["version"]) == ("sentiment-gru", "1")

    write_model(elsewhere, cell="gru", hidden=24).path.rename(models / "sentiment-gru" / "2")
    service.wait(lambda: client.get("/models/sentiment-gru").json()["version"] == "2")
    assert client.get("/models/sentiment-gru").json()["hidden"] == 24
    assert client.post("/gates", json={"inputs": "a", "units": [23]}).status_code == 200


def test_sigterm_finishes_what_was_accepted(start: Start) -> None:
    service = start("--threads", "1", "--grace-seconds", str(int(PATIENCE))).until_ready()
    with together(service, "/predict", [LONG]) as asked:
        asked.until_sent()
        service.signal(signal.SIGTERM)
        assert service.exit_status() == 0
        (answer,) = asked.answers
    # It was answered while the service drained, not before.
    assert service.output.index('"draining"') < service.output.index('"route":"/predict"')
    assert answer.status_code == 200
    assert len(answer.json()["predictions"]) == 64
    assert "Traceback" not in service.output


def test_draining_is_not_ready_and_still_answers(start: Start) -> None:
    service = start("--drain-seconds", "3600").until_ready()
    service.signal(signal.SIGTERM)
    service.wait(lambda: "draining" in service.output)
    client = service.client
    ready = client.get("/health/ready")
    assert ready.status_code == 503
    assert int(ready.headers["Retry-After"]) >= 1
    assert client.get("/health/live").status_code == 200
    answered = client.post("/predict", json={"inputs": "a"})
    assert answered.status_code == 200
    assert answered.headers["Connection"] == "close"


def test_draining_ends_by_itself(start: Start) -> None:
    service = start("--drain-seconds", "0.5").until_ready()
    url = service.url
    service.signal(signal.SIGTERM)
    assert service.exit_status() == 0
    assert '"draining"' in service.output
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health/live", timeout=PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_other_signals_to_stop_do_the_same(start: Start, number: signal.Signals, workers: str) -> None:
    service = start("--workers", workers).until_ready()
    service.signal(signal.SIGUSR1)  # those of log rotation and of stacks end nothing
    service.signal(signal.SIGUSR2)
    service.wait(lambda: "(most recent call first)" in service.output)
    assert service.client.post("/predict", json={"inputs": "a"}).status_code == 200
    service.signal(number)
    assert service.exit_status() == 0
    assert '"draining"' in service.output
    assert f'"signal":"{number.name}"' in service.output


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    service = start("--drain-seconds", "3600").until_ready()
    service.signal(signal.SIGTERM)
    service.wait(lambda: "draining" in service.output)
    service.signal(signal.SIGTERM)
    assert service.exit_status() == 1


def test_what_takes_longer_than_the_grace_is_answered_503(start: Start) -> None:
    # The queue has room for all of them: none is answered 503 because it is full.
    flags = ("--grace-seconds", "1", "--threads", "1", "--queue-tokens", "4000000")
    service = start(*flags).until_ready()
    with together(service, "/predict", [LONG] * 4) as asked:
        asked.until_sent()
        service.signal(signal.SIGTERM)
        assert service.exit_status() == 0
        statuses = [answer.status_code for answer in asked.answers]
    assert 503 in statuses
    assert set(statuses) <= {200, 503}
    assert "Traceback" not in service.output


def test_logs_never_hold_the_text_unless_asked_to(start: Start) -> None:
    for flags, logged in (((), False), (("--log-text",), True)):
        service = start(*flags).until_ready()
        headers = {"X-Request-ID": "findme"}
        service.client.post("/predict", json={"inputs": "Unspeakable secret"}, headers=headers)
        service.client.post("/predict", json={"inputs": ["a", "Unspeakable secret", 3]}, headers=headers)
        service.client.get("/Unspeakable/secret", headers=headers)
        # A request's line follows its answer.
        service.says("findme", times=3)
        assert ("Unspeakable" in service.output) is logged
        lines = [json.loads(line) for line in service.output.splitlines() if "findme" in line]
        assert [(line["event"], line["route"], line["status"]) for line in lines] == [
            ("request", "/predict", 200),
            ("request", "/predict", 422),
            ("request", "none", 404),
        ]
        assert lines[0].items() >= {"model": "sentiment-bilstm", "inputs": 1, "tokens": 2, "method": "POST"}.items()


def test_the_command_line(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False
        )

    alone, help_, version = run(), run("serve", "--help"), run("--version")
    assert alone.returncode == help_.returncode == version.returncode == 0
    assert "serve" in alone.stdout
    assert "--max-body" in help_.stdout
    assert "SERVICE_MAX_BODY" in help_.stdout
    assert version.stdout.strip().count(".") == 2
    assert run("serve", "--nonsense").returncode == 2
