"""Builds the site of the documentation, and is the hook by which MkDocs gets what comes from the code.

    python docs/build.py            # the same as `mkdocs build --strict`; the pages are in site/

Made at build time, so that they cannot be out of date: a page for each rule, from its own file; the options of each command, from
the command itself (`<!-- options: diagnose -->` in a page); the tables of a JSON Schema (`<!-- schema: report.schema.json -->`).
A link that leads out of docs/ (a benchmark, a fixture, a schema) brings what it leads to into the site.
"""

import importlib.util
import json
import os
import posixpath
import re
import sys
from pathlib import Path
from urllib.parse import unquote

import click
from mkdocs.structure.files import File, InclusionLevel

from traindoctor.cli.commands import cli
from traindoctor.registry import load_rules

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: A link of Markdown or of HTML: what stands before the target, the target, what stands after it.
LINK = re.compile(r"""(\]\()([^)\s]+)(\))|((?:src|srcset|href)=")([^"]+)(")""")
CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
OPTIONS = re.compile(r"<!-- options: ([a-z -]+) -->")
SCHEMA = re.compile(r"<!-- schema: ([a-z.]+) -->")
#: Where what lies outside of docs/ stands in the site.
OUTSIDE = "repository"
#: A list that follows a paragraph without an empty line is one on GitHub, and none to Python-Markdown.
JOINED_LIST = re.compile(r"^(?![-*|>#\s]|\d+\. )(.+\S)\n(?=(?:[-*]|1\.) )", re.MULTILINE)


def load(name):
    """Return a module that lies beside this file."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rules = load("make_rules")


# -- what is generated ----------------------------------------------------------------------------------------------------


def rule_pages():
    """Return page -> Markdown: the overview, and a page for each rule."""
    causes = load_rules().causes
    head = (
        "# The causes\n\n"
        f"{len(causes)} rules, each a cause with a file of its own; `traindoctor explain CODE` shows the same. "
        "A threshold is set in `[tool.traindoctor.thresholds.CODE]`.\n"
    )
    parts = [head]
    for family, title in rules.FAMILIES.items():
        ours = [cause for cause in causes.values() if cause.code.startswith(family)]
        parts += [f"## {family}: {title}", own_pages(rules.table(ours))]
    return {
        "rules/index.md": "\n\n".join(parts) + "\n",
        **{f"rules/{code}.md": rule_page(cause, causes) for code, cause in causes.items()},
    }


def rule_page(cause, causes):
    """Return the page of a rule: its section of docs/rules.md, one level up, with links to the pages of the others."""
    section = own_pages(rules.section(cause, causes))
    pieces = CODE.split(section)
    pieces[::2] = [re.sub(r"^#(#+ )", r"\1", piece, flags=re.MULTILINE) for piece in pieces[::2]]
    return "".join(pieces) + "\n"


def own_pages(text):
    """Return a text whose links to sections of docs/rules.md lead to the pages of the rules."""
    return re.sub(r"\]\(#(td\d{3})-[a-z0-9-]+\)", lambda found: f"]({found[1].upper()}.md)", text)


def options_of(name):
    """Return arguments and options of a command as a table, "report show" is a command of a group."""
    command, context = cli, click.Context(cli)
    for part in name.split():
        command = command.get_command(context, part)
        context = click.Context(command, info_name=part, parent=context)
    usage = " ".join(["traindoctor", name, *command.collect_usage_pieces(context)])
    rows = [_option(one, context) for one in command.params if isinstance(one, click.Option) and not one.hidden]
    table = ["| Option | What it does |", "| --- | --- |", *(f"| {names} | {rules.cell(said)} |" for names, said in rows)]
    return f"```text\n{usage}\n```\n\n" + "\n".join(table if rows else [])


def _option(option, context):
    """Return the names of an option with its value, and what it does, with its choices and its default."""
    names = ", ".join(f"`{name}`" for name in (*sorted(option.opts, key=len), *option.secondary_opts))
    said = option.help or ""
    if isinstance(option.type, click.Choice):
        said += f" One of {', '.join(f'`{choice}`' for choice in option.type.choices)}."
    elif not option.is_flag and not option.count:
        names += f" `{option.make_metavar(context)}`"
    if option.show_default and not option.is_flag:
        said += f" Default: `{option.get_default(context)}`."
    return names, said.strip()


def schema_of(name):
    """Return the tables of a JSON Schema of the package: one for the document, one for each of its definitions."""
    schema = json.loads((ROOT / "traindoctor" / "report" / name).read_text(encoding="utf-8"))
    parts = ["### The document", _fields(schema)]
    for title, definition in schema.get("$defs", {}).items():
        said = definition.get("description", "")
        parts += [f"### {title}", *([said] if said else []), _fields(definition)]
    return "\n\n".join(parts)


def _fields(schema):
    """Return the fields of an object as a table; for anything else what it may be, in a line."""
    if "properties" not in schema:
        return f"{_kind(schema)}."
    return "\n".join(["| Field | Is | |", "| --- | --- | --- |", *_rows(schema, "")])


def _rows(schema, prefix):
    """Yield a row for each field of an object, and for those of the objects in it: `rivals[].code`."""
    for name, field in schema["properties"].items():
        said = rules.cell(field.get("description", ""))
        missing = "" if name in schema.get("required", ()) else " May be missing."
        yield f"| `{prefix}{name}` | {_kind(field)} | {said}{missing} |"
        items = field.get("items", {})
        if "properties" in field:
            yield from _rows(field, f"{prefix}{name}.")
        elif "properties" in items:
            yield from _rows(items, f"{prefix}{name}[].")


def _kind(field):
    """Return the type of a field in words, with links to the definitions it names."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{slug(name)})"
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(_kind(one) for one in field[key])
    kinds = field.get("type", "anything")
    made = []
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind == "array" and "items" in field:
            made.append(f"list of {_kind(field['items'])}")
        elif kind == "object" and isinstance(field.get("additionalProperties"), dict):
            made.append(f"object of {_kind(field['additionalProperties'])}")
        else:
            made.append({"array": "list"}.get(kind, kind))
    return " or ".join(made)


# -- links ----------------------------------------------------------------------------------------------------------------


def slug(heading, _separator="-"):
    """Return the anchor of a heading as GitHub makes it, so that one link serves both."""
    return re.sub(r"[^\w -]", "", heading.lower().strip()).replace(" ", "-")


def place_of(path):
    """Return where a file of the repository stands in the site, None for one that is not in it (a script, a folder)."""
    if path.is_dir():
        path = path / "README.md"
    if not path.is_file() or not path.is_relative_to(ROOT):
        return None
    if path == DOCS / "rules.md":
        return "rules/index.md"
    if path.is_relative_to(DOCS) and path.suffix != ".py":
        return path.relative_to(DOCS).as_posix()
    return f"{OUTSIDE}/{path.relative_to(ROOT).as_posix()}"


def origin_of(uri):
    """Return the file of the repository that a page of the site was made from; generated pages stand in docs/."""
    inside = uri.removeprefix(f"{OUTSIDE}/")
    return ROOT / inside if inside != uri else DOCS / uri


def outside_of_code(text, change):
    """Return a text with every link outside of code replaced by what `change` makes of its target."""

    def renewed(found):
        before, target, after = [group for group in found.groups() if group is not None]
        return f"{before}{target if re.match(r'[a-z]+:', target) else change(target)}{after}"

    pieces = CODE.split(text)
    pieces[::2] = [LINK.sub(renewed, piece) for piece in pieces[::2]]
    return "".join(pieces)


def resolved(target, uri):
    """Return the link as the site has it, from the page `uri`."""
    path, hash_, anchor = unquote(target).partition("#")
    if not path:
        return target
    there = Path(os.path.normpath(origin_of(uri).parent / path))
    rule = re.match(r"td\d{3}", anchor)
    place = f"rules/{rule[0].upper()}.md" if there == DOCS / "rules.md" and rule else place_of(there)
    if place is None:
        return target
    hash_, anchor = ("", "") if rule and place.startswith("rules/") else (hash_, anchor)
    made = posixpath.relpath(place, posixpath.dirname(uri) or ".")
    # the target of an HTML attribute is not turned into that of a page by MkDocs, and needs no change where it is a picture
    return f"{made}{hash_}{anchor}"


def reached(pages):
    """Return the files outside of docs/ that pages lead to, and those that these lead to: place -> path."""
    found = {}
    pending = [(uri, text) for uri, text in pages.items()]
    while pending:
        uri, text = pending.pop()

        def note(target, uri=uri):
            there = Path(os.path.normpath(origin_of(uri).parent / unquote(target).partition("#")[0]))
            place = place_of(there) if target[0] != "#" else None
            if place is not None and place.startswith(f"{OUTSIDE}/") and place not in found:
                found[place] = ROOT / place.removeprefix(f"{OUTSIDE}/")
                if place.endswith(".md"):
                    pending.append((place, found[place].read_text(encoding="utf-8")))
            return target

        outside_of_code(text, note)
    return found


# -- the hook -------------------------------------------------------------------------------------------------------------


def on_config(config):
    """Make anchors as GitHub does, and list the rules by family."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    causes = load_rules().causes
    families = [
        {
            title[0].upper() + title[1:]: [
                {f"{c.code} {c.name}": f"rules/{c.code}.md"} for c in causes.values() if c.code[:3] == family
            ]
        }
        for family, title in rules.FAMILIES.items()
    ]
    if not any("The causes" in one for one in config.nav):
        config.nav.insert(4, {"The causes": ["rules/index.md", *families]})
    return config


def on_files(files, config):
    """Add the pages of the rules, and what pages lead to outside of docs/."""
    made = rule_pages()
    written = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    for uri, path in sorted(reached({**written, **made}).items()):
        file = File.generated(config, uri, abs_src_path=str(path))
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown, page, **_):
    """Fill in options and schemas, lead links to where the site has them, and set lists apart."""
    text = OPTIONS.sub(lambda found: options_of(found[1]), markdown)
    text = SCHEMA.sub(lambda found: schema_of(found[1]), text)
    text = outside_of_code(text, lambda target: resolved(target, page.file.src_uri))
    pieces = CODE.split(text)
    pieces[::2] = [JOINED_LIST.sub(r"\1\n\n", piece) for piece in pieces[::2]]
    return "".join(pieces)


def main():
    """Build the site, and exit with 1 when a link leads nowhere."""
    from mkdocs.__main__ import cli as mkdocs

    os.chdir(ROOT)
    mkdocs(["build", "--strict", "--clean", *sys.argv[1:]])


if __name__ == "__main__":
    main()
