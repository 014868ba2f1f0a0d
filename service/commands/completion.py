"""``completion``: the shell's completion of the program ``gatelight``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from service.commands.console import EXIT_OK, foreseen

PROGRAM, VARIABLE = "gatelight", "_GATELIGHT_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), help="Shell that completes.")
@foreseen
def completion(shell: str) -> int:
    """Print a script that makes a shell complete commands, options and names of models.

    It completes `gatelight`, the installed name of `python -m service`.

    \b
        bash   eval "$(gatelight completion bash)"     in ~/.bashrc
        zsh    eval "$(gatelight completion zsh)"      in ~/.zshrc
        fish   gatelight completion fish > ~/.config/fish/completions/gatelight.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source())
    return EXIT_OK
