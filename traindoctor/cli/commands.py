"""The commands as one click group: each is imported when it is run, or its help is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

from traindoctor import __version__
from traindoctor.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Each is `traindoctor.cli.<name>.<name>`.
COMMANDS = ("check", "compare", "completion", "demo", "diagnose", "env", "explain", "fix", "inspect", "replay", "report", "rules")


class Commands(click.Group):
    """A group that imports the module of a command when the command is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's
        """Return the names of the commands, sorted."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 -- click's
        """Return the command of a name, None when there is none."""
        return _command(name) if name in COMMANDS else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, and those left for it.

        Raises: UsageError for one that there is not, with the nearest.
        """
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            ways = did_you_mean(args[0], COMMANDS) or (f"the commands are {', '.join(COMMANDS)}",)
            raise click.UsageError(f"there is no command {args[0]!r}: {ways[0]}", ctx)
        return super().resolve_command(ctx, args)


def _command(name: str) -> click.Command:
    command = getattr(import_module(f"traindoctor.cli.{name}"), name)
    assert isinstance(command, click.Command)
    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="traindoctor", message="%(prog)s %(version)s")
def cli() -> None:
    """Say why a neural-network training went wrong, and which change repairs it, from its logs, its code and its config.

    Results go to stdout, progress and warnings to stderr. Exit codes: 0 nothing at or above --fail-on, 1 findings,
    2 the input or the command line cannot be used.
    """


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code.

    Raises: TraindoctorError for input that cannot be used; KeyboardInterrupt; SystemExit for shell completion.
    """
    try:
        code = cli.main(args=list(arguments), prog_name="traindoctor", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0
