"""Bundles written to disk: each file whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from service.errors import BundleError
from service.model import contents
from service.model.bundle import LIMITS, MANIFEST, Bundle, Manifest, check_name, is_version, load, versions
from service.model.json_parts import parsed
from training.data.outputs import naming


def check_folder(folder: Path) -> None:
    """Raises `BundleError` unless the folder can be ``models/NAME``, below which versions are written."""
    check_name(folder.name)
    if is_version(folder.name):
        raise BundleError(f"{folder} has the name of a version, which is added by itself: name models/NAME")
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is a file: name a folder, models/NAME")


def save(folder: Path, manifest: Manifest, files: Path) -> Bundle:
    """Write a bundle as ``folder/VERSION`` (highest + 1), whole or not at all, and load it back.

    The files are taken from the folder `files`; their digests replace those that `manifest` has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as scratch:
        draft = Path(scratch) / "bundle"
        draft.mkdir()
        for file in manifest.file_names:
            shutil.copyfile(files / file, draft / file)
        _write(draft, manifest, {file: digest(draft / file) for file in manifest.file_names})
        while True:
            final = folder / str(max(versions(folder), default=0) + 1)
            try:
                draft.rename(final)
            except OSError:  # another process may have written this version meanwhile
                if not final.is_dir():
                    raise
            else:
                return load(final)


def replace_manifest(bundle: Bundle, manifest: Manifest, files: Mapping[str, bytes] = MappingProxyType({})) -> Bundle:
    """Give a bundle another manifest, and new content of some files, and load it back; its other files stay as they
    are.

    Each file is replaced whole or not at all, the manifest last. A service that reads the folder between the first
    replacement and the last one refuses the bundle, and takes it when it reads the folder again. Raises `BundleError`
    and replaces nothing if the service would refuse the manifest.
    """
    with tempfile.TemporaryDirectory(dir=bundle.path.parent, prefix=".writing-") as scratch:
        draft = Path(scratch)
        for name, content in files.items():
            with naming(bundle.path / name):
                (draft / name).write_bytes(content)
        _write(draft, manifest, manifest.files | {name: digest(draft / name) for name in files})
        for name in (*files, MANIFEST):
            (draft / name).replace(bundle.path / name)
    return load(bundle.path)


def digest(path: Path) -> str:
    """The SHA-256 of one of a bundle's files, in hexadecimal. Raises `BundleError`."""
    return contents.read(path, LIMITS[path.name]).sha256


def _write(draft: Path, manifest: Manifest, digests: Mapping[str, str]) -> None:
    """Write a manifest with these digests. Raises `BundleError` if the service would refuse it."""
    complete = manifest.model_copy(update={"files": dict(digests)})
    with naming(draft / MANIFEST):
        (draft / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")
    parsed(Manifest, contents.read(draft / MANIFEST, LIMITS[MANIFEST]).data, MANIFEST)
