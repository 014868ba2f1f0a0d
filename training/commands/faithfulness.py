"""``training faithfulness``: the faithfulness of explanations, measured by deleting the tokens that they rank first."""

from __future__ import annotations

import json as json_lines
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from service.model.bundle import CARD, Faithful, FaithfulnessStudy, Interval, Manifest
from training.commands.console import (
    PATH,
    check_apart,
    data_option,
    json_option,
    listed,
    model_argument,
    note,
    opened,
    option,
    seed_option,
    tell,
)
from training.commands.options import takes
from training.data.corpora import CorpusError
from training.export import card
from training.export.writing import replace_manifest
from training.limits import names_fit
from training.options import Columns
from training.studies import plots
from training.studies.attributions import METHODS, Subject, chosen
from training.studies.faithfulness import GRID, Figure, Study, cases, measure
from training.terminal import show

_SHOWN = ("comprehensiveness", "sufficiency", "deletion", "insertion", "log-odds")


@click.command()
@model_argument
@data_option
@option("--methods", help=f"Methods, from {', '.join(METHODS)}. The others are compared with the first. Default: all.")
@option("--most", type=click.IntRange(1), default=300, help="Maximum number of inputs of each file, drawn at random.")
@option("--longest", type=click.IntRange(2), default=512, help="Most tokens of each input that are read.")
@seed_option(default=1, help="Seed of the random choice of inputs.")
@option("--record", is_flag=True, help="Write the figures into the bundle: its manifest and its card.")
@option("--plot", type=PATH, help="Draw the curves: .svg, .png or .pdf. Needs the extra: pip install '.[plots]'.")
@json_option
@takes(Columns)
def faithfulness(
    columns: Columns,
    model: Path,
    data: tuple[Path, ...],
    methods: str | None,
    most: int,
    longest: int,
    seed: int,
    record: bool,
    plot: Path | None,
    json: bool,
) -> None:
    """Measure how faithful a model's split into tokens is, beside other ways to explain the same answers.

    The tokens that a method ranks first are deleted, or kept alone, and the model answers again. No labels of the data
    are used: the predicted label is explained.
    """
    plots.check(plot)
    check_apart({"--plot": plot}, {"MODEL": model, "--data": data})
    if record:
        names_fit(data)
    found = opened(model, to_write=record)
    manifest = found.manifest
    subject = Subject(found)
    used, left_out = chosen(manifest, names_of(methods))
    for name, why in left_out.items():
        tell(f"{name} is left out: {why}")
    studies: list[tuple[str, Study]] = []
    for path in data:
        texts = subject.read(path, columns.layout, note)
        drawn = cases(subject, texts, most, longest, seed, note)
        if not drawn:
            raise CorpusError(str(path), "no input can be explained: of two tokens at least, and with an entity")
        studies.append((texts.name, measure(subject, drawn, used)))
        if json:
            _print_json(found.name, found.version, *studies[-1])
        else:
            _print(f"{subject.name} on {texts.name}", studies[-1][1])
    if record:
        written = recorded(manifest, [kept(name, study) for name, study in studies])
        replace_manifest(found, written, {CARD: card.render(found.name, written).encode()})
    if plot:
        draw(studies, plot)


def kept(name: str, study: Study) -> FaithfulnessStudy:
    """A study as the manifest keeps it."""
    methods = [
        Faithful(
            method=result.method,
            cost=round(result.cost, 1),
            **{measure.replace("-", "_"): _interval(result.figures[measure]) for measure in _SHOWN},
        )
        for result in study.results
    ]
    return FaithfulnessStudy(data=name, inputs=study.inputs, tokens=round(study.tokens, 1), methods=tuple(methods))


def _interval(figure: Figure) -> Interval:
    return Interval(mean=round(figure.mean, 4), low=round(figure.low, 4), high=round(figure.high, 4))


def recorded(manifest: Manifest, found: Sequence[FaithfulnessStudy]) -> Manifest:
    """A manifest with these figures; those on other data stay."""
    anew = {each.data: each for each in found}
    others = [each for each in manifest.faithfulness if each.data not in anew]
    return manifest.model_copy(update={"faithfulness": (*others, *anew.values())})


def names_of(methods: str | None) -> list[str] | None:
    """``split,random`` → names of `METHODS`."""
    return None if methods is None else listed(methods, METHODS, "method", "--methods")


def _print_json(name: str, version: int, data: str, study: Study) -> None:
    for result in study.results:
        line: dict[str, object] = {"model": name, "version": str(version), "data": data, "inputs": study.inputs}
        line |= {"tokens": round(study.tokens, 1), **asdict(result)}
        print(json_lines.dumps(line))


def _print(title: str, study: Study) -> None:
    caption = f"{study.inputs} inputs of {study.tokens:.0f} tokens in the mean; in brackets intervals of 95 %"
    table = Table("method", "needs", *_SHOWN, "cost", title=title, caption=caption)
    for result in study.results:
        figures = (_figure(result.figures[name]) for name in _SHOWN)
        table.add_row(result.method, result.needs, *figures, f"{result.cost:.1f}")
    show(table)


def _figure(figure: Figure) -> str:
    return f"{figure.mean:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def draw(studies: list[tuple[str, Study]], path: Path) -> None:
    """The deletion curves, and the insertion curves, of each file."""
    grid = [step / GRID for step in range(GRID + 1)]
    with plots.panels(path, 2 * len(studies)) as axes:
        for number, (name, study) in enumerate(studies):
            for place, (kind, word) in enumerate((("deletion", "deleted"), ("insertion", "kept"))):
                one = axes[2 * number + place]
                for result in study.results:
                    plots.line(one, grid, getattr(result, kind), result.method, faint=result.method == "random")
                one.set(xlabel=f"share of the tokens {word}", title=name)
        axes[0].set(ylabel="probability of the predicted label")
        axes[0].legend(fontsize=7)
