"""What can go wrong with the user's input, each with the place and the way out."""


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


class UnreadableInputError(TraindoctorError):
    """A path that is missing, empty, or of no format that is known."""


class ConfigError(TraindoctorError):
    """A config file that does not parse, or a value that cannot be what it claims to be."""


class RulePackError(TraindoctorError):
    """A rule pack that failed to load, or a code that two packs claim."""
