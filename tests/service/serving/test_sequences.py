"""The folders of sequences: one that no living service holds is removed, unless another service can use it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from service.errors import InvalidField
from service.serving import sequences
from service.serving.sequences import Sequences, kept
from tests.patience import until


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sequences, "_SHARED_MEMORY", tmp_path)
    return tmp_path


def begin(key: bytes, number: int = 7) -> Sequences:
    """Begin a sequence."""
    found = Sequences(key, 10, 300)
    with found.hold("a-model", number, start=True) as held:
        held.after = "its state"
    return found


def is_open(key: bytes, number: int = 7) -> bool:
    try:
        with Sequences(key, 10, 300).hold("a-model", number, start=False) as held:
            held.after = held.before
    except InvalidField:
        return False
    return True


def killed(key: bytes, *, random: bool) -> None:
    """A service that begins a sequence and is killed."""
    child = os.fork()
    if not child:
        with kept(key, random=random):
            begin(key)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def age(folder: Path, seconds: float) -> None:
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


def test_what_a_killed_service_left_is_removed_by_the_next_start(base: Path) -> None:
    killed(b"its own", random=True)
    assert len(list(base.iterdir())) == 1
    with kept(b"the next", random=True):
        assert [path.name for path in base.iterdir()] == [sequences._folder(b"the next").name]
    assert not list(base.iterdir())


def test_what_a_living_service_has_stays(base: Path) -> None:
    with kept(b"one", random=True):
        found = begin(b"one")
        with kept(b"two", random=True):
            assert is_open(b"one")
        assert found.count == 1
        found.close()  # of a worker: the folder belongs to the service
        age(base, 301)
        found.drop_old()
        assert found.count == 0
        begin(b"one", 8)
        sequences.sweep()
        assert is_open(b"one", 8)
    assert not list(base.iterdir())


def test_a_worker_that_outlives_its_service_keeps_the_folder(base: Path) -> None:
    read, write = os.pipe()
    service = os.fork()
    if not service:
        os.close(write)
        with kept(b"one", random=True):
            begin(b"one")
            if not os.fork():
                os.read(read, 1)  # a worker, which ends when the test wants it to
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(service, 0)
    sequences.sweep()
    assert is_open(b"one")
    os.close(read)
    os.close(write)

    def swept() -> bool:
        sequences.sweep()
        return not list(base.iterdir())

    until(swept)


def test_sequences_of_a_key_that_is_set_go_on_after_a_kill(base: Path) -> None:
    killed(b"shared", random=False)
    with kept(b"another", random=True):
        pass
    with kept(b"shared", random=False):
        assert is_open(b"shared")
    assert is_open(b"shared"), "a service that ends leaves them to the next one"
    age(base, 86_401)
    sequences.sweep()
    assert not list(base.iterdir())


def test_two_services_with_one_key_share_its_folder(base: Path) -> None:
    with kept(b"shared", random=False):
        with kept(b"shared", random=False):
            begin(b"shared")
        assert is_open(b"shared")
        with Sequences(b"shared", 10, 300).hold("a-model", 7, start=False):
            pass
    assert not list(base.iterdir())


def test_folders_of_others_and_of_no_service_stay(base: Path) -> None:
    name = f"gatelight-{os.getuid()}-0123"
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (base / name).symlink_to(elsewhere)
    (base / "gatelight-99999-0123").mkdir()
    begin(b"embedded")  # an application without the command `serve`: nothing locks its folder
    age(base, 90_000)
    begin(b"embedded", 8)
    sequences.sweep()
    assert (elsewhere / "file").exists()
    assert (base / "gatelight-99999-0123").exists()
    assert is_open(b"embedded", 8)
    assert Sequences(b"embedded", 10, 300).count == 1, "those that are too old for any service are dropped"


def test_a_folder_that_cannot_be_made_stops_no_service(base: Path) -> None:
    (base / sequences._folder(b"one").name).touch()
    with kept(b"one", random=True):
        assert Sequences(b"one", 10, 300).count == 0
