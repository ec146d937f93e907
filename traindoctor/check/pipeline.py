"""Paths and options -> the result of a check: each file read, its rules run, its comments heard. Nothing is imported or run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.check.cache import Cache, signature
from traindoctor.check.discover import Exclude, Target, named, shown, targets
from traindoctor.check.findings import SEVERITIES, Found, in_file, in_order, in_script
from traindoctor.check.options import Rules, per_file
from traindoctor.check.packing import packed, unpacked
from traindoctor.check.projects import Projects
from traindoctor.check.repairs import repaired
from traindoctor.check.results import FileResult, NotChecked, Result
from traindoctor.check.sources import SUPPRESSION, Kind, Source, UnusableError, decoded, read_bytes, trains
from traindoctor.configs.words import is_program, may_be_config
from traindoctor.errors import ConfigError
from traindoctor.registry import Shelf
from traindoctor.settings import Settings, load_settings, settings_in, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from traindoctor.check.options import CheckOptions
    from traindoctor.check.repairs import Change
    from traindoctor.rule import Cause

#: Folders of this package that decide what is found in a file, beside the rules' own.
DECIDING = ("check", "code", "configs", "optim")


class _Read(NamedTuple):
    dialect: str
    found: list[Found]


class Checker:
    """Checks one file after another under the same options.

    Raises: RulePackError as `Shelf` does, ConfigError for settings that cannot be used.
    """

    def __init__(self, options: CheckOptions, here: Path) -> None:
        self.options = options
        self.here = here
        self.shelf = Shelf(options.rules)
        self.projects = Projects(here)
        self.problems: list[str] = []
        self.cache = _cache(options.cache, self.shelf)
        self._settings: dict[Path, Settings] = {}
        self._is_alone = True  # what the file at hand says depends on no other that the cache would not know of
        self._here: Settings | None = None
        self._for_all = _settings_for_all(options)
        if self._for_all is not None:
            self._doubt(self._for_all)

    # -- settings -----------------------------------------------------------------------------------------------------

    def settings(self, folder: Path) -> Settings:
        """Return the settings for the files of a folder: the nearest at or above it, else those of the working directory."""
        if self._for_all is not None:
            return self._for_all
        if folder not in self._settings:
            found = settings_in(folder)
            if found is not None:
                self._doubt(found)
            else:
                found = self.settings(folder.parent) if folder.parent != folder else self._settings_here()
            self._settings[folder] = found
        return self._settings[folder]

    def _settings_here(self) -> Settings:
        if self._here is None:
            self._here = load_settings(self.here)
            self._doubt(self._here)
        return self._here

    def _doubt(self, settings: Settings) -> None:
        """Name the codes of settings that begin the code of no rule: a slip, or a rule pack that is not installed."""
        strange = sorted(code for code in settings.codes if not any(known.startswith(code) for known in self.shelf.known))
        problem = f"{shown(Path(settings.source), self.here)}: no rule has the code {', '.join(strange)}"
        if strange and problem not in self.problems:
            self.problems.append(problem)

    def rules(self, target: Target) -> Rules:
        """Return which rules run on a file."""
        asked = self.options
        settings = self.settings(target.path.parent)
        if asked.per_file_ignores is not None:
            silent = per_file(asked.per_file_ignores, target.file)
        else:
            silent = per_file(settings.per_file_ignores, shown(target.path, settings.folder))
        select = settings.select if asked.select is None else asked.select
        ignore = asked.ignore
        if ignore is None:  # a code that the command line selects is not one that the settings ignore
            ignore = tuple(code for code in settings.ignore if code not in (*(asked.select or ()), *asked.extend_select))
        return Rules(
            (*select, *settings.extend_select, *asked.extend_select) if select else (), (*ignore, *silent), settings.thresholds
        )

    # -- one file -----------------------------------------------------------------------------------------------------

    def check(self, target: Target, data: bytes) -> FileResult | None:
        """Return what is found in a file of this content; None when it holds no training code.

        Raises: UnusableError when it cannot be read as what its name says.
        """
        kind = target.kind or _kind_of(data)
        if kind != "config" and not trains(data) and (kind != "script" or is_program(data.decode("latin-1"))):
            return None
        rules = self.rules(target)
        key = ""
        if self.cache is not None:
            key = self.cache.key(data, target.file, str(self.projects.root(target.path)), kind, repr(rules))
            entry = self.cache.get(key, self.projects.digest_of)
            if entry is not None:
                return unpacked(entry, decoded(target.file, kind, data))
        n_problems, self._is_alone = len(self.problems), True
        try:
            source = decoded(target.file, kind, data)
        except UnusableError:
            words = data.replace(b"\0", b"").decode("latin-1")  # of UTF-16 too
            if kind == "config" and not may_be_config(words, target.path.suffix):
                return None
            raise
        result = self.look(source, target, rules)
        if self.cache is not None and self._is_alone and len(self.problems) == n_problems:
            self.cache.put(key, packed(result), self.projects.looked_at(target.path) if kind != "config" else ())
        return result

    def look(self, source: Source, target: Target, rules: Rules) -> FileResult | None:
        """Return what is found in a text; None when it is a config, and none of a training.

        Raises: UnusableError when it does not parse.
        """
        if source.kind == "config":
            read = self._in_config(source, target, rules)
            return None if read is None else self._judged(source, rules, read.found, read.dialect)
        read = None
        if source.kind == "script" and not is_program(source.text):
            read = self._in_config(source, target, rules)
        elif source.kind == "notebook":
            from traindoctor.check.notebooks import script_of

            text, notebook = script_of(source.text)
            source = source._replace(text=text, notebook=notebook)
        if not trains(source.text.encode()):
            return None if read is None else self._judged(source, rules, read.found, read.dialect)
        script = self.projects.parsed(target.path, source)
        causes = [cause for cause in self.shelf.for_script(source.text) if rules.allow(cause.code)]
        found = in_script(script, causes, rules.thresholds, self._failed(target))
        found = [self.projects.as_shown(one, target.path) for one in found]
        if read is not None:
            found = sorted([*found, *read.found], key=in_order)
        return self._judged(source, rules, found, read.dialect if read is not None else "")

    def repaired(self, result: FileResult, target: Target) -> tuple[FileResult, Change | None]:
        """Return the result for a file after its repairs, and the change that they are."""
        rules = self.rules(target)
        severities = SEVERITIES[: SEVERITIES.index(self.options.level or SEVERITIES[-1]) + 1]
        return repaired(
            result, lambda source: self.look(source, target, rules), unsafe=self.options.fix == "all", severities=severities
        )

    def _judged(self, source: Source, rules: Rules, found: Iterable[Found], dialect: str) -> FileResult:
        blank = source.notebook.broken if source.notebook is not None else ()
        if SUPPRESSION not in source.text:
            return FileResult(source, dialect, tuple(found), blank=blank)
        from traindoctor.check.suppressions import judge

        active = {code for code in self.shelf.codes if rules.allow(code)}
        kept, silenced, remarks = judge(source, found, active, self.shelf.codes)
        return FileResult(source, dialect, tuple(kept), len(silenced), tuple(remarks), blank)

    def _in_config(self, source: Source, target: Target, rules: Rules) -> _Read | None:
        """Return what is found in a config; None when it is not the config of a training."""
        if not may_be_config(source.text, target.path.suffix):
            return None
        from traindoctor.configs.documents import NO_MAPPING, ParseError
        from traindoctor.configs.file import ConfigFile, is_training_config

        try:
            config = ConfigFile(source.file, source.text, path=target.path, root=self.here)
        except ParseError as error:
            if source.kind == "script" or error.reason == NO_MAPPING:
                return None
            raise UnusableError(f"does not parse: {error.reason}", error.line) from None
        if not is_training_config(config):
            return None
        causes = [cause for cause in self.shelf.for_file() if rules.allow(cause.code)]
        found = in_file(config, causes, rules.thresholds, self._failed(target))
        self._is_alone = config.is_alone
        return _Read(config.dialect, found)

    def _failed(self, target: Target) -> Callable[[Cause, Exception], None]:
        def note(cause: Cause, error: Exception) -> None:
            words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            self.problems.append(f"{cause.code} failed on {target.file}: {words}")

        return note


def check(paths: Iterable[Path], options: CheckOptions, here: Path, stdin: bytes | None = None) -> Result:
    """Return what is found in the files of the paths, and in `stdin` under the name that the options give it.

    With `options.fix` the findings are those that are left after the repairs; nothing is written here.

    Raises: ConfigError, RulePackError.
    """
    checker = Checker(options, here)
    files: list[FileResult] = []
    not_checked: list[NotChecked] = []
    changes: list[Change] = []
    n_other = 0
    links: list[Path] = []
    given = named(here / options.stdin, here) if stdin is not None else None
    for target in found_targets(paths, checker, given, links):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's own, of the script that it parses
                data = stdin if stdin is not None and target is given else read_bytes(target.path)
                result = checker.check(target, data)
                if result is not None and options.fix:
                    result, change = checker.repaired(result, target)
                    changes += [change] if change is not None else []
        except UnusableError as error:
            not_checked.append(NotChecked(target.file, error.reason, error.line, error.way_out, target.asked))
            continue
        if result is None:
            n_other += 1
            continue
        not_checked += [NotChecked(target.file, f"cell {number} does not parse") for number in result.blank]
        files.append(result if result.findings or result.remarks else result._replace(source=result.source._replace(text="")))
    return Result(
        tuple(sorted(files, key=lambda one: one.file)),
        tuple(sorted(not_checked)),
        n_other,
        (*checker.shelf.problems, *checker.problems),
        changes=tuple(changes),
        n_links=len(links),
    )


def found_targets(paths: Iterable[Path], checker: Checker, stdin: Target | None, links: list[Path]) -> Iterator[Target]:
    """Yield the files to check: stdin by its name, those named, and those in folders that nothing excludes.

    `links`: takes the links to folders that were not followed.
    """
    if stdin is not None:
        yield stdin
    here, options = checker.here, checker.options
    settings = checker.settings(here)
    exclude = Exclude(settings.exclude, settings.folder) if options.exclude is None else Exclude(options.exclude, here)
    exclude = exclude._replace(named=options.exclude_named)
    for target in targets([here / path for path in paths], here, exclude, links):
        if stdin is None or target.file != stdin.file:
            yield target


def settings_for(path: Path, options: CheckOptions) -> Settings:
    """Return the settings that hold for a file or folder; for the working directory, those of the whole run."""
    return _settings_for_all(options) or load_settings(path)


def _settings_for_all(options: CheckOptions) -> Settings | None:
    """Return the settings of every file where the command line says which; None where the nearest file does.

    Raises: ConfigError as `settings_of` does, and for a file that was named and holds none.
    """
    if options.isolated:
        return Settings()
    if options.config is None:
        return None
    settings = settings_of(options.config)
    if settings is None:
        raise ConfigError(str(options.config), "holds no settings of traindoctor that can be read", "[tool.traindoctor]")
    return settings


def _cache(folder: Path | None, shelf: Shelf) -> Cache | None:
    if folder is None:
        return None
    package = Path(__file__).parents[1]
    return Cache(folder, signature([*(str(package / name) for name in DECIDING), *shelf.folders]))


def _kind_of(data: bytes) -> Kind:
    """Return how a file is read whose name does not say.

    Raises: UnusableError for one that says nothing either.
    """
    if data.startswith(b"#!") and b"python" in data.split(b"\n", 1)[0]:
        return "script"
    raise UnusableError(
        "is no script, notebook or config by its name", way_out="a name in .py, .ipynb, .yaml, .toml, .json or .sh"
    )
