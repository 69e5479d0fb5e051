"""What a saved RQVAE looks like: parameters, names of the arrays, and a card for people."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.errors import FormatError
from semid.io.persistence import read_folder, write_folder
from semid.quantizers.networks.dense import Layer
from semid.quantizers.networks.options import CodeLearning, Training
from semid.quantizers.networks.parts import Fitted
from semid.quantizers.views import Scaling

__all__ = ["read_rqvae", "write_rqvae"]

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
    arrays: dict[str, npt.NDArray[Any]] = {
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
    try:
        history = config.pop("history")
        widths = [len(arrays["mean"]), *config["hidden_sizes"], config["latent_dim"]]
        fitted = Fitted(
            Scaling(arrays["mean"], float(arrays["factor"][0])),
            _layers(arrays, "encoder", widths),
            _layers(arrays, "decoder", widths[::-1]),
            tuple(
                _shaped(arrays, f"codebook_{level}", (size, widths[-1]))
                for level, size in enumerate(config["codebook_size"])
            ),
        )
        if config["learning"] is not None:
            config["learning"] = CodeLearning(**config["learning"])
        if config["training"] is not None:
            config["training"] = Training(**config["training"])
    except (TypeError, KeyError, ValueError) as error:
        raise FormatError(
            f"{folder} is damaged: expected parameters, layers and codebooks that belong together, got "
            f"{type(error).__name__}: {error}. Save it again."
        ) from error
    return config, fitted, history


def _layers(arrays: Mapping[str, npt.NDArray[Any]], name: str, widths: Sequence[int]) -> tuple[Layer, ...]:
    return tuple(
        Layer(
            _shaped(arrays, f"{name}_{depth}_weight", (widths[depth], widths[depth + 1])),
            _shaped(arrays, f"{name}_{depth}_bias", (widths[depth + 1],)),
        )
        for depth in range(len(widths) - 1)
    )


def _shaped(arrays: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if arrays[name].shape != shape:
        raise ValueError(f"{name} of shape {arrays[name].shape}, not {shape}")
    return arrays[name]
