"""What commands read and write: quantizers, codes, labels, and the facts that they print."""

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import semid
from semid.cli.options import Sources, one_or_several
from semid.errors import FormatError, InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    from semid._arrays import CodeArray

    Codes = CodeArray | Mapping[str, CodeArray]

__all__ = [
    "check_codes_file",
    "check_folder",
    "check_free",
    "code_facts",
    "load_labels",
    "load_quantizer",
    "print_facts",
    "save_codes",
]

# What a saved folder may hold, by the name in its config.json.
QUANTIZERS = ("KMeans", "ProductKMeans", "ResidualKMeans", "RQVAE", "SharedSpecificKMeans", "SharedSpecificRQVAE")


def check_free(out: Path, *, overwrite: bool) -> None:
    """Raise if something exists that must not be replaced."""
    if out.exists() and not overwrite:
        raise InvalidValueError(f"{out} exists: expected a new name. Choose another one or pass --overwrite.")


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Raise, before the work, unless an object can be saved to `out`: no folder of others is replaced."""
    from semid.io.persistence import check_replaceable

    check_free(out, overwrite=overwrite)
    check_replaceable(out)


def check_codes_file(out: Path, X: Sources, *, overwrite: bool) -> None:
    """Raise unless codes of such embeddings can be written to `out`."""
    suffix, what = (".npz", "several views") if isinstance(X, Mapping) else (".npy", "one file")
    if out.suffix != suffix:
        raise typer.BadParameter(f"--out has a wrong ending: expected {suffix} for {what}, got {out}. Rename it.")
    check_free(out, overwrite=overwrite)
    if out.is_dir():
        raise InvalidValueError(f"{out} cannot be written: expected a file, got a folder. Choose another name.")


def load_quantizer(folder: Path, X: Sources | None = None) -> Any:
    """Load whichever quantizer a folder holds, if it takes embeddings such as `X`."""
    from semid.io.persistence import saved_class

    name = saved_class(folder)
    if name not in QUANTIZERS:
        raise FormatError(
            f"{folder} holds no quantizer: expected one of {', '.join(QUANTIZERS)}, got {name}. Check the path."
        )
    quantizer = getattr(semid, name).from_pretrained(folder)
    if X is not None and hasattr(quantizer, "views") != isinstance(X, Mapping):
        expected = one_or_several(dict.fromkeys(quantizer.views, "")) if hasattr(quantizer, "views") else "one file"
        raise InvalidTypeError(
            f"{folder} takes other embeddings: expected {expected}, got {one_or_several(X)}. Give those."
        )
    return quantizer


def load_labels(path: Path) -> list[str]:
    """Return the lines of a text file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path} cannot be read: expected one label per line in UTF-8, got other bytes ({error}). Convert it."
        ) from error


def save_codes(codes: "Codes", out: Path) -> None:
    """Write codes whole or not at all."""
    import numpy as np

    from semid.io.persistence import fresh_path

    with fresh_path(out) as fresh:
        if not isinstance(codes, Mapping):
            np.save(fresh, codes)
            return
        # numpy.savez takes the names as keyword arguments: a view could not be called "file".
        with zipfile.ZipFile(fresh, "w") as archive:
            for view, table in codes.items():
                with archive.open(f"{view}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(table), allow_pickle=False)


def code_facts(codes: "Codes", out: Path) -> dict[str, Any]:
    """Return what there is to say about codes that were written."""
    tables = list(codes.values()) if isinstance(codes, Mapping) else [codes]
    facts: dict[str, Any] = {"out": str(out), "n_items": len(tables[0]), "n_levels": tables[0].shape[1]}
    return facts | ({"views": list(codes)} if isinstance(codes, Mapping) else {})


def print_facts(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print facts as JSON, or a text for people."""
    typer.echo(json.dumps(_finite(facts), allow_nan=False) if as_json else text)


def _finite(fact: Any) -> Any:
    """Return a fact with None for numbers that JSON cannot write: those that are unknown, or not finite."""
    if isinstance(fact, dict):
        return {name: _finite(value) for name, value in fact.items()}
    if isinstance(fact, list | tuple):
        return [_finite(value) for value in fact]
    return None if isinstance(fact, float) and not math.isfinite(fact) else fact
