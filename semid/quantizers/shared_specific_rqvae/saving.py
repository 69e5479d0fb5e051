"""What a saved SharedSpecificRQVAE looks like: parameters, names of the arrays, and a card for people."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from semid._checks import check_views
from semid.io.persistence import read_folder, write_folder
from semid.quantizers.networks.saving import take_layers
from semid.quantizers.shared_specific_rqvae.parts import Fitted
from semid.quantizers.shared_specific_rqvae.recipes import recipe_from_config, recipe_to_config
from semid.quantizers.stored import StoredArrays, check_n_levels, damage_as_format_error

__all__ = ["read_quantizer", "write_quantizer"]

History = list[dict[str, float]]

CARD = """\
# SharedSpecificRQVAE

A quantizer of semid: the views {views} of an item to {n_shared} shared and {n_specific} specific codes, with
codebooks of {sizes} centroids in the latent spaces of its encoders.

```python
import semid

quantizer = semid.SharedSpecificRQVAE.from_pretrained("path/of/this/folder")
codes = quantizer.encode({{{example}}})
```
"""


def write_quantizer(
    folder: str | os.PathLike[str], *, params: Mapping[str, Any], fitted: Fitted, history: History
) -> None:
    """Write a SharedSpecificRQVAE; `params` are those of its constructor."""
    views, weights = list(params["views"]), params["view_weights"]
    arrays = {f"shared_{level}": book for level, book in enumerate(fitted.shared)}
    for number, view in enumerate(views):  # numbers, since a view may have any name
        arrays |= {f"mean_{number}": fitted.scaling[view].mean, f"factor_{number}": np.array([fitted.scaling[view][1]])}
        for name, layers in (("encoder", fitted.encoders[view]), ("decoder", fitted.decoders[view])):
            for depth, (weight, bias) in enumerate(layers):
                arrays |= {f"{name}_{number}_{depth}_weight": weight, f"{name}_{number}_{depth}_bias": bias}
        arrays |= {f"specific_{number}_{level}": book for level, book in enumerate(fitted.specific[view])}
    config = {
        **params,
        "views": views,
        "view_weights": weights and dict(weights),
        "hidden_sizes": list(params["hidden_sizes"]),
        "recipe": recipe_to_config(params["recipe"]),
        "latent_dims": [len(fitted.encoders[view][-1].bias) for view in views],
        "history": history,
    }
    write_folder(
        folder,
        class_name="SharedSpecificRQVAE",
        config=config,
        arrays=arrays,
        card=CARD.format(
            views=", ".join(views),
            n_shared=params["n_shared"],
            n_specific=params["n_specific"],
            sizes=", ".join(map(str, params["codebook_size"])),
            example=", ".join(f"{view!r}: ..." for view in views),
        ),
    )


def read_quantizer(folder: str | os.PathLike[str], *, mmap: bool = False) -> tuple[dict[str, Any], Fitted, History]:
    """Return parameters, weights and history of a saved SharedSpecificRQVAE; a FormatError if they do not fit."""
    config, arrays = read_folder(folder, class_name="SharedSpecificRQVAE", mmap=mmap)
    with damage_as_format_error(folder, "parameters, layers and codebooks"):
        stored = StoredArrays(arrays)
        history, latent_dims = config.pop("history"), config.pop("latent_dims")
        config |= {"views": check_views(config["views"]), "hidden_sizes": tuple(config["hidden_sizes"])}
        config["recipe"] = recipe_from_config(config["recipe"])
        sizes, n_shared = config["codebook_size"], config["n_shared"]
        check_n_levels(sizes, n_shared + config["n_specific"])
        numbers = {view: number for number, view in enumerate(config["views"])}
        scaling = {view: stored.take_scaling(f"_{number}") for view, number in numbers.items()}
        widths = {
            view: [len(scaling[view].mean), *config["hidden_sizes"], latent_dims[number]]
            for view, number in numbers.items()
        }
        fitted = Fitted(
            scaling=scaling,
            encoders={view: take_layers(stored, f"encoder_{number}", widths[view]) for view, number in numbers.items()},
            decoders={view: take_layers(stored, f"decoder_{number}", widths[view][::-1])
                      for view, number in numbers.items()},
            shared=stored.take_levels("shared", sizes[:n_shared], dim=sum(latent_dims)),
            specific={view: stored.take_levels(f"specific_{number}", sizes[n_shared:], dim=latent_dims[number])
                      for view, number in numbers.items()},
        )  # fmt: skip
        stored.check_none_left()
    return config, fitted, history
