"""The option that names rule packs by their path, shared by the commands that use rules."""

from __future__ import annotations

import click

from traindoctor.cli import completing

#: `--rules PATH`, given to the command as `packs`.
rules_option = click.option(
    "--rules",
    "packs",
    multiple=True,
    metavar="PATH",
    shell_complete=completing.files,
    help="A rule file of your own, or a folder of them with an __init__.py, beside the installed rules. It is run.",
)
