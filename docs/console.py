"""Runs the console blocks of the documentation, compares what they show, and rewrites it where asked.

    python docs/console.py            # say what differs
    python docs/console.py --accept   # put in the output of today; blocks with a `...` line are left to the author
    python docs/console.py --accept docs/tour.md   # of one page

A block is marked `console`. A line `$ traindoctor ...` is run in a folder that holds a copy of fixtures/, one folder a page, so
that a page may write and change files. So are the commands of `SHELL`. The lines up to the next `$` are what it prints to
stdout, and `$ echo $?` shows its exit code. A line of three dots stands for any lines. Numbers written with a point or an
exponent may differ by a factor `NEAR`: a replay of disturbed training is chaotic, and another processor rounds otherwise.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from traindoctor.cli import main as traindoctor

ROOT = Path(__file__).parents[1]
NEAR = 1.5
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+")
PROMPT = "$ "
#: Programs beside ours that a block may run: they show, copy and compare files.
SHELL = ("cat", "cp", "diff", "git", "head", "ls")


def pages():
    """Return the pages of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(block):
    """Yield (command, shown output) of a block."""
    for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
        if part.startswith(PROMPT):
            line, _, shown = part.partition("\n")
            yield line.removeprefix(PROMPT), shown


def furnish(folder):
    """Return the folder with what the commands of a page find there: fixtures/."""
    shutil.copytree(ROOT / "fixtures", folder / "fixtures", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(command, folder):
    """Return (stdout, exit code) of a command: a `traindoctor` command in this process, another in one of its own."""
    words = shlex.split(command, comments=True)
    if words[0] in SHELL:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout, done.returncode
    out, here = io.StringIO(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = traindoctor(words[1:])
    finally:
        os.chdir(here)
    return out.getvalue(), code


def outputs(block, folder):
    """Yield (command, shown, got) for each command of a block, run in a furnished folder.

    Raises: ValueError for a command that is not run, since what it shows would not be known to be true.
    """
    code = None
    for command, shown in commands(block):
        if command == "echo $?" and code is not None:
            yield command, shown, f"{code}\n"
        elif command.split()[0] in ("traindoctor", *SHELL):
            got, code = run(command, folder)
            yield command, shown, got
        else:
            raise ValueError(f"{command}: a console block runs traindoctor, {', '.join(SHELL)}")


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


def accepted(text, folder):
    """Return a page with the output of today, from commands run in a furnished folder."""

    def renewed(block):
        made = []
        ours = {command: got for command, _, got in outputs(block[1], folder)}
        for command, shown in commands(block[1]):
            keep = command not in ours or re.search(r"^\.\.\.$", shown, flags=re.MULTILINE)
            made.append(f"{PROMPT}{command}\n{shown if keep else f'{ours[command].rstrip()}{chr(10)}'.lstrip(chr(10))}")
        return f"```console\n{''.join(made)}```"

    return BLOCK.sub(renewed, text)


def main():
    """Write the pages anew, or name what differs."""
    wrong = []
    named = [Path(one).resolve() for one in sys.argv[1:] if one != "--accept"]
    for page in named or pages():
        text = page.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as made:
            folder = furnish(Path(made))
            if "--accept" in sys.argv[1:]:
                page.write_text(accepted(text, folder), encoding="utf-8")
                continue
            wrong += [
                (page.name, command)
                for block in BLOCK.findall(text)
                for command, shown, got in outputs(block, folder)
                if shown.strip() and not agrees(shown, got)
            ]
    for name, command in wrong:
        print(f"{name}: {command}: prints something else")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
