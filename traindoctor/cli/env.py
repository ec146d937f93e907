"""`traindoctor env`: what to paste into a bug report."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from traindoctor import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What traindoctor stands on, and what it reads or trains with where it is there.
PACKAGES = (
    "click",
    "fsspec",
    "jinja2",
    "numpy",
    "pandas",
    "rich",
    "ruamel.yaml",
    "scipy",
    "tensorboard",
    "universal-pathlib",
)
EXTRAS = ("torch", "s3fs", "gcsfs", "adlfs", "aiohttp", "backports.zstd", "protobuf", "playwright")
#: Variables that change what a command does or shows. The names of secrets are not among them.
VARIABLES = ("NO_COLOR", "FORCE_COLOR", "TERM", "CI", "PRE_COMMIT", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "PYTHONUTF8")


@click.command(short_help="Versions and settings, to paste into a bug report.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What to print.")
def env(form: str) -> None:
    """Print versions, rule packs and settings, to paste into a bug report.

    Names of users and machines, and paths, are not in it.
    """
    facts = {title: dict(pairs) for title, pairs in (("traindoctor", _ours()), ("system", _system()), ("packages", _packages()))}
    facts["environment"] = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if form == "json":
        click.echo(json.dumps(facts, ensure_ascii=True, indent=2))
        return
    width = max(len(name) for pairs in facts.values() for name in pairs)
    for title, pairs in facts.items():
        click.echo(f"{title}:")
        for name, value in pairs.items() or [("none of those that matter is set", "")]:
            click.echo(f"  {name:<{width}}  {value}".rstrip())


def _ours() -> Iterator[tuple[str, str]]:
    from traindoctor.registry import installed_packs, load_rules
    from traindoctor.settings import load_settings

    registry = load_rules()
    yield "version", __version__
    yield "rule packs", ", ".join(sorted(installed_packs()))
    yield "causes", str(len(registry.causes))
    for problem in registry.problems:
        yield "pack failed", problem
    settings = load_settings(".")
    changed = [key.replace("_", "-") for key, value in settings._asdict().items() if value and key != "source"]
    yield "settings", f"{Path(settings.source).name}: {', '.join(changed) or 'empty'}" if settings.source else "defaults"


def _system() -> Iterator[tuple[str, str]]:
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield "stdout", f"{'a terminal' if sys.stdout.isatty() else 'no terminal'}, {sys.stdout.encoding}"


def _packages() -> Iterator[tuple[str, str]]:
    from importlib.metadata import PackageNotFoundError, version

    for name in (*PACKAGES, *EXTRAS):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            if name in PACKAGES:
                yield name, "missing"
