"""The same model in integers, for the benchmarks."""

from __future__ import annotations

from pathlib import Path

from service.errors import BundleError
from service.model.bundle import TOKENIZER, Bundle
from service.model.tokenizer import Tokenizer
from training.export.bundle import export
from training.export.restore import network


def twin(bundle: Bundle, models: Path) -> bool:
    """Write a bundle's int8 form, under its name, into a models folder. False if it has none."""
    manifest = bundle.manifest
    tokenizer = Tokenizer.load(bundle.file(TOKENIZER), manifest.features)
    folder = models / bundle.name
    try:
        export(network(bundle), tokenizer, manifest.origin, manifest.licence, folder, lambda _: (), precision="int8")
    except BundleError:
        return False
    return True
