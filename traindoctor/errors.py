"""What can go wrong with the user's input, each with the place and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class TraindoctorError(Exception):
    """Input or command line that cannot be used: one clear message, exit code 2.

    `where`: file, file:line or option the message is about. `what`: what is wrong with it. `ways_out`: what to try,
    one line each.
    """

    def __init__(self, where: str, what: str, *ways_out: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what
        self.ways_out = ways_out
        for way in ways_out:  # which the traceback of a notebook shows
            self.add_note(f"try: {way}")


class UnreadableInputError(TraindoctorError):
    """A path that is missing, empty, or of no format that is known."""


class ConfigError(TraindoctorError):
    """A config file that does not parse, or a value that cannot be what it claims to be."""


class RulePackError(TraindoctorError):
    """A rule pack that failed to load, or a code that two packs claim."""


def did_you_mean(written: str, known: Iterable[str], cutoff: float = 0.5, most: int = 3) -> tuple[str, ...]:
    """Return the way out of a misspelt name, "did you mean eps or betas?"; empty where none of the known is near.

    Case, and "-" for "_", make no difference. `cutoff`: least similarity, 0 to 1, as `difflib.SequenceMatcher` has it. Of
    names that are hardly less near than the nearest, those come first that begin alike.
    """
    from difflib import SequenceMatcher
    from os.path import commonprefix

    plain = written.lower().replace("_", "-")
    found = []
    for name in dict.fromkeys(known):
        other = name.lower().replace("_", "-")
        found.append((SequenceMatcher(None, plain, other).ratio(), len(commonprefix((plain, other))), name))  # noqa: RUF071 -- of letters
    best = max((score for score, _, _ in found), default=0.0)
    near = [one for one in found if one[0] >= max(cutoff, best - 0.1)]
    names = [name for _, _, name in sorted(near, key=lambda one: (-one[1], -one[0], one[2]))[:most]]
    if not names:
        return ()
    return (f"did you mean {' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}?",)
