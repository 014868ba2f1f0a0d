"""``training retokenize``: a bundle with other rules for raw text, and everything else as it was."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import get_args

import click

from service.model import bundle
from service.model.decoding import decoder
from service.model.engine import Engine
from service.model.rules import Style
from service.model.tokenizer import Tokenizer
from training.commands.console import PATH, console, model_argument, note, opened, option
from training.commands.options import takes
from training.data.outputs import naming
from training.export import card, restore, writing
from training.limits import names_fit
from training.options import Columns
from training.scoring import raw
from training.scoring.evaluate import corpus, measure


@click.command()
@model_argument
@option(
    "--tokenizer",
    type=click.Choice(get_args(Style)),
    required=True,
    help="Rules that cut raw text into tokens: the style of the training corpus.",
)
@option(
    "--test", type=PATH, multiple=True, help="File of labelled data to score again, for the card. Other figures stay."
)
@option("--out", type=PATH, help="Folder that gets the next version. Default: the bundle's own folder.")
@takes(Columns)
def retokenize(columns: Columns, model: Path, tokenizer: Style, test: tuple[Path, ...], out: Path | None) -> None:
    """Give a bundle today's rules for raw text, in one of the styles. Weights and graphs stay.

    The result is the next version. Bundles of earlier releases need it, because the service refuses other rules than
    its own. `training tokens` measures the style of a corpus.
    """
    names_fit(test)
    found = opened(model)
    folder = out or found.path.parent
    writing.check_folder(folder)
    manifest, name = found.manifest, f"{found.name} version {found.version}"
    with tempfile.TemporaryDirectory(prefix="retokenize-") as scratch:
        draft = Path(scratch)
        # Cards and figures of faithfulness are of the tokens that the old rules made.
        rest = {name: each for name, each in manifest.files.items() if name != bundle.UNITS}
        manifest = manifest.model_copy(update={"files": rest, "faithfulness": ()})
        for file in manifest.file_names:
            shutil.copyfile(found.file(file), draft / file)
        Tokenizer(restore.vocabulary(found), manifest.features, tokenizer).save(draft / bundle.TOKENIZER)
        made = Tokenizer.load(draft / bundle.TOKENIZER, manifest.features)
        engine, decode = Engine(found), decoder(manifest.task, manifest.labels, manifest.crf)
        measured: list[bundle.Score] = []
        on_raw: list[bundle.RawText] = []  # those of before are of other rules
        for path in test:
            data = corpus(path, manifest.task, manifest.labels, made, manifest.token_limit, columns.layout, note, name)
            measured += measure(engine.predict, data, decode).scores()
            if manifest.task == "ner":
                on_raw.append(raw.measure(engine.predict, data, decode, made, manifest.token_limit).kept())
        was = {(score.data, score.metric): score.value for score in manifest.quality}
        anew = {score.data for score in measured}
        quality = (*(score for score in manifest.quality if score.data not in anew), *measured)
        manifest = manifest.model_copy(update={"style": tokenizer, "quality": quality, "raw_text": tuple(on_raw)})
        with naming(draft / bundle.CARD):
            (draft / bundle.CARD).write_text(card.render(folder.name, manifest), encoding="utf-8")
        saved = writing.save(folder, manifest, draft)
    console.print(f"{saved.name} version {saved.version}: {saved.path}", markup=False, highlight=False)
    for score in measured:
        before = was.get((score.data, score.metric))
        beside = "" if before is None else f"{before:.4f} before, "
        console.print(f"{score.metric} on {score.data}: {beside}{score.value:.4f} now", highlight=False)
