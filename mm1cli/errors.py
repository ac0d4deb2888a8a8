"""What can go wrong, as a tree, with the exit code of each branch.

    Mm1Error                    1   a bug or an unforeseen state
    ├── FindingsError           1   the review has findings that --fail-on is about
    ├── UsageError              2   the command line or a setting makes no sense
    ├── InputError              3   nothing readable to work on
    ├── BudgetError             4   does not fit the context or the memory
    ├── InputLeftOutError       5   answered, but input was left out (--strict)
    ├── CitationError           6   a quote is not in the source (--strict-citations)
    └── ModelError              7   the model is missing or unusable

A message is one line: what is wrong, then what to do next.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    INTERNAL = 1
    USAGE = 2
    INPUT = 3
    BUDGET = 4
    LEFT_OUT = 5
    CITATION = 6
    MODEL = 7
    OUTPUT = 8  # standard output is closed, or has no room
    INTERRUPTED = 130
    BROKEN_PIPE = 141  # whoever read stdout went away; nothing is printed
    TERMINATED = 143


EXIT_CODES = {  # as people read them
    ExitCode.OK: "answered",
    ExitCode.INTERNAL: "a review has findings that --fail-on is about; or an internal error, which "
    "says so",
    ExitCode.USAGE: "the command line or a setting makes no sense",
    ExitCode.INPUT: "nothing readable",
    ExitCode.BUDGET: "does not fit the context or the memory",
    ExitCode.LEFT_OUT: "answered, but input was not read (--strict)",
    ExitCode.CITATION: "the answer says what no document says (--strict-citations)",
    ExitCode.MODEL: "the model is missing or unusable",
    ExitCode.OUTPUT: "standard output is closed, or has no room",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.TERMINATED: "terminated",
}


class Mm1Error(Exception):
    """Base of every error shown to people; `str(error)` is the line they read."""

    exit_code = ExitCode.INTERNAL
    is_on_stdout = False  # the command's own JSON says it already


class FindingsError(Mm1Error):
    """Exit 1, as linters have it: nothing went wrong, and the command must not pass."""


class UsageError(Mm1Error):
    exit_code = ExitCode.USAGE


class InputError(Mm1Error):
    exit_code = ExitCode.INPUT


class BudgetError(Mm1Error):
    exit_code = ExitCode.BUDGET


class InputLeftOutError(Mm1Error):
    exit_code = ExitCode.LEFT_OUT


class CitationError(Mm1Error):
    exit_code = ExitCode.CITATION


class ModelError(Mm1Error):
    exit_code = ExitCode.MODEL
