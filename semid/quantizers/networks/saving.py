"""What a saved RQVAE looks like: parameters, names of the arrays, and a card for people."""

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from semid._arrays import Array
from semid.io.persistence import read_folder, write_folder
from semid.quantizers.networks.dense import Layer
from semid.quantizers.networks.options import CodeLearning, Training
from semid.quantizers.networks.parts import Fitted
from semid.quantizers.stored import StoredArrays, check_n_levels, damage_as_format_error

__all__ = ["read_rqvae", "take_layers", "write_rqvae"]

History = list[dict[str, float]]

CARD = """\
# RQVAE

A quantizer of semid: embeddings of {dim} dimensions to {n_levels} codes, with codebooks of {sizes} centroids in a
latent space of {latent_dim} dimensions.

```python
import semid

quantizer = semid.RQVAE.from_pretrained("path/of/this/folder")
codes = quantizer.encode(embeddings)
```
"""


def write_rqvae(folder: str | os.PathLike[str], *, params: Mapping[str, Any], fitted: Fitted, history: History) -> None:
    """Write an RQVAE; `params` are those of its constructor."""
    sizes = params["codebook_size"]
    arrays: dict[str, Array] = {
        "mean": fitted.scaling.mean, "factor": np.array([fitted.scaling.factor]),
    }  # fmt: skip
    for name, layers in (("encoder", fitted.encoder), ("decoder", fitted.decoder)):
        for depth, layer in enumerate(layers):
            arrays |= {f"{name}_{depth}_weight": layer.weight, f"{name}_{depth}_bias": layer.bias}
    arrays |= {f"codebook_{level}": codebook for level, codebook in enumerate(fitted.codebooks)}
    learning, training = params["learning"], params["training"]
    write_folder(
        folder,
        class_name="RQVAE",
        config={
            **params,
            "hidden_sizes": list(params["hidden_sizes"]),
            "learning": learning and asdict(learning),
            "training": training and asdict(training),
            "history": history,
        },
        arrays=arrays,
        card=CARD.format(
            dim=len(fitted.scaling.mean),
            n_levels=len(sizes),
            sizes=", ".join(map(str, sizes)),
            latent_dim=params["latent_dim"],
        ),
    )


def read_rqvae(folder: str | os.PathLike[str], *, mmap: bool = False) -> tuple[dict[str, Any], Fitted, History]:
    """Return parameters, weights and history of a saved RQVAE; a FormatError if they do not fit together."""
    config, arrays = read_folder(folder, class_name="RQVAE", mmap=mmap)
    with damage_as_format_error(folder, "parameters, layers and codebooks"):
        stored = StoredArrays(arrays)
        history, sizes = config.pop("history"), config["codebook_size"]
        check_n_levels(sizes, config["n_levels"])
        scaling = stored.take_scaling()
        widths = [len(scaling.mean), *config["hidden_sizes"], config["latent_dim"]]
        fitted = Fitted(
            scaling,
            take_layers(stored, "encoder", widths),
            take_layers(stored, "decoder", widths[::-1]),
            stored.take_levels("codebook", sizes, dim=widths[-1]),
        )
        stored.check_none_left()
        if config["learning"] is not None:
            config["learning"] = CodeLearning(**config["learning"])
        if config["training"] is not None:
            config["training"] = Training(**config["training"])
    return config, fitted, history


def take_layers(stored: StoredArrays, name: str, widths: Sequence[int]) -> tuple[Layer, ...]:
    """Return the layers of those widths; as all of `StoredArrays`, it raises where they do not fit."""
    return tuple(
        Layer(stored.take(f"{name}_{depth}_weight", pair), stored.take(f"{name}_{depth}_bias", pair[1:]))
        for depth, pair in enumerate(itertools.pairwise(widths))
    )
