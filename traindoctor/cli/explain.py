"""`traindoctor explain CODE`: everything that is known of one cause."""

from __future__ import annotations

import inspect
import textwrap
from typing import TYPE_CHECKING

import click

from traindoctor.cli import completing
from traindoctor.cli.packs import rules_option
from traindoctor.errors import TraindoctorError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.rule import Cause

#: Kinds of input as they are called in a sentence.
WORDS = {"log": "the log", "settings": "the settings", "script": "the training script", "checkpoint": "the checkpoints"}


@click.command(short_help="Everything that is known of one cause.")
@click.argument("code", metavar="CODE", shell_complete=completing.causes)
@rules_option
def explain(code: str, packs: tuple[str, ...]) -> None:
    """Say what the cause CODE is, what the evidence is, when it is wrong, how to fix it, and where that is from."""
    from traindoctor.registry import load_rules

    click.echo(page_of(find(code, load_rules(packs).causes)))


def find(code: str, causes: Mapping[str, Cause]) -> Cause:
    """Return the cause of a code or of a name.

    Raises: TraindoctorError naming the nearest when there is none.
    """
    wanted = code.strip()
    by_name = {cause.name: cause for cause in causes.values()}
    found = causes.get(wanted.upper()) or by_name.get(wanted.lower())
    if found is not None:
        return found
    raise TraindoctorError(
        wanted, "no cause has this code or name", *did_you_mean(wanted, (*causes, *by_name)), "traindoctor rules"
    )


def page_of(cause: Cause) -> str:
    """Return the explanation as plain text, with thresholds and what the cause looks at."""
    title = f"{cause.code} {cause.name} ({cause.severity})"
    parts = [title, "=" * len(title), cause.summary, "", inspect.cleandoc(cause.explanation)]
    looks = [WORDS[kind] for kind in cause.looks_at]
    if looks:
        wanted = cause.log_rules[0][1] if cause.log_rules else ()
        needs = f"; needs {', '.join(n.replace('|', ' or ') for n in wanted)}" if wanted else ""
        parts += ["", "## Where it looks", _wrap(f"{', '.join(looks)}{needs}.")]
    if cause.invalid_code:
        sample = cause.invalid_code[0]
        parts += ["", f"## What `traindoctor check` flags: {sample.name}", textwrap.indent(sample.text.strip("\n"), "    ")]
    if cause.valid_code:
        parts += ["", "## What it leaves alone", *(_wrap(sample.name, "- ") for sample in cause.valid_code)]
    if cause.thresholds:
        parts += ["", "## Thresholds"]
        for t in cause.thresholds:
            parts.append(
                _wrap(f"{t.name} = {t.value:g} {'' if t.unit == '1' else t.unit}".rstrip() + f"; source: {t.source}", "- ")
            )
        parts.append(f"Set them under [tool.traindoctor.thresholds.{cause.code}].")
    for heading, words in (("What separates it from its rivals", cause.experiment), ("What would refute it", cause.refutation)):
        if words:
            parts += ["", f"## {heading}", _wrap(words)]
    return "\n".join(parts)


def _wrap(words: str, bullet: str = "") -> str:
    return textwrap.fill(words, 100, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_on_hyphens=False)
