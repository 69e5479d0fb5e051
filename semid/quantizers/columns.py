"""The columns a quantizer was fitted on: their number, and their names where they came in a data frame."""

from collections.abc import Iterator, Mapping
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from semid._arrays import Array
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "check_columns",
    "check_view_columns",
    "checked_batches",
    "keep_columns",
    "read_columns",
    "read_view_columns",
]

NAMES = "feature_names_in_"


def read_columns(X: Any, matrix: Array) -> dict[str, Any]:
    """Return the attributes by which scikit-learn knows columns, for `keep_columns` when a fit has ended.

    Parameters
    ----------
    X : what the caller passed, a data frame perhaps
    matrix : ndarray of shape (n_rows, dim)
        What was made of it.

    Raises
    ------
    InvalidTypeError
        If some names of columns are str and others are not.
    """
    seen = BaseEstimator()
    _compare(seen, X, matrix, reset=True)
    return dict(vars(seen))


def keep_columns(estimator: Any, columns: Mapping[str, Any]) -> None:
    """Set what `read_columns` returned; names of an earlier fit are forgotten."""
    if hasattr(estimator, NAMES):
        delattr(estimator, NAMES)
    for name, value in columns.items():
        setattr(estimator, name, value)


def check_columns(estimator: Any, X: Any, matrix: Array) -> None:
    """Raise an InvalidValueError unless number and names of the columns are those of the fit."""
    _compare(estimator, X, matrix, reset=False)


def read_view_columns(X: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns of those views that are data frames with names."""
    names = {view: _names(part) for view, part in X.items()} if isinstance(X, Mapping) else {}
    return {view: of_view for view, of_view in names.items() if of_view}


def check_view_columns(X: Any, fitted: Mapping[str, tuple[str, ...]]) -> None:
    """Raise an InvalidValueError if the columns of a view have other names than in the fit, or another order.

    Views without names, here or in the fit, are not compared. The number of columns is checked elsewhere.
    """
    for view, got in read_view_columns(X).items():
        for column, (name, expected) in enumerate(zip(got, fitted.get(view, got), strict=False)):
            if name != expected:
                raise InvalidValueError(
                    f"view {view!r} has other columns than in the fit: expected {expected!r}, got {name!r} as column "
                    f"{column}. Select the columns of the fit in their order."
                )


def checked_batches(X: Any, fitted: Mapping[str, tuple[str, ...]]) -> Any:
    """Return several views, or an iterable of their batches, that are compared as `check_view_columns` does."""
    if isinstance(X, Mapping):
        check_view_columns(X, fitted)
        return X

    def checked() -> Iterator[Any]:
        for batch in X:
            check_view_columns(batch, fitted)
            yield batch

    return checked()


def _compare(estimator: Any, X: Any, matrix: Array, *, reset: bool) -> None:
    try:
        validate_data(estimator, X if hasattr(X, "columns") else matrix, reset=reset, skip_check_array=True)
    except (TypeError, ValueError) as error:
        kind = InvalidTypeError if isinstance(error, TypeError) else InvalidValueError
        raise kind(f"{' '.join(str(error).split())} Use the embedding model of the fit.") from error


def _names(X: Any) -> tuple[str, ...]:
    names = tuple(getattr(X, "columns", ()))
    return names if all(isinstance(name, str) for name in names) else ()
