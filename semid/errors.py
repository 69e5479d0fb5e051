"""The exceptions that semid raises; each is the builtin one would expect, too.

A message says what is wrong, what was expected, what was got, and what to do.
"""

__all__ = ["FormatError", "InvalidTypeError", "InvalidValueError", "OptionalDependencyError", "SemidError"]


class SemidError(Exception):
    """Base of all errors that semid raises on purpose."""


class InvalidValueError(SemidError, ValueError):
    """An argument has the right type and a wrong value."""


class InvalidTypeError(SemidError, TypeError):
    """An argument has a wrong type."""


class FormatError(SemidError, ValueError):
    """A file or folder is not what it should be."""


class OptionalDependencyError(SemidError, ImportError):
    """A package that this call needs is not installed."""
