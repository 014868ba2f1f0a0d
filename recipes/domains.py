"""Figures of bundles on the held-out files of every domain, kept in ``domains.json``.

    python -m recipes.domains $DATA models/sentiment-bilstm models/ner-bilstm

measures each bundle (``models/NAME``: its highest version, or ``models/NAME/VERSION``) through the runtime that serves
it. A classifier is scored on every ``sentiment/*/dev`` file that has its labels. A tagger is scored on `TAGGED`, by
the types that all these corpora have. Figures of earlier versions stay in the file: `make quality` prints both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from service.model.bundle import Bundle
from training.data.corpora import Example, read
from training.export.restore import opened
from training.scoring import raw
from training.scoring.calibration import calibration_error, error_by_chance
from training.scoring.evaluate import Subject, corpus_name
from training.scoring.metrics import Scored

FILE = Path(__file__).resolve().parent / "domains.json"
TAGGED = ("conll2003", "uner-ewt", "worldwide-news", "fewnerd-wiki", "wikineural", "tweebank")
"""Folders below ``ner/`` whose dev files taggers are scored on."""
COMMON = ("LOC", "ORG", "PER")
"""The types on which the corpora agree; a tagger with more types is compared by these."""
AVERAGED = ("fewnerd-wiki dev", "tweebank dev", "wikineural dev", "worldwide-news dev")
"""The sets behind a tagger's mean over domains."""
GROUPS: dict[str, tuple[str, ...]] = {
    "film sentences": ("sst2",),
    "film reviews": ("imdb", "amazon-dvd", "amazon-video"),
    "product sentences": ("uci-amazon", "pros-cons", "laptops-"),
    "products": ("amazon-", "alexa"),
    "restaurants": ("uci-yelp", "restaurants-"),
    "hotels": ("hotels",),
    "clothing": ("clothing",),
    "apps": ("apps",),
    "airlines": ("airline-",),
    "drugs": ("drugs",),
    "tweets": ("sts-gold", "tweets", "brand-", "car-", "vader-"),
    "phrases": ("mpqa",),
    "CoNLL news": ("conll2003",),
    "news": ("nyt-", "finance", "worldwide-"),
    "forums": ("reddit", "stackoverflow"),
    "web": ("uner-ewt",),
    "Wikipedia": ("fewnerd-", "wikineural"),
    "tweets, tagged": ("tweebank",),
}
"""The columns of the table: each the mean over the sets whose names begin so, a set in the first that fits."""
Figures = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Model → version → data → metric → value."""


def files(folder: Path, task: str) -> list[Path]:
    """The dev files of a task below the folder of all data, by name."""
    if task == "ner":
        return [path for name in TAGGED if (path := folder / "ner" / name / "dev.conll").exists()]
    return sorted((folder / "sentiment").glob("*/dev.tsv*"))


def figures(bundle: Bundle, folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """The name of each set that a bundle can be scored on, and its figures there."""
    subject = Subject(bundle)
    for path in files(folder, bundle.manifest.task):
        examples = read(path, bundle.manifest.task)
        if bundle.manifest.task == "ner":
            yield corpus_name(path), _tagged(subject, path, examples)
        elif {example.label for example in examples} == set(bundle.manifest.labels):
            yield corpus_name(path), _classified(subject, path, examples)


def _classified(subject: Subject, path: Path, examples: Sequence[Example]) -> dict[str, float]:
    found = subject.corpus(corpus_name(path), examples)
    report = subject.measure(found)
    return {"inputs": len(found.gold), **report.metrics, "calibration_by_chance": report.by_chance or 0.0}


def _tagged(subject: Subject, path: Path, examples: Sequence[Example]) -> dict[str, float]:
    """Entity scores, and the calibration of entities' scores, on tokens and on raw text, over `COMMON` alone."""
    found = subject.corpus(corpus_name(path), examples, COMMON)
    report = raw.of_bundle(subject.bundle, found)
    tokens, text = report.tokens, report.raw
    figures = {"f1": tokens.f1, "precision": tokens.precision, "recall": tokens.recall, "raw_f1": text.f1}
    figures |= _calibration(report.scored_tokens, "") | _calibration(report.scored_raw, "raw_")
    return {"inputs": len(found.gold), **figures}


def _calibration(scored: Sequence[Scored], prefix: str) -> dict[str, float]:
    """The calibration error of entities, and that of perfect scores; nothing if there is no entity."""
    if not scored:
        return {}
    confidence = [each.score for each in scored]
    error = calibration_error(confidence, [each.right for each in scored])
    return {f"{prefix}calibration_error": error, f"{prefix}calibration_by_chance": error_by_chance(confidence)}


def average(found: dict[str, dict[str, float]], task: str) -> float:
    """The unweighted mean of the headline figure: of a classifier over all sets, of a tagger over `AVERAGED`."""
    if task == "ner":
        return mean(found[name]["f1"] for name in AVERAGED if name in found)
    return mean(each["accuracy"] for each in found.values())


def columns(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """The headline figure of each domain that was measured: entity F1, or accuracy."""
    gathered: dict[str, list[float]] = {}
    for data, measured in found.items():
        name = data.removesuffix(" dev")
        group = next((each for each, starts in GROUPS.items() if name.startswith(starts)), name)
        gathered.setdefault(group, []).append(measured.get("f1", measured.get("accuracy", 0.0)))
    return {group: mean(gathered[group]) for group in (*GROUPS, *gathered) if group in gathered}


def table(everything: Figures) -> Iterator[str]:
    """A Markdown table for each model: a row for each version, a column for each domain."""
    for model, by_version in sorted(everything.items()):
        rows = {version: columns(found) for version, found in sorted(by_version.items(), key=lambda pair: int(pair[0]))}
        heads = list(dict.fromkeys(group for row in rows.values() for group in row))
        task = "ner" if model.startswith("ner") else "sentiment"
        yield from ("", f"`{model}`, {'F1 of PER, LOC, ORG' if task == 'ner' else 'accuracy'} on dev by domain:", "")
        yield f"| version | {' | '.join(heads)} | mean over sets |"
        yield f"| --- |{' --- |' * (len(heads) + 1)}"
        for version, row in rows.items():
            cells = [f"{100 * row[head]:.1f}" if head in row else "" for head in heads]
            yield f"| {version} | {' | '.join(cells)} | {100 * average(by_version[version], task):.1f} |"


def calibration(everything: Figures) -> Iterator[str]:
    """A Markdown table of the last measured version of each model: the calibration error on each set."""
    yield from ("", "Calibration error on dev, in percent, beside that of perfect scores on as many answers:", "")
    yield "| model | data | inputs | error | by chance | raw text | by chance |"
    yield f"|{' --- |' * 7}"
    names = [f"{prefix}calibration_{part}" for prefix in ("", "raw_") for part in ("error", "by_chance")]
    for model, by_version in sorted(everything.items()):
        version = max(by_version, key=int)
        for data, found in sorted(by_version[version].items()):
            if names[0] in found:
                cells = [f"{100 * found[name]:.1f}" if name in found else "" for name in names]
                yield f"| `{model}` {version} | {data} | {found['inputs']:,} | {' | '.join(cells)} |"


def known(file: Path = FILE) -> Figures:
    """The figures measured before."""
    found: Figures = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return found


def add(model: Path, folder: Path, everything: Figures) -> str:
    """Measure one bundle, and put its figures in. Returns a line that says what they are."""
    bundle = opened(model)
    found = {
        name: {metric: round(value, 5) for metric, value in measured.items()}
        for name, measured in figures(bundle, folder)
    }
    everything.setdefault(bundle.name, {})[str(bundle.version)] = found
    return f"{bundle.name} version {bundle.version}: mean {average(found, bundle.manifest.task):.4f} of {len(found)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure bundles on the held-out files of every domain.")
    parser.add_argument("data", type=Path, help="the folder that holds sentiment/ and ner/")
    parser.add_argument("models", type=Path, nargs="+", help="models/NAME, or models/NAME/VERSION")
    parser.add_argument("--out", type=Path, default=FILE, help="the file of figures to add to")
    asked = parser.parse_args()
    everything = known(asked.out)
    for model in asked.models:
        print(add(model, asked.data, everything), flush=True)
        asked.out.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
