"""`traindoctor completion SHELL`: the script that lets a shell complete commands, options and paths."""

from __future__ import annotations

import click

#: Shell -> where its users put the line that reads the script.
PLACES = {
    "bash": '# in ~/.bashrc: eval "$(traindoctor completion bash)"',
    "zsh": '# in ~/.zshrc, after compinit: eval "$(traindoctor completion zsh)"',
    "fish": "# once: traindoctor completion fish > ~/.config/fish/completions/traindoctor.fish",
}


@click.command(short_help="The completion script of a shell: bash, zsh or fish.")
@click.argument("shell", type=click.Choice(list(PLACES)))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete the commands, options and paths of traindoctor; its first line says where to.

    bash needs 4.4 or newer.
    """
    from click.shell_completion import get_completion_class

    from traindoctor.cli.commands import cli

    made = get_completion_class(shell)
    assert made is not None  # click has these three
    click.echo(PLACES[shell])
    click.echo(made(cli, {}, "traindoctor", "_TRAINDOCTOR_COMPLETE").source().strip())
