"""What is served is what was verified, whatever happens to the models folder; and SIGHUP, which has it looked at."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.model import bundle as bundles
from service.model.bundle import MANIFEST, UNITS
from tests.integration.conftest import Process, Start
from tests.integration.metrics import value
from tests.integration.models import write_model
from tests.integration.test_workers import all_ready, workers_of
from tests.patience import PATIENCE, until
from tests.service.model.test_unit_cards import with_cards

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

NAMES = ("sentiment-bilstm", "ner-bilstm")
CARD_OF_A_UNIT = "/units/0/forward/3"
ASKED = ("/predict", "/gates", CARD_OF_A_UNIT)
TEXT = "Ada Lovelace was a great film, and it is not bad."


class Askers:
    """One client a model, which asks for a prediction, for gates and for a unit's card in turn: a text is never in a
    batch with others, and its answer must be the same from bit to bit."""

    def __init__(self, service: Process, names: tuple[str, ...] = NAMES) -> None:
        self.url = service.url
        self.outcomes: Counter[str] = Counter()
        self.answers: dict[tuple[str, str], set[bytes]] = {}
        self._going = True
        self._threads = [threading.Thread(target=self._ask, args=(name,)) for name in names]
        for thread in self._threads:
            thread.start()

    def _ask(self, name: str) -> None:
        with httpx.Client(base_url=self.url, timeout=PATIENCE) as client:
            while self._going:
                for route in ASKED:
                    try:
                        if route == CARD_OF_A_UNIT:
                            response = client.get(f"/models/{name}{route}")
                        else:
                            response = client.post(route, json={"model": name, "inputs": TEXT})
                    except httpx.TransportError as error:
                        self.outcomes[type(error).__name__] += 1
                        continue
                    self.outcomes[str(response.status_code)] += 1
                    self.answers.setdefault((name, route), set()).add(response.content)

    def more(self, count: int = 8) -> None:
        """Wait for so many more outcomes."""
        wanted = self.outcomes.total() + count
        until(lambda: self.outcomes.total() >= wanted, lambda: str(self.outcomes), every=0.005)

    def stop(self) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def delete(path: Path) -> None:
    path.unlink()


FAULTS: tuple[Callable[[Path], None], ...] = (overwrite, truncate, empty, delete)


@pytest.fixture
def models(repository: Path, tmp_path: Path) -> Path:
    """A repository of the test's own, of one model a task. The first has cards of its units."""
    folder = tmp_path / "models"
    for name in NAMES:
        shutil.copytree(repository / name, folder / name)
    with_cards(bundles.load(folder / NAMES[0] / "1"))
    return folder


def serving(start: Start, models: Path, workers: int, *flags: str) -> Process:
    service = start("--workers", str(workers), *flags, models=models)
    return all_ready(service, workers) if workers > 1 else service.until_ready()


def versions(service: Process, name: str = NAMES[0]) -> set[str]:
    """Of a model, as several new connections see it."""
    return {httpx.get(f"{service.url}/models/{name}", timeout=PATIENCE).json()["version"] for _ in range(8)}


def follow(service: Process, models: Path, workers: int, *, hang_up: bool) -> None:
    """Write version 2, and wait until every worker serves it, and their supervisor, from which replacements have it."""
    counted = value(service, "reloads_total", outcome="loaded")
    told = service.output.count('"model loaded"')
    write_model(models / NAMES[0], seed=8)
    if hang_up:
        service.signal(signal.SIGHUP)
    service.wait(lambda: value(service, "reloads_total", outcome="loaded") == counted + workers)
    service.says('"model loaded"', times=told + workers + (workers > 1))
    assert versions(service) == {"2"}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("reload", ["0", "0.05"])
def test_no_fault_of_a_file_changes_an_answer_or_loses_one(
    start: Start, models: Path, tmp_path: Path, workers: int, reload: str
) -> None:
    service = serving(start, models, workers, "--reload", reload)
    folder = models / NAMES[0] / "1"
    whole = shutil.copytree(folder, tmp_path / "whole")
    files = bundles.load(folder).manifest.file_names
    assert UNITS in files
    pids = workers_of(service)
    askers = Askers(service)
    try:
        askers.more()
        for file in (MANIFEST, *files):
            for fault in FAULTS:
                if not (folder / file).stat().st_size:
                    continue
                told = service.output.count("bundle refused")
                fault(folder / file)
                if reload != "0":
                    service.wait(lambda told=told: service.output.count("bundle refused") > told)  # type: ignore[misc]  # mypy infers no lambda with defaults
                askers.more()
                looked = service.output.count("verified again")
                shutil.copyfile(whole / file, folder / file)
                if reload != "0":
                    service.wait(lambda looked=looked: service.output.count("verified again") > looked)  # type: ignore[misc]  # mypy infers no lambda with defaults
        for file in files:  # a copy of the same over what is served
            shutil.copyfile(whole / file, folder / file)
        askers.more()
    finally:
        askers.stop()
    assert set(askers.outcomes) == {"200"}
    assert {key: len(found) for key, found in askers.answers.items()} == {
        (name, route): 1 for name in NAMES for route in ASKED
    }
    (card,) = askers.answers[NAMES[0], CARD_OF_A_UNIT]
    assert json.loads(card)["places"], "from its file"
    assert workers_of(service) == pids
    assert versions(service) == {"1"}
    assert "worker died" not in service.output
    follow(service, models, workers, hang_up=reload == "0")
    body = {"model": NAMES[0], "inputs": TEXT}
    answer = httpx.post(f"{service.url}/predict", json=body, timeout=PATIENCE).content
    assert answer not in askers.answers[NAMES[0], "/predict"]


@pytest.mark.parametrize("reload", ["0", "0.05"])
@pytest.mark.parametrize("loaded", ["at the start", "later"])
def test_a_replacement_serves_what_was_verified_while_the_folder_is_broken(
    start: Start, models: Path, reload: str, loaded: str
) -> None:
    service = serving(start, models, 2, "--reload", reload)
    if loaded == "later":
        follow(service, models, 2, hang_up=True)
    version = versions(service)

    def answers() -> set[bytes]:
        body = {"model": NAMES[0], "inputs": TEXT}
        card = f"{service.url}/models/{NAMES[0]}{CARD_OF_A_UNIT}"
        return {
            httpx.post(f"{service.url}/predict", json=body, timeout=PATIENCE).content
            + httpx.get(card, timeout=PATIENCE).content
            for _ in range(8)
        }

    before = answers()
    assert len(before) == 1
    for file in (models / NAMES[0]).glob("*/*"):
        os.truncate(file, 0)
    old = workers_of(service)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    service.wait(lambda: service.output.count('"ready"') == 4 and not set(old) & set(workers_of(service)))
    all_ready(service, 2)
    assert answers() == before
    assert versions(service) == version
    assert service.output.count("worker died") == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_numbers_that_were_altered_are_noticed_though_the_manifest_is_the_same(
    start: Start, models: Path, workers: int
) -> None:
    service = serving(start, models, workers, "--reload", "0.05")
    path = models / NAMES[0] / "1" / "weights.safetensors"
    stamp = path.stat()
    overwrite(path)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as tools do that keep times
    service.says("weights.safetensors does not match the manifest", times=workers)
    service.says('"serves":"what was verified before"', times=workers)
    assert versions(service) == {"1"}
    # Counted behind the line of the log, and the supervisor has a line too.
    service.wait(lambda: value(service, "reloads_total", outcome="refused") >= workers)


# SIGHUP


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("reload", ["0", "3600"])
def test_a_hangup_reloads_and_loses_nothing(start: Start, models: Path, workers: int, reload: str) -> None:
    service = serving(start, models, workers, "--reload", reload)
    pids = workers_of(service)
    askers = Askers(service, NAMES[1:])
    try:
        askers.more()
        write_model(models / NAMES[0], seed=8)
        service.signal(signal.SIGHUP)
        service.says('"reloading models"')
        service.wait(lambda: versions(service) == {"2"})
        for _ in range(30):  # many in a row
            service.signal(signal.SIGHUP)
            askers.more(1)
        askers.more()
    finally:
        askers.stop()
    assert set(askers.outcomes) == {"200"}
    assert [len(found) for found in askers.answers.values()] == [1, 1, 1]
    assert workers_of(service) == pids
    service.signal()
    assert service.exit_status() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_is_harmless_from_the_start_to_the_end(start: Start, models: Path, workers: str) -> None:
    service = start("--workers", workers, "--drain-seconds", "1", models=models)
    service.wait(lambda: _blocks_hangup(service.process.pid))
    while '"ready"' not in service.output:
        assert service.process.poll() is None, service.output
        service.signal(signal.SIGHUP)
        time.sleep(0.01)
    service.until_ready()
    service.signal()
    service.says("draining", times=int(workers))
    while service.process.poll() is None:
        for pid in (service.process.pid, *workers_of(service)):
            _hang_up(pid)
        time.sleep(0.01)
    assert service.exit_status() == 0
    assert "Traceback" not in service.output


def test_a_hangup_before_the_models_are_there_is_heeded_when_they_are(start: Start, models: Path) -> None:
    service = start("--workers", "2", models=models)
    service.says('"listening"')
    service.signal(signal.SIGHUP)
    all_ready(service, 2)
    service.says('"reloading models"')
    write_model(models / NAMES[0], seed=8)
    for pid in workers_of(service):  # one that is sent to a worker alone
        os.kill(pid, signal.SIGHUP)
    service.wait(lambda: versions(service) == {"2"})


def _hang_up(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGHUP)


def _blocks_hangup(pid: int) -> bool:
    """Whether the program has begun: until then the interpreter starts, and any signal ends it."""
    fields = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines())
    return bool((int(fields["SigBlk"], 16) | int(fields["SigCgt"], 16)) & 1)
