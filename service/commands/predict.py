"""``predict``: files scored by the engine, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from service.commands.console import EXIT_INCOMPLETE, EXIT_OK, foreseen, model_names, models_option, setting


@click.command()
@click.argument(
    "files", nargs=-1, type=click.Path(readable=False), help="Files to score. Without files, or with -: standard input."
)
@click.option(
    "--model", required=True, shell_complete=model_names, help="NAME, NAME/VERSION, or the folder of a bundle."
)
@models_option
@click.option(
    "--format",
    "kind",
    type=click.Choice(["text", "jsonl", "csv", "tsv"]),
    help="Format of the files. Default: by the ending (.txt .jsonl .ndjson .json .csv .tsv, each also with .gz); "
    "standard input has lines of text, also gzipped.",
)
@click.option(
    "--column", default="text", show_default=True, help="Column of a table, or field of JSON objects, with the text."
)
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Column or field to copy into the answers, such as an id. Give the option again for more.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File for the answers. Default: standard output."
)
@click.option(
    "--to",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="Format of the answers: JSON lines as /predict answers, or a CSV table with the label, its score and the "
    "score of every label (taggers: the entities as JSON).",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue a stopped run that wrote to this --output. The files must be unchanged. Give standard input again "
    "from its beginning.",
)
@click.option("--truncate", is_flag=True, help="Cut a text at the token limit. Without it, a longer text is set aside.")
@click.option("--tokens", is_flag=True, help="Taggers: also write the label of every token.")
@click.option(
    "--split/--no-split",
    default=True,
    show_default=True,
    help="Taggers: read each text sentence by sentence, or as one sequence.",
)
@click.option("--gates", is_flag=True, help="Also write every gate of every token, and the contribution of each token.")
@click.option(
    "--reduce", type=click.Choice(["none", "summary"]), help="With --gates: write all units, or their summary."
)
@setting("threads", click.IntRange(0, 1024), help="Threads that run the model, one batch each; 0 is one for each CPU.")
@setting(
    "provider",
    click.Choice(["auto", "cpu", "cuda"]),
    help="Device of the model: auto takes CUDA if ONNX Runtime has it, else the CPU.",
)
@click.option("--quiet", is_flag=True, help="Print no progress on standard error.")
@foreseen
def predict(
    files: tuple[str, ...],
    keep: tuple[str, ...],
    output: Path | None,
    form: Literal["jsonl", "csv"],
    resume: bool,
    gates: bool,
    reduce: Literal["none", "summary"] | None,
    **options: Any,
) -> int:
    """Score files, or standard input, without a server.

    \b
        python -m service predict --model sentiment-bilstm reviews.txt
        python -m service predict --model ner-bilstm --output out.jsonl news.csv.gz --column body
        cat reviews.gz | python -m service predict --model sentiment-bilstm --to csv -

    Each row becomes one line of output, in order, with the row's file and number. A row that cannot be scored (empty,
    not UTF-8, over the token limit) is set aside with the reason in OUTPUT.rejected.jsonl, or on standard error without
    --output; the exit status is then 3. The same command with --resume continues a run that was killed: no row is lost
    and none is written twice.
    """
    from service import interpreter
    from service.scoring.batch import ScoringRun, run

    if resume and output is None:
        raise click.UsageError("--resume needs the --output that it goes on with.")
    if gates and form == "csv":
        raise click.UsageError("--gates are too much for a line of CSV; leave out --to csv.")
    if reduce and not gates:
        raise click.UsageError("--reduce says how --gates are to be shown; give both.")
    if len(set(keep)) < len(keep):
        raise click.UsageError("--keep names a column twice.")
    if len(set(files)) < len(files):
        raise click.UsageError("a file is named twice.")
    shown = (reduce or "none") if gates else None
    # the other options are fields of the same names
    batch = ScoringRun(
        files=list(files) or ["-"], keep=keep, output=output, form=form, resume=resume, reduce=shown, **options
    )
    interpreter.tune()
    return EXIT_INCOMPLETE if run(batch) else EXIT_OK
