"""Packages that only some calls need: imported where they are used, named with their extra when absent."""

import importlib
from types import ModuleType

from semid.errors import OptionalDependencyError

__all__ = ["require"]


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Dotted name, such as ``"matplotlib.pyplot"``.
    extra : str
        The extra of semid that installs it.

    Raises
    ------
    OptionalDependencyError
        If the module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise OptionalDependencyError(
            f"cannot import {module}: expected the {extra!r} extra, got {error}. Run pip install 'semid[{extra}]'."
        ) from error
