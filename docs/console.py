"""Runs the console blocks of the documentation, compares what they show, and rewrites it where asked.

    python docs/console.py            # say what differs
    python docs/console.py --accept   # put in the output of today; blocks with a `...` line are left to the author

A block is marked `console`. A line `$ traindoctor ...` is run from the root of the repository, the lines up to the next `$`
are what it prints to stdout, and `$ echo $?` shows its exit code. A line of three dots stands for any lines. Numbers written
with a point or an exponent may differ by a factor `NEAR`: a replay of disturbed training is chaotic, and another processor
rounds otherwise.
"""

import contextlib
import io
import os
import re
import shlex
import sys
from pathlib import Path

from traindoctor.cli import main as traindoctor

ROOT = Path(__file__).parents[1]
NEAR = 1.5
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+")
PROMPT = "$ "


def pages():
    """Return the pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(block):
    """Yield (command, shown output) of a block."""
    for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
        if part.startswith(PROMPT):
            line, _, shown = part.partition("\n")
            yield line.removeprefix(PROMPT), shown


def run(command):
    """Return (stdout, exit code) of a `traindoctor` command, in this process."""
    out, here = io.StringIO(), Path.cwd()
    os.chdir(ROOT)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = traindoctor(shlex.split(command, comments=True)[1:])
    finally:
        os.chdir(here)
    return out.getvalue(), code


def outputs(block):
    """Yield (command, shown, got) for each command of a block."""
    code = None
    for command, shown in commands(block):
        if command.startswith("traindoctor "):
            got, code = run(command)
            yield command, shown, got
        elif command == "echo $?" and code is not None:
            yield command, shown, f"{code}\n"


def agrees(shown, got):
    """Return whether an output is as shown: words alike, line breaks aside, numbers near."""
    pieces = [piece.strip() for piece in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    patterns = []
    for piece in pieces:
        words = re.escape(NUMBER.sub("\x00", piece))
        words = re.sub(r"(?:\\?\s)+", r"\\s+", words)
        patterns.append(words.replace("\x00", f"({NUMBER.pattern})").replace("\\\x00", f"({NUMBER.pattern})"))
    found = re.fullmatch(r"\s*" + r"[\s\S]*?".join(patterns) + r"\s*", got)
    if found is None:
        return False
    wanted = [float(number) for piece in pieces for number in NUMBER.findall(piece)]
    pairs = zip(wanted, map(float, found.groups()), strict=True)
    return all(a == b or (a > 0 and b > 0 and 1 / NEAR <= a / b <= NEAR) for a, b in pairs)


def accepted(text):
    """Return a page with the output of today."""

    def renewed(block):
        made = []
        ours = {command: got for command, _, got in outputs(block[1])}
        for command, shown in commands(block[1]):
            keep = command not in ours or re.search(r"^\.\.\.$", shown, flags=re.MULTILINE)
            made.append(f"{PROMPT}{command}\n{shown if keep else ours[command].rstrip() + chr(10)}")
        return f"```console\n{''.join(made)}```"

    return BLOCK.sub(renewed, text)


def main():
    """Write the pages anew, or name what differs."""
    if "--accept" in sys.argv[1:]:
        for page in pages():
            page.write_text(accepted(page.read_text(encoding="utf-8")), encoding="utf-8")
        return
    wrong = [
        (page.name, command)
        for page in pages()
        for block in BLOCK.findall(page.read_text(encoding="utf-8"))
        for command, shown, got in outputs(block)
        if shown.strip() and not agrees(shown, got)
    ]
    for name, command in wrong:
        print(f"{name}: {command}: prints something else")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
