"""Several worker processes on one port, and the one that watches over them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from service.process.worker import SHOW_STACKS
from tests.integration.conftest import ROOT, Process, Start, many_models
from tests.integration.metrics import value
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def workers_of(service: Process) -> list[int]:
    """The workers, oldest first; none while the models load."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    return [int(pid) for pid in children.read_text(encoding="ascii").split()]


def all_ready(service: Process, count: int) -> Process:
    service.until_ready()
    service.wait(lambda: value(service, "ready") == count)
    service.wait(lambda: len(workers_of(service)) == count)
    return service


class Callers:
    """Clients that ask the same again and again, each over connections of its own, and keep count of what came."""

    def __init__(self, service: Process, count: int = 4) -> None:
        self.url = service.url
        self.outcomes: Counter[str] = Counter()
        self.labels: set[str] = set()
        self._going = True
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while self._going:
            try:
                with httpx.Client() as client:
                    for _ in range(3):
                        response = client.post(f"{self.url}/predict", json={"inputs": "a b c"}, timeout=PATIENCE)
                        self.outcomes[str(response.status_code)] += 1
                        if response.status_code == 200:
                            self.labels.add(response.json()["predictions"][0]["label"])
            except httpx.TransportError as error:
                self.outcomes[type(error).__name__] += 1

    def stop(self) -> Counter[str]:
        self._going = False
        for thread in self._threads:
            thread.join()
        return self.outcomes


def test_workers_share_the_work_and_the_numbers(start: Start) -> None:
    service = all_ready(start("--workers", "2"), 2)
    assert value(service, "workers") == 2
    for _ in range(40):
        assert httpx.post(f"{service.url}/predict", json={"inputs": "a"}, timeout=PATIENCE).status_code == 200
    service.says('"/predict"', times=40)
    served = Counter(json.loads(line)["worker"] for line in service.output.splitlines() if '"/predict"' in line)
    assert set(served) == {0, 1}
    service.wait(lambda: value(service, "requests_total", route="/predict", method="POST", status="200") == 40)
    assert value(service, "stage_seconds_count", stage="run") == value(service, "batch_rows_count") == 40


def test_a_killed_worker_is_replaced_and_the_others_never_notice(start: Start) -> None:
    service = all_ready(start("--workers", "2"), 2)
    callers = Callers(service)
    service.wait(lambda: callers.outcomes["200"] > 20)
    before = value(service, "requests_total", route="/predict", method="POST", status="200")
    victim = workers_of(service)[0]
    os.kill(victim, signal.SIGKILL)
    service.wait(lambda: victim not in workers_of(service) and len(workers_of(service)) == 2)
    service.wait(lambda: value(service, "worker_restarts_total") == 1 and value(service, "ready") == 2)
    outcomes = callers.stop()
    # Each caller had at most one request in flight in the worker that was killed, and nobody met one without models.
    assert not {"500", "503"} & set(outcomes)
    assert sum(count for outcome, count in outcomes.items() if outcome != "200") <= 4
    assert outcomes["200"] > 10
    assert len(callers.labels) == 1
    assert value(service, "requests_total", route="/predict", method="POST", status="200") >= before
    assert value(service, "workers") == 2


def time_of(service: Process, event: str, nth: int = 0) -> datetime:
    """When something happened, as the log says."""
    lines = [json.loads(line) for line in service.output.splitlines() if event in line]
    return [datetime.fromisoformat(line["timestamp"]) for line in lines if line["event"] == event][nth]


def kilobytes(pid: int, what: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def test_workers_share_the_models_that_were_loaded_once(start: Start) -> None:
    service = all_ready(start("--workers", "2", models=ROOT / "models"), 2)
    service.client.post("/predict", json={"inputs": "a b c"})
    assert service.output.count('"model loaded"') == value(service, "reloads_total", outcome="loaded") > 0
    for pid in workers_of(service):
        own = kilobytes(pid, "Private_Dirty") + kilobytes(pid, "Private_Clean")
        assert own < kilobytes(pid, "Rss") / 3


def test_whoever_asks_while_the_models_load_is_told_so(start: Start, tmp_path: Path) -> None:
    service = start("--workers", "2", models=many_models(tmp_path))
    statuses = []

    def ready() -> bool:
        with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
            assert client.get("/health/live").status_code == 200
            answer = client.get("/health/ready")
        statuses.append(answer.status_code)
        assert answer.headers.get("connection") == (None if answer.status_code == 200 else "close")
        return answer.status_code == 200

    service.wait(ready)
    assert statuses[0] == 503
    for _ in range(20):
        assert ready(), "whoever was told that it is ready meets nobody who says otherwise"
    assert value(service, "workers") == 2
    assert time_of(service, "listening") < time_of(service, "model loaded") < time_of(service, "ready")


def test_the_place_of_a_killed_worker_is_taken_at_once(start: Start) -> None:
    service = all_ready(start("--workers", "2"), 2)
    callers = Callers(service, 8)
    service.wait(lambda: callers.outcomes["200"] > 20)
    loaded = service.output.count('"model loaded"')
    os.kill(workers_of(service)[0], signal.SIGKILL)
    service.wait(lambda: service.output.count('"ready"') == 3)
    assert service.output.count('"model loaded"') == loaded, "it has the models that it was forked with"
    before = callers.outcomes["200"]
    service.wait(lambda: callers.outcomes["200"] > before + 20)
    outcomes = callers.stop()
    assert not {"500", "503"} & set(outcomes)
    assert sum(count for outcome, count in outcomes.items() if outcome != "200") <= 8
    assert len(callers.labels) == 1
    service.signal()
    assert service.exit_status() == 0


def test_a_replacement_serves_what_has_come_since_the_start(start: Start, repository: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(repository / "sentiment-bilstm", models / "sentiment-bilstm")
    service = all_ready(start("--workers", "2", "--reload", "0.1", models=models), 2)
    shutil.copytree(repository / "ner-bilstm", models / "ner-bilstm")
    service.wait(lambda: value(service, "reloads_total", outcome="loaded") == 3)
    for pid in workers_of(service):
        os.kill(pid, signal.SIGKILL)
    service.wait(lambda: service.output.count('"ready"') == 4)
    for _ in range(8):
        found = httpx.get(f"{service.url}/models", timeout=PATIENCE).json()["models"]
        assert {each["name"] for each in found} == {"ner-bilstm", "sentiment-bilstm"}


@pytest.mark.parametrize("gone", ["ner-bilstm", "."])
@pytest.mark.parametrize("reload", ["0.05", "3600"])
def test_a_replacement_serves_what_has_gone_from_the_folder_since_the_start(
    start: Start, repository: Path, tmp_path: Path, gone: str, reload: str
) -> None:
    models = tmp_path / "models"
    for name in ("sentiment-bilstm", "ner-bilstm"):
        shutil.copytree(repository / name, models / name)
    service = all_ready(start("--workers", "2", "--reload", reload, models=models), 2)

    def answers() -> list[bytes]:
        bodies = [{"model": name, "inputs": "Ada lived"} for name in ("sentiment-bilstm", "ner-bilstm")]
        return [httpx.post(f"{service.url}/predict", json=body, timeout=PATIENCE).content for body in bodies]

    before = answers()
    shutil.rmtree(models / gone)
    if reload != "3600":
        service.says("model folder missing" if gone != "." else "cannot be read", times=2)
    service.signal(signal.SIGHUP)
    for pid in workers_of(service):
        os.kill(pid, signal.SIGKILL)
    service.wait(lambda: service.output.count('"ready"') == 4)
    for _ in range(8):
        assert answers() == before


def test_a_signal_while_the_models_load_ends_it_at_once(start: Start, tmp_path: Path) -> None:
    models = many_models(tmp_path)  # there are some left when the test has seen the first
    service = start("--workers", "2", models=models)
    service.says('"model loaded"')
    service.signal()
    assert service.exit_status() == 0
    assert service.output.count('"model loaded"') < len(list(models.iterdir()))
    assert '"ready"' not in service.output
    assert "Traceback" not in service.output


def test_what_is_wrong_with_a_setting_is_said_before_models_are_loaded(start: Start, tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").write_text("none", encoding="utf-8")
    service = start("--workers", "2", "--tls-certificate", str(tmp_path / "certificate.pem"))
    assert service.exit_status() == 1
    assert service.output.count("cannot start") == 1
    assert "listening" not in service.output


def test_what_waits_for_a_dead_worker_is_answered_by_its_replacement(start: Start) -> None:
    service = all_ready(start("--workers", "2"), 2)
    workers = workers_of(service)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # nobody accepts: connections wait in the sockets' queues
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(httpx.post(f"{service.url}/predict", json={"inputs": "a"}, timeout=PATIENCE).status_code)

    callers = [threading.Thread(target=ask) for _ in range(16)]
    for caller in callers:
        caller.start()
    time.sleep(0.5)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    for caller in callers:
        caller.join()
    assert statuses == [200] * 16


def test_the_replacement_of_a_worker_that_was_told_to_end_takes_new_connections(start: Start) -> None:
    """A worker that ends keeps new connections out, at a socket that its replacement goes on with."""
    service = all_ready(start("--workers", "2"), 2)
    victim = workers_of(service)[0]
    os.kill(victim, signal.SIGTERM)
    service.wait(lambda: victim not in workers_of(service) and len(workers_of(service)) == 2)
    service.wait(lambda: service.output.count('"ready"') == 3)
    for _ in range(24):  # that none of them goes to the replacement has a chance of 2 to the -24
        assert httpx.get(f"{service.url}/health/ready", timeout=PATIENCE).status_code == 200


def test_sigterm_finishes_what_was_sent(start: Start) -> None:
    service = all_ready(start("--workers", "2"), 2)
    host, port = service.url.removeprefix("http://").split(":")
    body = json.dumps({"inputs": ["Ada lived in London . " * 400] * 8, "task": "ner"}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    callers = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(8)]
    for caller in callers:
        caller.sendall(head.encode() + body)
    service.signal(signal.SIGTERM)
    for caller in callers:
        with caller.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
        caller.close()
    assert service.exit_status() == 0
    assert "Traceback" not in service.output


def test_a_second_signal_ends_all_at_once(start: Start) -> None:
    service = all_ready(start("--workers", "2", "--drain-seconds", "60"), 2)
    workers = workers_of(service)
    service.signal(signal.SIGTERM)
    service.wait(lambda: service.output.count('"draining"') == 2)
    service.signal(signal.SIGTERM)
    assert service.exit_status() == 1
    _wait_until_gone(workers)


def test_workers_end_when_their_supervisor_was_killed(start: Start) -> None:
    service = all_ready(start("--workers", "2"), 2)
    workers = workers_of(service)
    assert len(workers) == 2
    service.signal(signal.SIGKILL)
    service.process.wait(PATIENCE)
    _wait_until_gone(workers)


def test_no_worker_can_start(start: Start, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    service = start("--workers", "2", models=tmp_path / "none")
    assert service.exit_status() == 1
    assert "no model" in service.output
    assert "Traceback" not in service.output


def test_a_worker_is_replaced_though_the_models_folder_has_gone(start: Start, repository: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(repository / "sentiment-bilstm", models / "sentiment-bilstm")
    service = all_ready(start("--workers", "2", "--reload", "1", models=models), 2)
    models.rename(tmp_path / "away")
    victim, survivor = workers_of(service)
    os.kill(victim, signal.SIGKILL)
    service.wait(lambda: service.output.count('"ready"') == 3)
    all_ready(service, 2)
    assert survivor in workers_of(service)
    for _ in range(16):
        assert httpx.post(f"{service.url}/predict", json={"inputs": "a"}, timeout=PATIENCE).status_code == 200


def test_connections_go_past_a_place_that_stays_vacant_for_a_while(start: Start) -> None:
    service = all_ready(start("--workers", "2"), 2)
    survivor = workers_of(service)[1]
    while '"restart_in":3.2' not in service.output:
        for victim in set(workers_of(service)) - {survivor}:
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(victim, signal.SIGKILL)
        time.sleep(0.01)
    connected: dict[str, datetime] = {}
    for number in range(24):
        connection = HTTPConnection(service.url.removeprefix("http://"), timeout=PATIENCE)
        connection.connect()
        connected[f"past-{number}"] = datetime.now(UTC)
        headers = {"Content-Type": "application/json", "X-Request-ID": f"past-{number}"}
        connection.request("POST", "/predict", '{"inputs":"a"}', headers)
        assert connection.getresponse().status == 200
        connection.close()
    all_ready(service, 2)
    service.says('"past-', times=24)
    vacant_until = time_of(service, "worker died", -1) + timedelta(seconds=3.2)
    early = {name for name, when in connected.items() if when < vacant_until}
    lines = [each for each in map(json.loads, service.output.splitlines()) if each.get("route") == "/predict"]
    assert early
    assert {each["worker"] for each in lines if each["request_id"] in early} == {1}, "none waited for the replacement"
    for _ in range(24):
        assert httpx.post(f"{service.url}/predict", json={"inputs": "a"}, timeout=PATIENCE).status_code == 200
    service.says('"/predict"', times=48)
    lines = [each for each in map(json.loads, service.output.splitlines()) if each.get("route") == "/predict"]
    served = {each["worker"] for each in lines if each["request_id"] not in connected}
    assert served == {0, 1}, "and again to both once somebody is there"


def test_a_worker_that_hangs_is_replaced(start: Start) -> None:
    service = all_ready(start("--workers", "2", "--hang-seconds", "4"), 2)
    victim, survivor = workers_of(service)
    time.sleep(5)
    assert workers_of(service) == [victim, survivor], "they turn, though nobody asks"
    os.kill(victim, signal.SIGSTOP)
    service.says('"worker hangs"')
    service.wait(lambda: victim not in workers_of(service) and len(workers_of(service)) == 2)
    all_ready(service, 2)
    assert survivor in workers_of(service)
    assert value(service, "worker_restarts_total") == 1


def test_a_worker_says_where_it_stands(start: Start) -> None:
    service = all_ready(start("--workers", "2"), 2)
    workers = workers_of(service)
    os.kill(workers[0], SHOW_STACKS)
    service.says("most recent call first")
    assert workers_of(service) == workers


def test_spawned_workers_serve_too(tmp_path: Path, repository: Path) -> None:
    """As on systems where a process cannot be forked safely."""
    script = tmp_path / "spawned.py"
    script.write_text(
        "from service import settings\n"
        "from service.process.server import work\n"
        "from service.process.supervisor import Supervisor\n"
        "if __name__ == '__main__':\n"
        f"    asked = settings.read(dict(port=0, models={str(repository)!r}), _env_file=None)\n"
        "    raise SystemExit(Supervisor(asked, 2, work, method='spawn').run())\n",
        encoding="utf-8",
    )
    log = tmp_path / "log"

    def said(word: str) -> int:
        return log.read_text(encoding="utf-8").count(word)

    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(script)], stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    try:
        until(lambda: process.poll() is not None or said("ready ") >= 2, lambda: log.read_text(encoding="utf-8"))
        url = log.read_text(encoding="utf-8").partition("url=")[2].split()[0]
        for _ in range(10):
            assert httpx.post(f"{url}/predict", json={"inputs": "a"}, timeout=PATIENCE).status_code == 200
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split():
            if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
                break
        until(lambda: said("ready ") >= 3, lambda: log.read_text(encoding="utf-8"))
        for _ in range(10):
            assert httpx.post(f"{url}/predict", json={"inputs": "a"}, timeout=PATIENCE).status_code == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def _wait_until_gone(pids: list[int]) -> None:
    until(lambda: not any(_runs(pid) for pid in pids), lambda: pids)


def _runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty for one that has ended
    except OSError:
        return False
