r"""A launch script, or what argparse leaves of a command line, as text -> its entries.

- Shell: `python train.py --lr 1e-4 --adam-beta2=0.95 \`, arguments kept in an array or a variable, `optimizer.lr=0.1` as
  Hydra takes it. A variable that is assigned one literal counts as that; nothing else of the shell is followed. An option
  that commands of one script set to different values is left out, and noted.
- `Namespace(lr=0.0001, adam_betas='(0.9, 0.98)', ...)`, as fairseq and many scripts print it.
- `lr: 0.0002    [default: 0.001]`, one option a line, as the options of pix2pix are saved.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.configs.documents import MAX_ENTRIES, NOWHERE, TOO_MANY, Entry, Note, ParseError, Span, plain_scalar
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMESPACE = lazy(r"\bNamespace\(")
_ARGUMENT = lazy(
    r"""\s*+([A-Za-z_]\w*+)\s*+=\s*+('(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|\[[^\[\]\n]*\]|\([^()\n]*\)|[^,()\[\]{}'"\n]{1,2000})(?=\s{0,20}[,)])"""
)
_OPTION = lazy(r"[ \t]*([A-Za-z_]\w*)[ \t]*:[ \t]*(\S[^\[\r\n]*?)?[ \t]*(?:\[default: [^\]\r\n]*\][ \t]*)?\r?$", re.MULTILINE)
_WORD = lazy(r"""(?:\\.|'[^']*'|"(?:[^"\\]|\\.)*"|[^\s'"\\()])+|[()\n]""", re.DOTALL)
_ASSIGNED = lazy(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_OVERRIDE = lazy(r"\+{0,2}([A-Za-z_][\w-]*(?:[./@][\w-]+)*)=(.+)", re.DOTALL)
_RUNS = lazy(
    r"(?:.*/)?(?:python[\d.]*|torchrun|accelerate|deepspeed|srun|mpirun|lightning|tune|axolotl|llamafactory-cli|fairseq-[\w-]+|yolo)"
)


def command_entries(text: str, notes: list[Note]) -> Iterator[Entry]:
    """Yield the options that a launch script or a dump of argparse sets.

    Raises: ParseError for text that holds no option.
    """
    found = list(_namespace(text)) or list(_shell(text, notes)) or list(_options(text))
    if not found and text.strip():
        raise ParseError(1, "no option of a command line is set in it")
    yield from found


def _value(written: str) -> object:
    """Return what an argument stands for: a number, a switch, text without its quotes, or a list."""
    word = written.strip()
    if word[:1] in "\"'" and len(word) > 1 and word[-1] == word[0]:
        return word[1:-1]
    if word[:1] == "[" and word[-1:] == "]":
        return [_value(part) for part in word[1:-1].split(",") if part.strip()]
    return plain_scalar(word)


def _argument(written: str) -> object:
    """Return what a word of a shell stands for: its quotes do not tell a number from text."""
    value = _value(written)
    return plain_scalar(value) if isinstance(value, str) else value


# -- Namespace(...) and lists of options ------------------------------------------------------------------------------


def _namespace(text: str) -> Iterator[Entry]:
    """Yield the arguments of the first `Namespace(...)`; values that are no literals are left out."""
    begun = _NAMESPACE.search(text)
    if begun is None:
        return
    at, n = begun.end(), 0
    line, counted = text.count("\n", 0, at) + 1, at
    while n < MAX_ENTRIES:
        argument = _ARGUMENT.match(text, at)
        if argument is None:  # something else than a literal: on to the next argument
            at = _next_argument(text, at)
            if at < 0:
                return
            continue
        line, counted = line + text.count("\n", counted, argument.start(1)), argument.start(1)
        column = argument.start(1) - text.rfind("\n", 0, argument.start(1))
        yield Entry((argument.group(1),), _value(argument.group(2)), line, argument.span(2), (), -1, column=column)
        n += 1
        at = argument.end()
        rest = re.compile(r"\s*,").match(text, at)
        if rest is None:
            return
        at = rest.end()


_PAUSE = lazy(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|[()\[\]{},\n]""")


def _next_argument(text: str, at: int) -> int:
    """Return the place after the next comma that stands in no bracket; -1 where the list of arguments ends first."""
    depth = 0
    for found in _PAUSE.finditer(text, at):
        mark = found.group()
        if mark in "([{":
            depth += 1
        elif mark in ")]}":
            depth -= 1
        if depth < 0 or mark == "\n":
            return -1
        if mark == "," and depth == 0:
            return found.end()
    return -1


def _options(text: str) -> Iterator[Entry]:
    """Yield `name: value` of each line that is one, where most lines are."""
    found: list[Entry] = []
    start = n_lines = 0
    for line, raw in enumerate(text.splitlines(keepends=True), 1):
        written = raw.rstrip()
        n_lines += bool(written.strip("-= \t"))
        option = _OPTION.fullmatch(written) if len(written) <= 2_000 else None
        if option is not None:
            span = (start + option.start(2), start + option.end(2)) if option.group(2) else NOWHERE
            value = _value(option.group(2) or "")
            found.append(Entry((option.group(1),), value, line, span, (), -1, column=option.start(1) + 1))
        start += len(raw)
    if len(found) >= 2 and 2 * len(found) >= n_lines:
        yield from found


# -- shell ------------------------------------------------------------------------------------------------------------


def _shell(text: str, notes: list[Note]) -> Iterator[Entry]:
    plain = re.sub(r"\\\r?\n", lambda m: " " * len(m.group()), text)  # a continued line is one line; places stay
    plain = re.sub(r"(?m)(^|(?<=\s))#.*$", lambda m: " " * len(m.group()), plain)
    variables: dict[str, tuple[str, Span] | None] = {}
    commands: list[list[tuple[str, Span]]] = [[]]
    depth = n = 0
    for token in _WORD.finditer(plain):
        word, n = token.group(), n + 1
        if n > MAX_ENTRIES:
            raise ParseError(1, TOO_MANY)
        if word in "()":
            depth = max(0, depth + (1 if word == "(" else -1))
        elif word == "\n":
            if not depth and commands[-1]:
                commands.append([])
        elif (assigned := _ASSIGNED.fullmatch(word)) and all(_ASSIGNED.fullmatch(w) for w, _ in commands[-1]) and not depth:
            name, value = assigned.groups()
            span = token.start() + len(name) + 1, token.end()
            variables[name] = None if name in variables else (value, span)
            if re.search(r"\s-{1,2}[A-Za-z]", " " + value.strip("\"'")):  # options kept in a variable: a command of their own
                commands.append([])
                inner = span[0] + (1 if value[:1] in "\"'" else 0)
                commands[-1] = [
                    (w.group(), (inner + w.start(), inner + w.end()))
                    for w in _WORD.finditer(value.strip("\"'"))
                    if w.group() not in "()\n"
                ]
                commands.append([])
        else:
            commands[-1].append((word, token.span()))
    found: dict[str, Entry | None] = {}
    starts = [i for i, character in enumerate(text) if character == "\n"]
    for command in commands:
        mine = {e.key: e for e in _arguments(command, variables, starts)}  # within a command the last one counts
        for key, entry in mine.items():
            known = found.get(key, entry)
            if known is not None and known.value != entry.value:
                if len(notes) < 20:
                    notes.append(
                        Note(
                            entry.line, "several-commands", f"`{key[:60]}` is set to another value at line {known.line}: left out"
                        )
                    )
                found[key] = None
            else:
                found[key] = known
    for kept in found.values():
        if kept is not None:
            yield kept._replace(path=tuple(part for part in kept.key.split(".") if part) or kept.path)


def _arguments(
    command: list[tuple[str, Span]], variables: dict[str, tuple[str, Span] | None], starts: list[int]
) -> Iterator[Entry]:
    """Yield `--key value`, `--key=value`, `--key` alone as a switch, and after a program that is run `key.sub=value`."""
    from bisect import bisect_left

    runs, at = False, 0
    while at < len(command):
        word, (start, stop) = command[at]
        at += 1
        runs = runs or bool(_RUNS.fullmatch(word))
        line = bisect_left(starts, start) + 1
        column = start - (starts[line - 2] if line > 1 else -1)
        option = re.fullmatch(r"--?([A-Za-z][\w.-]*)(?:=(.*))?", word, re.DOTALL)
        override = _OVERRIDE.fullmatch(word) if runs and option is None else None
        if option is None and override is None:
            continue
        if override is not None:
            key, written, span = override.group(1).replace("/", "."), override.group(2), (start + override.start(2), stop)
        else:
            assert option is not None
            key, written, span = option.group(1), option.group(2), (start + option.start(2), stop)
            if written is None:
                values = []
                while at < len(command) and not re.match(r"--?[A-Za-z]", command[at][0]):
                    values.append(command[at])
                    at += 1
                numbers = next((i for i, (w, _) in enumerate(values) if not re.fullmatch(r"[-+.\deE]+", w)), len(values))
                del values[max(numbers, 1) :]  # what follows is an argument of its own
                if len(values) != 1:
                    value = [plain_scalar(w.strip("\"'")) for w, _ in values] if values else True
                    yield Entry((key,), value, line, NOWHERE, tuple(s for _, s in values), -1, column=column)
                    continue
                written, span = values[0]
        variable = re.fullmatch(r"\"?\$(?:\{(\w+)\}|(\w+))\"?", written)
        if variable is not None:
            held = variables.get(variable.group(1) or variable.group(2))
            if held is None:
                continue
            written, span = held
            line = bisect_left(starts, span[0]) + 1
            column = span[0] - (starts[line - 2] if line > 1 else -1)
        if "$" in written or "`" in written:
            continue
        yield Entry((key,), _argument(written), line, span, (), -1, column=column)
