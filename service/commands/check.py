"""``check``: the full verification of one bundle."""

from __future__ import annotations

import json as json_
from dataclasses import asdict
from pathlib import Path

import click

from service.commands.console import EXIT_INCOMPLETE, EXIT_OK, foreseen, model_names, models_option


@click.command()
@click.argument("bundle", shell_complete=model_names, help="NAME, NAME/VERSION, or the folder of a bundle.")
@models_option
@click.option("--json", is_flag=True, help="Print one JSON object.")
@foreseen
def check(bundle: str, models: Path, json: bool) -> int:
    """Verify a bundle, and repeat its parity certificate.

    BUNDLE is NAME (its highest version), NAME/VERSION, or the folder of a bundle. Its files are compared with the
    digests of the manifest. Then both graphs run on random batches: their logits must agree, every gate must obey the
    cell's equations in float64, and the logits must follow from the states. Training compares with torch at every
    export; the manifest has the result.

    The exit status is 3 if a check fails.
    """
    from service.errors import BundleError
    from service.model import bundle as bundles
    from service.model.loading import choose_provider, loader
    from service.observability import logs
    from service.scoring import parity, repository

    logs.configure("console", "error")
    path, provider = repository.find(models, bundle), choose_provider("cpu")
    try:
        found = bundles.load(path)
        model = loader(provider, threads=1, token_limit=bundles.MAX_TOKENS)(found)
    except BundleError as error:
        refused = {"name": path.parent.name, "version": path.name, "ok": False, "reason": str(error)}
        click.echo(json_.dumps(refused) if json else f"FAIL  {path.parent.name}/{path.name}: {error}")
        return EXIT_INCOMPLETE
    checks, unknown = parity.check(found, model.engine)
    ok = all(each.ok for each in checks)
    if json:
        facts = {"name": found.name, "version": str(found.version), "ok": ok}
        each_check = [{**asdict(each), "ok": each.ok} for each in checks]
        click.echo(json_.dumps({**facts, "checks": each_check, "not_checked": unknown}))
    else:
        graphs = "both graphs run" if bundles.TRACE_GRAPH in found.manifest.file_names else "the graph runs"
        click.echo(f"{found.name}/{found.version}: the files are those of the manifest, and {graphs}")
        for each in checks:
            word = "ok  " if each.ok else "FAIL"
            click.echo(f"{word}  {each.what}: {each.found:.1e}, the limit is {each.limit:.0e}")
        if unknown is not None:
            click.echo(f"--    gates against their equations: not checked, {unknown}")
        certified = found.manifest.parity
        click.echo(f"      at its export, against torch: logits {certified.model:.1e}, gates {certified.gates:.1e}")
    return EXIT_OK if ok else EXIT_INCOMPLETE
