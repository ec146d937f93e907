"""The site of the documentation builds without a warning, its links lead somewhere, it loads nothing, each rule has a page.

What stands in a fenced block is run, parsed, or marked with the reason why it is not run.
"""

import json
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest
from ruamel.yaml import YAML

from traindoctor.cli.commands import COMMANDS, cli
from traindoctor.registry import load_rules

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
#: Written by programs: the samples of the rules, which are tests of their own, and the scores of the study.
WRITTEN = {"rules.md", "accuracy.md"}
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\n$")
PARSERS = {"json": json.loads, "toml": tomllib.loads, "yaml": lambda text: list(YAML(typ="safe", pure=True).load_all(text))}
#: Commands beside those of `console` blocks, whose output other tests compare, and Python, which is run.
RUN_ELSEWHERE = {"console", "python"}
#: Attributes by which a page loads something without being asked.
LOADS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "srcset"), ("source", "src")}


class Page(HTMLParser):
    """What a page leads to, what it loads, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        for element, key in LOADS:
            if tag == element and found.get(key) and found.get("rel") not in ("canonical", "next", "prev"):
                self.loads.append(found[key])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    made = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "docs/build.py", "--site-dir", str(made)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture(scope="module")
def parsed(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def test_every_link_of_the_site_leads_somewhere(site, parsed):
    wrong = []
    for path, page in parsed.items():
        if path.name == "404.html":  # served for any address, so that it may not be relative
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            anchors = parsed[there].anchors if there in parsed else {parts.fragment}
            lost = bool(parts.fragment) and unquote(parts.fragment) not in anchors
            if lost or not there.is_file() or not there.is_relative_to(site):
                wrong.append((path.name, link))
    assert wrong == []


def test_the_site_loads_nothing_from_elsewhere(site, parsed):
    assert [(path.name, one) for path, page in parsed.items() for one in page.loads if urlsplit(one).netloc] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^\"')]*", styles) == []


def test_each_rule_has_its_page(site):
    for code, cause in load_rules().causes.items():
        text = (site / "rules" / f"{code}.html").read_text(encoding="utf-8")
        assert f"<title>{code} {cause.name}" in text
        assert all(f"<code>{threshold.name}</code>" in text for threshold in cause.thresholds)
    overview = Page((site / "rules" / "index.html").read_text(encoding="utf-8"))
    assert {f"{code}.html" for code in load_rules().causes} <= set(overview.links)


def test_the_pages_of_the_commands_have_all_options(site):
    shown = "".join(path.read_text(encoding="utf-8") for path in site.glob("*.html"))
    for name in COMMANDS:
        for command in leaves(cli.get_command(click.Context(cli), name)):
            for option in command.params:
                if isinstance(option, click.Option) and not option.hidden:
                    assert f"<code>{option.opts[-1]}</code>" in shown, f"{name}: {option.opts[-1]}"


def leaves(command):
    """Yield a command, or those of a group."""
    if isinstance(command, click.Group):
        for one in command.commands.values():
            yield from leaves(one)
    else:
        yield command


def test_each_command_has_a_page_with_its_options():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        wanted = [f"{name} {one}" for one in command.commands] if isinstance(command, click.Group) else [name]
        for one in wanted:
            assert f"<!-- options: {one} -->" in text, one


def test_the_schema_is_told_field_by_field(site):
    text = (site / "json.html").read_text(encoding="utf-8")
    schema = json.loads((ROOT / "traindoctor" / "report" / "report.schema.json").read_text(encoding="utf-8"))
    for path, field in [one for part in (schema, *schema["$defs"].values()) for one in fields(part, "")]:
        assert f"<code>{path}</code>" in text, path
        assert field.get("description"), f"{path}: the schema does not say what it is"


def fields(schema, prefix):
    """Yield (path, field) for the fields of an object and of the objects in it."""
    for name, field in schema.get("properties", {}).items():
        yield f"{prefix}{name}", field
        yield from fields(field, f"{prefix}{name}.")
        yield from fields(field.get("items", {}), f"{prefix}{name}[].")


def test_lists_come_out_as_lists(parsed):
    """GitHub begins a list right after a paragraph, Python-Markdown does not: the hook sets them apart."""
    wrong = [
        (path.name, found)
        for path in parsed
        for found in re.findall(r"<p>[^<]*\n(?:[-*]|1\.) [^<]{0,40}", path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


BLOCKS = [
    pytest.param(page, found, id=f"{page.stem}-{i}")
    for page in PAGES
    if page.name not in WRITTEN
    for i, found in enumerate(FENCE.finditer(page.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_every_block_is_run_parsed_or_marked(page, block):
    language, body = block[2], block[3]
    marked = NOT_RUN.search(page.read_text(encoding="utf-8")[: block.start()])
    if language in PARSERS:
        PARSERS[language](body)
    elif language not in RUN_ELSEWHERE and language != "text":
        assert language == "sh", f"a block of {language or 'no language'}"
        assert marked, f"neither run nor marked: {body}"
    for file in re.findall(r"tests/[\w/]+\.py", marked[1] if marked else ""):
        assert (ROOT / file).is_file(), file
    if language in RUN_ELSEWHERE:
        assert not marked, "a block that is run is marked as one that is not"


def test_a_citation_names_what_it_must():
    """The fields that the Citation File Format 1.2.0 requires, and the version of the package."""
    from traindoctor import __version__

    stated = YAML(typ="safe", pure=True).load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(stated)
    assert stated["cff-version"] == "1.2.0"
    assert stated["version"] == __version__
    assert stated["authors"] == [{"name": "The traindoctor authors"}]
