"""`traindoctor rules`: the catalogue of causes."""

from __future__ import annotations

import click

from traindoctor.cli.packs import rules_option


@click.command(short_help="The catalogue of causes.")
@rules_option
def rules(packs: tuple[str, ...]) -> None:
    """List every cause that can be found, with its code, severity and what it looks at."""
    from traindoctor.registry import load_rules

    registry = load_rules(packs)
    causes = sorted(registry.causes.values(), key=lambda c: c.code)
    width = max((len(c.name) for c in causes), default=4)
    click.echo(f"{'code':<6}  {'name':<{width}}  {'severity':<8}  {'looks at':<18}  summary")
    for cause in causes:
        looks = ", ".join(cause.looks_at)
        click.echo(f"{cause.code:<6}  {cause.name:<{width}}  {cause.severity:<8}  {looks:<18}  {cause.summary}")
    for problem in registry.problems:
        click.echo(f"warning: {problem}", err=True)
