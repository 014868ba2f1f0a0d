"""The same model in integers, for the benchmarks."""

from __future__ import annotations

from pathlib import Path

from service.errors import BundleError
from service.model.bundle import Bundle
from training.export.bundle import export
from training.export.restore import network
from training.scoring.evaluate import Subject


def twin(bundle: Bundle, models: Path) -> bool:
    """Write a bundle's int8 form, under its name, into a models folder. False if it has none."""
    manifest = bundle.manifest
    tokenizer, folder = Subject(bundle).tokenizer, models / bundle.name
    try:
        export(network(bundle), tokenizer, manifest.origin, manifest.licence, folder, lambda _: (), precision="int8")
    except BundleError:
        return False
    return True
