"""A training from files to bundle: read, encode, train, export, score."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, fields
from hashlib import sha256

import numpy as np
import torch

from service.model.bundle import MAX_BYTES, Bundle, GateStatistics, Origin, RawText, Score
from service.model.engine import Engine
from training.data.outputs import held
from training.errors import TrainingError
from training.export.bundle import export
from training.export.card import labels_across, no_better_than_guessing
from training.export.writing import check_folder
from training.loop import checkpoints, threads, truncated
from training.loop.checkpoints import Checkpoints
from training.loop.fit import Mark, Outcome, Progress, fit, refusal, seed_everything
from training.loop.logs import Log, Write, tensorboard, together
from training.loop.processes import Processes, ProcessesError, device_of, joined, started
from training.material import Data, Material, gather
from training.nets.networks import Network
from training.options import FitOptions
from training.scoring import raw
from training.scoring.evaluate import Subject, best_temperature, corpus_name, guess, guess_score, mark
from training.scoring.gate_drift import measure as measure_gates
from training.start import resolved

_ADVICE = "More --epochs, a higher --learning-rate, smaller --batch-rows or more data may help."
_PACKAGES = ("torch", "onnx", "onnxruntime", "tokenizers", "numpy")


def run(
    options: FitOptions, tell: Callable[[str], None], report: Callable[[Progress], None], data: Data | None = None
) -> tuple[Bundle | None, Outcome]:
    """Read, train, export and score. `tell` gets a line on each stage, `report` the loop's progress. `data` stand in
    place of the files of the options. With several processes (`processes`) only the first makes the bundle.

    Raises `TrainingError` if the training is interrupted before there is a model, `CorpusError` for data that cannot be
    used, `BundleError` for an invalid model name or graphs that do not agree with torch, `BlockingIOError` if another
    training writes the same folder or log.
    """
    check_folder(options.out)
    with ExitStack() as holding:
        if started().first:
            holding.enter_context(held(options.out, folder=True))
            if options.log:
                holding.enter_context(held(options.log))
        return _run(options, tell, report, data)


def _run(
    options: FitOptions, tell: Callable[[str], None], report: Callable[[Progress], None], data: Data | None
) -> tuple[Bundle | None, Outcome]:
    options = resolved(options)
    if options.recipe.bptt and (reason := truncated.refusal(options.design.directions, options.design.crf)):
        raise TrainingError(reason)
    device = device_of(options.device)
    if reason := refusal(options.recipe.precision, device):
        raise TrainingError(reason)
    computing = threads.choose(options.threads or 0, options.design.hidden)
    seed_everything(options.recipe.seed)
    material = gather(options, tell, data)
    options = material.options
    tell(computing)

    def score(trained: Network) -> Mark:
        return mark(trained, material.dev, device)

    before = _before(material, score, tell, device)
    with joined(device) as processes:
        outcome = _train(options, material, score, tell, report, device, processes)
    if outcome.diverged:
        tell(f"the loss is no number any more (in epoch {outcome.epochs}): a lower --learning-rate or --clip may help")
        if outcome.best is None:
            raise TrainingError("the training diverged in its first epoch: there is no model, nothing is written")
    if outcome.interrupted and outcome.best is None:
        raise TrainingError(
            "interrupted before the first epoch was finished: there is no model yet, nothing is written"
        )
    if not processes.first:
        return None, outcome
    if before is not None and outcome.best is not None and outcome.best <= before:
        tell(
            f"WARNING: on dev the model has {outcome.best:.4f}, no more than the {before:.4f} that it began with. "
            "More data or a lower --learning-rate may help."
        )
    tell("interrupted: exporting the best model so far" if outcome.interrupted else "exporting")
    return _publish(options, material, outcome, tell), outcome


def _before(
    material: Material, score: Callable[[Network], Mark], tell: Callable[[str], None], device: torch.device
) -> float | None:
    """The score on dev of the bundle that the training goes on from; None without one that has all the labels."""
    parent = material.parent
    if parent is None or not set(material.labels) <= set(parent.labels):
        return None
    reached = score(material.network.to(device).eval()).score
    tell(f"{parent.name} has {reached:.4f} on dev before the training")
    return reached


def _train(
    options: FitOptions,
    material: Material,
    score: Callable[[Network], Mark],
    tell: Callable[[str], None],
    report: Callable[[Progress], None],
    device: torch.device,
    processes: Processes,
) -> Outcome:
    """Train from the beginning, or from the last checkpoint on, with the logs that were asked for."""
    kept, state = None, None
    settings = {**_settings(options, material), "processes": processes.count}
    _agree(settings, processes)
    if options.checkpoint_every:
        kept = Checkpoints(options.out, settings, options.checkpoint_every)
        if options.resume:
            state = processes.from_first(kept.load() if processes.first else None)
            where = f"after step {state['step']:,}" if state else "from the beginning: there is no checkpoint"
            tell(f"resuming {where}")
        elif kept.file.exists():
            tell("note: the checkpoint of another training is replaced; --resume would have continued that one")
    elif options.resume:
        raise TrainingError("there is nothing to resume without checkpoints: --checkpoint-every is 0")
    with ExitStack() as closing:
        log = together(_logs(options, state["step"] if state else 0, closing)) if processes.first else None
        floor = float(np.mean([guess(each) for each in material.dev]))
        network, samples, recipe = material.network, material.samples, options.recipe
        return fit(network, samples, recipe, score, report, device, kept, state, log, processes, floor)


def _logs(options: FitOptions, step: int, closing: ExitStack) -> list[Write]:
    """The logs that were asked for, which go on after a step."""
    writes: list[Write] = []
    if options.log:
        log = Log(options.log, step)
        closing.callback(log.close)
        writes.append(log)
    if options.tensorboard:
        write, close = tensorboard(options.tensorboard, step)
        closing.callback(close)
        writes.append(write)
    return writes


def _agree(settings: Mapping[str, object], processes: Processes) -> None:
    """Raises `ProcessesError` unless all processes have the same settings and data."""
    every = processes.gathered(dict(settings))
    for rank, theirs in enumerate(every):
        for name, value in theirs.items():
            if value != every[0][name]:
                raise ProcessesError(f"process {rank} has another {name} than process 0: {value} and {every[0][name]}")


def _forget(options: FitOptions, outcome: Outcome) -> None:
    """A training that ended by itself has nothing to resume; one that was interrupted has."""
    if options.checkpoint_every and not outcome.interrupted:
        (options.out / checkpoints.FILE).unlink(missing_ok=True)


def _settings(options: FitOptions, material: Material) -> dict[str, object]:
    """Everything that must be the same for a resumed training to give the undisturbed one's model."""
    seen = sha256()
    for sample in material.samples:
        seen.update(sample.rows.tobytes() + sample.targets.tobytes())
    architecture, dropouts = material.network.architecture, asdict(options.dropouts)
    words = dropouts.pop("words")
    shape = {field.name: getattr(architecture, field.name) for field in fields(architecture)}
    return {
        **{f"recipe.{name}": value for name, value in asdict(options.recipe).items()},
        **{f"network.{name}": str(value) for name, value in shape.items()},
        **{f"dropout.{name}": value for name, value in dropouts.items()},
        "word_dropout": words,
        "device": options.device,
        "threads": torch.get_num_threads(),
        "dev": [str(path) for path in options.dev],
        "training data": seen.hexdigest(),
        "torch": importlib.metadata.version("torch"),
        "start": material.parent.bundle.digest if material.parent else None,
    }


def _publish(options: FitOptions, material: Material, outcome: Outcome, tell: Callable[[str], None]) -> Bundle:
    """Calibrate, export and score the trained network."""
    dev, test = material.dev, material.test
    warmth = best_temperature(material.network, dev) if dev else 1.0

    def figures(bundle: Bundle) -> list[Score]:
        subject = Subject(bundle)
        reports = [subject.measure(data) for data in (*dev, *test)]
        for report in reports:
            if report.remark:
                tell(f"warning: {report.remark}")
        return [each for report in reports for each in report.scores()]

    def gates(bundle: Bundle) -> GateStatistics:
        return measure_gates(bundle, Engine(bundle), [source.rows for source in dev[0].encoded], dev[0].name)

    def raw_text(bundle: Bundle) -> list[RawText]:
        return [raw.of_bundle(bundle, data).kept() for data in (*dev, *test)]

    parent, licence = material.parent, options.licence
    begun = [parent.origin] if parent else material.lent.origins if material.lent else []
    origin = Origin(
        data=(*begun, *(f"{corpus_name(path)}: {examples:,} examples" for path, examples in material.sizes)),
        counts=material.counts,
        command=options.command,
        seed=options.recipe.seed,
        epochs=outcome.epochs,
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    )
    made = export(
        material.network,
        material.tokenizer,
        origin,
        parent.licence(licence) if parent else material.lent.licence(licence) if material.lent else licence,
        options.out,
        figures,
        gates,
        warmth,
        guess=[guess_score(each) for each in (*dev, *test)],
        raw=raw_text if options.design.task == "ner" else None,
    )
    _forget(options, outcome)
    for found in made.manifest.raw_text:
        if across := labels_across(found):
            tell(f"note: {across}")
    for sentence in no_better_than_guessing(made.manifest):
        tell(f"WARNING: {sentence} {_ADVICE}")
    size = sum(made.file(name).stat().st_size for name in made.manifest.file_names)
    if size > MAX_BYTES:
        tell(f"note: the bundle has {size / 1e6:.1f} MB; the default models have at most {MAX_BYTES / 1e6:.0f}")
    return made
