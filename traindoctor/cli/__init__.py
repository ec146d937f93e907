"""The command line. `main` is the entry point; what is slow to import is imported by the command that needs it.

click alone takes as long to import as a small file to check, and a pre-commit hook pays for it at every commit. So a plain
`check PATH...` goes to the same function that the command calls, and click is imported for everything else, in `commands`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from traindoctor.errors import TraindoctorError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 or 2; 130 after Ctrl-C, 141 when the reader went away."""
    # Nothing here multiplies large matrices; the threads that OpenBLAS starts at NumPy's import cost more than a log's reading.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # closed by who called
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 -- as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    stdout = sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without √ is no reason to fail
    try:
        if given[:1] == ["check"] and not any(one.startswith("-") for one in given) and "_TRAINDOCTOR_COMPLETE" not in os.environ:
            code = _plain_check(given[1:])
        else:
            from traindoctor.cli.commands import run

            code = run(given)
        sys.stdout.flush()
    except TraindoctorError as error:
        return _complain(error)
    except MemoryError:
        return _complain(TraindoctorError("input", "needs more memory than there is", "give one file or one run at a time"))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except SystemExit as error:
        # click raises it for shell completion, and where the reader went away: then it has put a mute stream for stdout
        return 141 if sys.stdout is not stdout else int(error.code or 0)
    except BrokenPipeError:
        _mute_stdout()
        return 141
    except OSError as error:
        _mute_stdout()
        where = error.filename or ("the working directory" if isinstance(error, FileNotFoundError) else "stdout")
        return _complain(TraindoctorError(str(where), error.strerror or str(error)))
    return code


def _mute_stdout() -> None:
    """Let what stdout still holds go nowhere, so that its end does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain_check(paths: Sequence[str]) -> int:
    """Check the paths with no option but the defaults.

    The collector looks for garbage at every few imports and finds none: what dies here is in syntax trees, which `Projects`
    sees to. Without it a small file takes a tenth less.
    """
    import gc

    gc.disable()
    try:
        return _checked(paths)
    finally:
        gc.enable()


def _checked(paths: Sequence[str]) -> int:
    from traindoctor.check.cache import default_folder
    from traindoctor.check.options import CheckOptions
    from traindoctor.cli.checking import Output, run

    return run(paths, CheckOptions(cache=default_folder()), Output())


def _complain(error: TraindoctorError) -> int:
    from traindoctor.cli.colour import in_colour
    from traindoctor.report.lines import ansi_text, plain_text
    from traindoctor.report.wording import clean

    lines = [[("error:", "fault"), (f" {clean(error.where)}: {clean(error.what, 2000)}", "")]]
    for i, way in enumerate(error.ways_out):
        lines.append([(f"  {'try:' if i == 0 else '':<8} {clean(way, 1000)}", "")])
    sys.stderr.write((ansi_text if in_colour(sys.stderr) else plain_text)(lines))
    return 2


def __getattr__(name: str) -> Any:
    """Return `cli`, the group of all commands, which click builds when it is asked for."""
    if name == "cli":
        from traindoctor.cli.commands import cli

        return cli
    raise AttributeError(name)
