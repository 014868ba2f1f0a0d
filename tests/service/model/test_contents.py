"""A file's content, read once: what is used is what was hashed, whatever happens to the file."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from service.errors import BundleError
from service.model.contents import Content, read

MOST = 1 << 20


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("size", [0, 1, 4096, (1 << 18) + 1])
def test_what_is_read_is_what_was_hashed_and_stays(tmp_path: Path, share: bool, size: int) -> None:
    path, whole = tmp_path / "file", os.urandom(size)
    path.write_bytes(whole)
    content = read(path, MOST, share=share)
    assert content.sha256 == hashlib.sha256(whole).hexdigest()
    with path.open("r+b") as file:
        file.write(bytes(size))
    os.truncate(path, size // 2)
    path.unlink()
    content.rest()
    assert content.data == whole
    assert content.data.readonly


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory")
def test_a_system_without_files_in_memory_has_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"content")
    monkeypatch.delattr(os, "memfd_create")
    assert read(tmp_path / "file", MOST, share=True).data.tobytes() == b"content"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_shared_is_sealed(tmp_path: Path) -> None:
    """Another program that may look at this one could open its files and write to them."""
    (tmp_path / "file").write_bytes(b"content")
    content = read(tmp_path / "file", MOST, share=True)
    (place,) = (link for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link) and _is(link, content))
    with pytest.raises(PermissionError), open(place, "r+b", buffering=0) as file:  # noqa: PTH123  # a raw file, without pathlib's buffer
        file.write(b"altered")
    assert content.data.tobytes() == b"content"


def _is(link: Path, content: Content) -> bool:
    try:
        return "memfd:gatelight" in str(link.readlink()) and link.read_bytes() == content.data
    except OSError:
        return False


@pytest.mark.parametrize("share", [False, True])
def test_a_file_that_is_cut_while_it_is_read_has_the_digest_of_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 1000)
    monkeypatch.setattr("service.model.contents._check", lambda *_: os.truncate(path, 600))
    real = os.fstat

    def longer(number: int) -> os.stat_result:
        found = list(real(number))
        found[6] = 1000
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", longer)
    content = read(path, MOST, share=share)
    assert content.data == b"a" * 600
    assert content.sha256 == hashlib.sha256(b"a" * 600).hexdigest()


def test_what_is_no_plain_file_or_too_large(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "large")
    with pytest.raises(BundleError, match="large has 5 bytes, the limit is 4"):
        read(tmp_path / "large", 4)
    for name in ("link", "."):
        with pytest.raises(BundleError, match="a bundle holds plain files"):
            read(tmp_path / name, MOST)
    with pytest.raises(BundleError, match="none: No such file or directory"):
        read(tmp_path / "none", MOST)


def test_a_name_that_means_another_file_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that takes a file's place between the look and the opening is not followed."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    real = os.open

    def swapped(name: Path, flags: int) -> int:
        path.unlink()
        path.symlink_to("/etc/hostname")
        return real(name, flags)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(BundleError):
        read(path, MOST)
