"""`traindoctor demo NAME`: a classic failure, trained, diagnosed and repaired on the spot."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from traindoctor.cli import completing
from traindoctor.cli.terminal import columns, write_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.demos.story import Performance

#: How narrow lines are made.
NARROWEST = 60


@click.command(short_help="Train a classic failure in seconds, diagnose it, repair it.")
@click.argument("name", required=False, metavar="[NAME]", shell_complete=completing.demos)
@click.option("--list", "lists", is_flag=True, help="List the demos.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of data and first weights.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Leave the logs there; else they are removed.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write the report as HTML.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What to print.")
@click.option("--quiet", "-q", is_flag=True, help="No hints on stderr.")
def demo(name: str | None, lists: bool, seed: int, keep: Path | None, html: Path | None, form: str, quiet: bool) -> int:
    """Train the classic failure NAME in NumPy, diagnose its log as `diagnose` does, and train it again with the first fix.

    Without NAME the demos are listed. Nothing is downloaded, and each takes seconds on one core.
    """
    from traindoctor.demos.play import DEMOS, find, play
    from traindoctor.demos.stage import listing, to_dict

    if lists or name is None:
        click.echo("\n".join(listing(DEMOS.values(), columns(NARROWEST))))
        return 0
    wanted = find(name)
    if html is not None and not html.parent.is_dir():
        raise click.BadParameter(f"the folder {str(html.parent)!r} does not exist", param_hint="'--html'")
    with _folder(keep) as folder:
        performance = play(wanted, seed, folder)
        if html is not None:
            from traindoctor.report.html import render_html
            from traindoctor.report.writing import write_whole

            write_whole(html, render_html(performance.report))
    if form == "json":
        click.echo(json.dumps(to_dict(performance), ensure_ascii=True, allow_nan=False, indent=2))
    else:
        _print(performance)
    for written in (html, keep):
        if written is not None and not quiet:
            click.echo(f"wrote {written}", err=True)
    return 0


def _print(performance: Performance) -> None:
    from traindoctor.demos.stage import lines_of
    from traindoctor.report.sparkline import drawable

    write_lines(lines_of(performance, columns(NARROWEST), ascii_only=not drawable(sys.stdout.encoding)))


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Yield where the logs go: `keep`, or a folder that is gone afterwards."""
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="traindoctor-demo-") as made:
        yield Path(made)
