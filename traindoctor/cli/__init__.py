"""The command line. `main` is the entry point; what is slow to import is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from traindoctor import __version__
from traindoctor.cli.demo import demo
from traindoctor.cli.diagnose import diagnose
from traindoctor.cli.explain import explain
from traindoctor.cli.inspect import inspect
from traindoctor.cli.replay import replay
from traindoctor.cli.rules import rules
from traindoctor.errors import TraindoctorError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="traindoctor", message="%(prog)s %(version)s")
def cli() -> None:
    """Say why a neural-network training went wrong, and which change repairs it, from its logs.

    Results go to stdout, progress and warnings to stderr. Exit codes: 0 nothing at or above --fail-on, 1 findings,
    2 the input or the command line cannot be used.
    """


cli.add_command(diagnose)
cli.add_command(replay)
cli.add_command(inspect)
cli.add_command(explain)
cli.add_command(rules)
cli.add_command(demo)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 or 2; 130 after Ctrl-C, 141 when the reader went away."""
    # Nothing here multiplies large matrices; the threads that OpenBLAS starts at NumPy's import cost more than a log's reading.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    stdout = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without √ is no reason to fail
    try:
        code = cli.main(args=None if arguments is None else list(arguments), prog_name="traindoctor", standalone_mode=False)
        sys.stdout.flush()
    except TraindoctorError as error:
        return _complain(error)
    except MemoryError:
        return _complain(TraindoctorError("input", "needs more memory than there is", "give one file or one run at a time"))
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except SystemExit as error:
        # click raises it for shell completion, and where the reader went away: then it has put a mute stream for stdout
        return 141 if sys.stdout is not stdout else int(error.code or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code if isinstance(code, int) else 0


def _complain(error: TraindoctorError) -> int:
    from traindoctor.report.wording import clean

    click.echo(f"{click.style('error:', fg='red', bold=True)} {clean(error.where)}: {clean(error.what, 2000)}", err=True)
    for i, way in enumerate(error.ways_out):
        click.echo(f"  {'try:' if i == 0 else '':<8} {clean(way, 1000)}", err=True)
    return 2
