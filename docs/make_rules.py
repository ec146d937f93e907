"""Writes docs/rules.md from the rules, the table of causes in README.md, and the index by which `check` imports rules.

python docs/make_rules.py            # rewrite all three
python docs/make_rules.py --check    # exit with 1 when one differs
"""

import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

import traindoctor_rules

from traindoctor.registry import indexed, load_rules

HERE = Path(__file__).parent
PAGE, README = HERE / "rules.md", HERE.parent / "README.md"
INDEX = HERE.parent / "rules" / "traindoctor_rules" / "words.py"
#: Names of languages in Markdown; Python is left out, since blocks of it in docs/ are run.
LANGUAGES = {".py": "text", ".yaml": "yaml", ".json": "json", ".toml": "toml"}
FAMILIES = {
    "TD0": "the log itself",
    "TD1": "optimizer and second moment",
    "TD2": "learning rate and schedule",
    "TD3": "gradient handling",
    "TD4": "precision and numerics",
    "TD5": "data and batches",
    "TD6": "loss and model",
    "TD7": "evaluation and generalisation",
    "TD8": "configs and their reading",
}
BEGIN, END = "<!-- causes: written by docs/make_rules.py -->", "<!-- end of causes -->"
HEAD = """# The causes

Written by `docs/make_rules.py` from the rule files in `rules/traindoctor_rules/`; `traindoctor explain CODE` shows the same.
A threshold is set in `[tool.traindoctor.thresholds.CODE]`.
"""

INDEX_HEAD = '''"""What the rules look for, so that `check` imports those alone that a text calls for.

Written by docs/make_rules.py: module -> code, the words of each of its rules on scripts, whether it reads configs.
"""

# fmt: off
# ruff: noqa: E501 -- a line a module
INDEX = {'''


def anchor(cause):
    """Return the anchor that a heading of the cause gets."""
    return f"{cause.code} {cause.name}".lower().replace(" ", "-")


def cell(text):
    """Return a text that may stand in a table."""
    return text.replace("|", "\\|")


def table(causes, page=""):
    """Return the causes as a table with links to `page`."""
    lines = ["| Code | Cause | Severity | Looks at | What it is |", "| --- | --- | --- | --- | --- |"]
    for cause in causes:
        link = f"[{cause.code}]({page}#{anchor(cause)})"
        lines.append(f"| {link} | {cause.name} | {cause.severity} | {', '.join(cause.looks_at)} | {cell(cause.summary)} |")
    return "\n".join(lines)


def families(causes, page):
    """Return the causes as a table with a row a family, each linked to its section of `page`."""
    lines = ["| Family | Causes |", "| --- | --- |"]
    for family, title in FAMILIES.items():
        links = [f"[{c.code}]({page}#{anchor(c)}) {c.name.replace('-', ' ')}" for c in causes if c.code.startswith(family)]
        lines.append(f"| {title} | {', '.join(links)} |")
    return "\n".join(lines)


def section(cause, causes):
    """Return what is known of a cause."""
    text = inspect.cleandoc(cause.explanation)
    parts = [f"## {cause.code} {cause.name}", re.sub(r"^## ", "### ", text, flags=re.MULTILINE)]
    facts = [f"Severity: {cause.severity}. Looks at: {', '.join(cause.looks_at)}."]
    if cause.log_rules and cause.log_rules[0][1]:
        facts.append(f"Needs: {', '.join(f'`{need}`' for need in cause.log_rules[0][1])}.".replace("|", "` or `"))
    if cause.replay_model:
        facts.append(f"Replayed by the model `{cause.replay_model}`.")
    for words, codes in (("Explains", cause.explains), ("Looks like", cause.look_alikes)):
        known = [f"[{code}](#{anchor(causes[code])})" if code in causes else code for code in codes]
        if known:
            facts.append(f"{words}: {', '.join(known)}.")
    parts.append(" ".join(facts))
    if cause.invalid_code:
        sample = cause.invalid_code[0]
        fence = f"```{LANGUAGES.get(Path(sample.file).suffix, '')}\n{sample.text.strip()}\n```"
        parts += ["### What `check` flags", f"{sample.name[0].upper()}{sample.name[1:]}:", fence]
    if cause.valid_code:
        parts += ["### What it leaves alone", "\n".join(f"- {cell(sample.name)}" for sample in cause.valid_code)]
    if cause.thresholds:
        rows = [f"| `{t.name}` | {t.value:g} | {cell(t.unit)} | {cell(t.source)} |" for t in cause.thresholds]
        parts += ["### Thresholds", "\n".join(["| Name | Value | Unit | Source |", "| --- | --- | --- | --- |", *rows])]
    if cause.experiment:
        parts += ["### What separates it from its rivals", cause.experiment[0].upper() + cause.experiment[1:].rstrip(".") + "."]
    if cause.refutation:
        parts += ["### What would refute it", cause.refutation]
    return "\n\n".join(parts)


def page():
    """Return the whole of docs/rules.md."""
    causes = load_rules().causes
    return "\n\n".join([HEAD.rstrip(), table(causes.values()), *(section(c, causes) for c in causes.values())]) + "\n"


def readme():
    """Return README.md with its table of causes made anew."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{families(load_rules().causes.values(), 'docs/rules.md')}\n{END}{after}"


def index():
    """Return the module that says, for `check`, what each rule looks for."""
    modules = [
        importlib.import_module(f"traindoctor_rules.{found.name}") for found in pkgutil.iter_modules(traindoctor_rules.__path__)
    ]
    causes = {m.__name__.rpartition(".")[2]: m.CAUSE for m in modules if hasattr(m, "CAUSE")}
    lines = [f"    {name!r}: {tuple(indexed(cause))!r},".replace("'", '"') for name, cause in causes.items()]
    return "\n".join([INDEX_HEAD, *lines, "}", ""])


def main():
    """Write all three, or compare them."""
    made = {INDEX: index(), PAGE: page(), README: readme()}
    old = {file: file.read_text(encoding="utf-8") if file.exists() else "" for file in made}
    if "--check" in sys.argv[1:]:
        sys.exit(any(made[file] != old[file] for file in made))
    for file, text in made.items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
