"""``predict``: files scored straight through the engine."""

from __future__ import annotations

from pathlib import Path

import click

from service.commands.console import EXIT_INCOMPLETE, EXIT_OK, foreseen, model_names, models_option, setting


@click.command()
@click.argument(
    "files", nargs=-1, type=click.Path(readable=False), help="Files to score; none, or -, for standard input."
)
@click.option("--model", required=True, shell_complete=model_names, help="NAME, or NAME/VERSION, or a bundle's folder.")
@models_option()
@click.option(
    "--format",
    "kind",
    type=click.Choice(["text", "jsonl", "csv", "tsv"]),
    help="What the files hold; by default their names say it (.txt .jsonl .csv .tsv, each also .gz; .ndjson and .json, "
    "too, are read as JSON lines), and text lines are expected on standard input, zipped or not.",
)
@click.option("--column", default="text", show_default=True, help="A table's column, or a JSON object's field.")
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="Carry a column, or a JSON object's field, along to the answers, such as an id. Give it again for more.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File for the answers; else standard output."
)
@click.option(
    "--to",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="How the answers are written: as a JSON object a line, with what /predict answers, or as a CSV table with a "
    "header: the label, its score and every label's; of a tagger, the entities as JSON.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on where a run was stopped that wrote to this --output. Its files have to be as they were; standard input "
    "cannot be compared, and has to be given again from its beginning.",
)
@click.option("--truncate", is_flag=True, help="Keep the head of a text over the token limit; else it is set aside.")
@click.option("--tokens", is_flag=True, help="Taggers: every token's label too.")
@click.option(
    "--split/--no-split",
    default=True,
    show_default=True,
    help="Taggers: read each text sentence by sentence, or as one sequence.",
)
@click.option("--gates", is_flag=True, help="Every gate of every token too, and what each token contributed.")
@click.option("--reduce", type=click.Choice(["none", "summary"]), help="With --gates: all units, or their summary.")
@setting("threads", click.IntRange(0, 1024), help="Threads that run the model, one batch each; 0 for one a CPU.")
@setting(
    "provider",
    click.Choice(["auto", "cpu", "cuda"]),
    help="Where the model runs: auto takes CUDA where ONNX Runtime has it, else the CPU.",
)
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@foreseen
def predict(
    files: tuple[str, ...],
    model: str,
    models: Path,
    kind: str | None,
    column: str,
    keep: tuple[str, ...],
    output: Path | None,
    form: str,
    resume: bool,
    truncate: bool,
    tokens: bool,
    split: bool,
    gates: bool,
    reduce: str | None,
    threads: int,
    provider: str,
    quiet: bool,
) -> int:
    """Score files, or standard input, without a server.

    \b
        python -m service predict --model sentiment-bilstm reviews.txt
        python -m service predict --model ner-bilstm --output out.jsonl news.csv.gz --column body
        cat reviews.gz | python -m service predict --model sentiment-bilstm --to csv -

    Each row becomes a line, in order, that begins with the row's file and number. A row that cannot be scored (empty,
    not UTF-8, over the token limit) is set aside with the reason: in OUTPUT.rejected.jsonl, or on standard error where
    there is no --output; the exit status is 3 then. A run that was killed goes on with the same command and --resume:
    nothing is lost and nothing is doubled.
    """
    from service import interpreter
    from service.scoring.batch import Batch, run

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
    batch = Batch(
        files=list(files) or ["-"],
        model=model,
        models=models,
        kind=kind,  # type: ignore[arg-type]  # click has checked the choices
        column=column,
        keep=keep,
        output=output,
        form=form,  # type: ignore[arg-type]  # as above
        resume=resume,
        truncate=truncate,
        tokens=tokens,
        split=split,
        reduce=(reduce or "none") if gates else None,  # type: ignore[arg-type]  # as above
        threads=threads,
        provider=provider,  # type: ignore[arg-type]  # as above
        quiet=quiet,
    )
    interpreter.tune()
    return EXIT_INCOMPLETE if run(batch) else EXIT_OK
