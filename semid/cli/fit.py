"""``semid fit``: from embeddings to a quantizer; every quantizer of the library, with its few options."""

import time
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import semid
from semid.cli.files import check_folder, print_facts
from semid.cli.options import Embeddings, Json, Overwrite, Sources, View, parse_sources

__all__ = ["Algorithm", "fit"]


class Algorithm(StrEnum):
    """The quantizers that ``fit`` knows."""

    KMEANS = "kmeans"
    RESIDUAL_KMEANS = "residual-kmeans"
    PRODUCT_KMEANS = "product-kmeans"
    RQVAE = "rqvae"
    SHARED_SPECIFIC_KMEANS = "shared-specific-kmeans"
    SHARED_SPECIFIC_RQVAE = "shared-specific-rqvae"


class Rotation(StrEnum):
    """How product-kmeans rotates embeddings first."""

    NONE = "none"
    OPQ = "opq"


class RecipeName(StrEnum):
    """How shared-specific-rqvae is trained."""

    DEFAULT = "default"
    GENSAR = "gensar"


SEVERAL_VIEWS = frozenset({Algorithm.SHARED_SPECIFIC_KMEANS, Algorithm.SHARED_SPECIFIC_RQVAE})
NETWORKS = frozenset({Algorithm.RQVAE, Algorithm.SHARED_SPECIFIC_RQVAE})
# Option -> the algorithms that have it; all have --codebook-size and --seed.
TAKEN_BY = {
    "--levels": {Algorithm.RESIDUAL_KMEANS, Algorithm.PRODUCT_KMEANS, Algorithm.RQVAE},
    "--shared": SEVERAL_VIEWS,
    "--specific": SEVERAL_VIEWS,
    "--rotation": {Algorithm.PRODUCT_KMEANS},
    "--recipe": {Algorithm.SHARED_SPECIFIC_RQVAE},
    "--epochs": NETWORKS,
    "--device": NETWORKS,
    "--checkpoint": NETWORKS,
}


def fit(
    embeddings: Embeddings = None,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    view: View = None,
    algorithm: Annotated[
        Algorithm | None,
        typer.Option(help="The quantizer. Default: residual-kmeans for one file, shared-specific-kmeans for views."),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(help="Number of levels. Default: 3 for residual-kmeans and rqvae, 4 for product-kmeans."),
    ] = None,
    shared: Annotated[
        int | None, typer.Option(help="Number of levels that all views share. Default: 1, for shared-specific-rqvae 2.")
    ] = None,
    specific: Annotated[int | None, typer.Option(help="Number of levels that each view has alone. Default: 2.")] = None,
    codebook_size: Annotated[
        str, typer.Option(help="Codes per level: one number, or one per level such as 64,256, or auto (k-means only).")
    ] = "256",
    seed: Annotated[int, typer.Option(min=0, help="Random seed: the same seed gives the same codebooks.")] = 0,
    rotation: Annotated[Rotation | None, typer.Option(help="Rotation before product-kmeans. Default: none.")] = None,
    recipe: Annotated[
        RecipeName | None,
        typer.Option(help="For shared-specific-rqvae: default (semid's own), or gensar (as published)."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="For the networks: passes over the data. Default: as in the recipe.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="For the networks: auto, cpu, cuda, ..")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="For the networks: file written after every epoch; training continues from it if it exists."),
    ] = None,
    json_output: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Learn codebooks from embeddings."""
    X = parse_sources(embeddings, view)
    chosen = _choose(algorithm, X)
    given = {
        "--levels": levels, "--shared": shared, "--specific": specific, "--rotation": rotation, "--recipe": recipe,
        "--epochs": epochs, "--device": device, "--checkpoint": checkpoint,
    }  # fmt: skip
    for option, value in given.items():
        if value is not None and chosen not in TAKEN_BY[option]:
            raise typer.BadParameter(
                f"{option} is not an option of {chosen}: expected none, got {value}. Leave it out, or choose "
                f"{' or '.join(sorted(TAKEN_BY[option]))}."
            )
    params: dict[str, Any] = {"codebook_size": _codebook_size(codebook_size), "seed": seed, "progress": True}
    names = {"n_levels": levels, "n_shared": shared, "n_specific": specific}
    params |= {name: value for name, value in names.items() if value is not None}
    if rotation is Rotation.OPQ:
        params["rotation"] = "opq"
    if isinstance(X, Mapping):
        params["views"] = tuple(X)
    check_folder(out, overwrite=overwrite)
    started = time.perf_counter()
    quantizer = _build(chosen, params, recipe=recipe, epochs=epochs, device=device)
    quantizer.fit(X) if checkpoint is None else quantizer.fit(X, checkpoint=checkpoint)
    quantizer.save_pretrained(out)
    seconds = time.perf_counter() - started
    facts = {"class": type(quantizer).__name__, "codebook_sizes": list(quantizer.codebook_sizes), "seconds": seconds}
    text = f"{out}: {facts['class']} of {' x '.join(map(str, quantizer.codebook_sizes))} codes, {seconds:.1f} s"
    print_facts(facts | {"out": str(out)}, text, as_json=json_output)


def _choose(algorithm: Algorithm | None, X: Sources) -> Algorithm:
    """Return the algorithm for such embeddings; a usage error if it takes others."""
    several = isinstance(X, Mapping)
    if algorithm is None:
        return Algorithm.SHARED_SPECIFIC_KMEANS if several else Algorithm.RESIDUAL_KMEANS
    if (algorithm in SEVERAL_VIEWS) != several:
        expected = [str(each) for each in Algorithm if (each in SEVERAL_VIEWS) == several]
        given = "views" if several else "one file"
        raise typer.BadParameter(
            f"--algorithm does not fit the embeddings: expected {' or '.join(expected)} for {given}, got {algorithm}. "
            f"{'Give one file without a name' if several else 'Name the views as VIEW=FILE'}."
        )
    return algorithm


def _build(
    algorithm: Algorithm,
    params: dict[str, Any],
    *,
    recipe: RecipeName | None,
    epochs: int | None,
    device: str | None,
) -> Any:
    """Return the quantizer, not fitted."""
    match algorithm:
        case Algorithm.KMEANS:
            return semid.KMeans(**params)
        case Algorithm.RESIDUAL_KMEANS:
            return semid.ResidualKMeans(**params)
        case Algorithm.PRODUCT_KMEANS:
            return semid.ProductKMeans(**params)
        case Algorithm.SHARED_SPECIFIC_KMEANS:
            return semid.SharedSpecificKMeans(**params)
    from semid.quantizers import RECIPES, Training

    changes: dict[str, Any] = {
        name: value for name, value in (("epochs", epochs), ("device", device)) if value is not None
    }
    if algorithm is Algorithm.RQVAE:
        return semid.RQVAE(training=Training(**changes) if changes else None, **params)
    name = str(recipe or RecipeName.DEFAULT)
    base = RECIPES[name]
    settings = replace(base, training=replace(base.training, **changes)) if changes else name
    return semid.SharedSpecificRQVAE(recipe=settings, **params)


def _codebook_size(text: str) -> int | list[int] | str:
    if text == "auto":
        return text
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"--codebook-size is not a number: expected one such as 256, one per level such as 64,256, or auto, got "
            f"{text}. Correct it."
        ) from error
    return sizes[0] if len(sizes) == 1 else sizes
