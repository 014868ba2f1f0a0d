"""``training export``: a bundle exported again, from its own weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from service.model import bundle
from service.model.engine import Engine
from training.commands.console import PATH, check_apart, console, model_argument, note, opened, option
from training.commands.options import takes
from training.data.sources import Layout
from training.export.bundle import export as export_network
from training.export.portable import FloatKind
from training.export.portable import write as write_portable
from training.export.restore import network
from training.export.writing import check_folder
from training.limits import files_fit
from training.options import Columns
from training.scoring import raw
from training.scoring.evaluate import Subject, best_temperature, guess_score
from training.scoring.gate_drift import measure as measure_gates


@click.command()
@model_argument
@option(
    "--out",
    type=PATH,
    help="Folder that gets the next version. Default: the bundle's own folder; with --int8, NAME-int8.",
)
@option(
    "--dev",
    type=PATH,
    multiple=True,
    help="File of labelled data to calibrate the scores on; with --int8, to measure the loss on. Several files count "
    "the same.",
)
@option("--test", type=PATH, multiple=True, help="File of more data to score, for the card.")
@option(
    "--int8", is_flag=True, help="Compute the layers of an LSTM in integers: faster, with a loss that --dev measures."
)
@option(
    "--portable",
    type=PATH,
    metavar="FILE",
    help="Write one ONNX file for other runtimes instead of a version: weights inside, tokens and lengths in, logits "
    "out.",
)
@option("--float16", is_flag=True, help="With --portable: embeddings and recurrent layers compute in float16.")
@takes(Columns)
def export(
    columns: Columns,
    model: Path,
    out: Path | None,
    dev: tuple[Path, ...],
    test: tuple[Path, ...],
    int8: bool,
    portable: Path | None,
    float16: bool,
) -> None:
    """Export a bundle again, without training: its weights, in today's graphs, certified anew, as the next version.

    With --dev the scores are calibrated and the figures measured again. The gate statistics stay: calibration does not
    change gates. With --int8 the calibration stays, the figures are measured before and after, and the gates again.
    With --portable only the certificate is made, and no version is written.
    """
    if portable or float16:
        _check_portable(portable, {"--out": out, "--dev": dev, "--test": test, "--int8": int8})
        assert portable is not None
        check_apart({"--portable": portable}, {"MODEL": model})
        _write_portable(opened(model), portable, "float16" if float16 else "float32")
        return
    if int8 and not dev:
        raise click.BadParameter("int8 costs quality: name data to measure how much", param_hint="--dev")
    files_fit((), (*dev, *test))
    _again(opened(model), out, dev, test, columns.layout, int8)


def _again(
    found: bundle.Bundle, out: Path | None, dev: Sequence[Path], test: Sequence[Path], layout: Layout, int8: bool
) -> None:
    """Write the next version."""
    manifest, own = found.manifest, found.path.parent
    folder = out or (own.with_name(f"{own.name}-int8") if int8 else own)
    check_folder(folder)
    subject = Subject(found)
    restored, by = network(found), 1.0
    corpora = [subject.read(path, layout, note) for path in (*dev, *test)]
    if dev and not int8:
        by = best_temperature(restored, corpora[: len(dev)])

    def figures(of: bundle.Bundle) -> tuple[bundle.Score, ...]:
        if not corpora:
            return manifest.quality
        scored = Subject(of)
        return tuple(score for each in corpora for score in scored.measure(each).scores())

    def on_raw(of: bundle.Bundle) -> tuple[bundle.RawText, ...]:
        if not corpora or manifest.task != "ner":
            return manifest.raw_text
        return tuple(raw.of_bundle(of, each).kept() for each in corpora)

    def gates(of: bundle.Bundle) -> bundle.GateStatistics:
        if int8:
            rows = [source.rows for source in corpora[0].encoded]
            return measure_gates(of, Engine(of), rows, corpora[0].name)
        assert manifest.gate_statistics is not None
        return manifest.gate_statistics

    before = figures(found) if int8 else ()
    made = export_network(
        restored,
        subject.tokenizer,
        manifest.origin,
        manifest.licence,
        folder,
        figures,
        gates if manifest.gate_statistics else None,
        temperature=by,
        total=manifest.temperature * by,
        guess=[guess_score(each) for each in corpora] or manifest.guess,
        precision="int8" if int8 else "float32",
        quality_before=before,
        raw=on_raw,
    )
    console.print(f"{made.name} version {made.version}: {made.path}")
    for one, other in zip(before, made.manifest.quality, strict=False):
        console.print(f"{one.metric} on {one.data}: {one.value:.4f} before, {other.value:.4f} now")


def _check_portable(file: Path | None, others: Mapping[str, object]) -> None:
    if file is None:
        raise click.BadParameter("it goes with --portable FILE; --int8 is for bundles", param_hint="--float16")
    if given := ", ".join(name for name, value in others.items() if value):
        raise click.BadParameter(f"it writes one file and measures no data: leave out {given}", param_hint="--portable")


def _write_portable(found: bundle.Bundle, file: Path, kind: FloatKind) -> None:
    certificate = write_portable(found, file, kind)
    console.print(f"{found.name} version {found.version}, {kind}, {file.stat().st_size:,} bytes: {file}")
    console.print(
        f"logits differ from torch's by {certificate.onnxruntime:.0e} at most in ONNX Runtime and by "
        f"{certificate.reference:.0e} in onnx's reference evaluator; the limit is {certificate.tolerance:.0e}"
    )
