"""``semid bench``: what a trie costs on this machine, for given codes or random ones."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import semid
from semid.cli.files import print_facts
from semid.cli.options import Json
from semid.cli.trie import trie_builder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from semid._arrays import IntArray

__all__ = ["bench"]


def bench(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[CODES]", show_default=False, help="Codes, or the folder of a catalogue."),
    ] = None,
    view: Annotated[
        str | None, typer.Option("--view", metavar="NAME", help="The view to take, if there are several.")
    ] = None,
    n_items: Annotated[int, typer.Option(min=1, help="Without CODES: number of random IDs.")] = 100_000,
    levels: Annotated[int, typer.Option(min=1, help="Without CODES: levels of the random IDs.")] = 3,
    codebook_size: Annotated[int, typer.Option(min=2, help="Without CODES: codes of each level.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Requests per search.")] = 1,
    num_beams: Annotated[int, typer.Option(min=1, help="Beams per request.")] = 50,
    rounds: Annotated[int, typer.Option(min=1, help="Searches measured on each back end, in turn.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random codes and scores.")] = 0,
    json_output: Json = False,
) -> None:
    """Time how a trie is built and searched, on every back end.

    A search keeps the best beams at every level, as decoding does, but without a model. All back ends must give equal
    results. Times are wall-clock times: compare them on one machine only.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    build = _builder(source, view, (n_items, levels, codebook_size), rng)
    build()  # compiles
    begin = time.perf_counter()
    trie = build()
    seconds = time.perf_counter() - begin
    scores = [np.log(rng.random((batch, num_beams, size), dtype=np.float32)) for size in trie.codebook_sizes]
    measured = _measure(trie, scores, rounds)
    facts: dict[str, Any] = {
        "n_items": trie.n_items, "codebook_sizes": trie.codebook_sizes, "bytes_per_item": trie.nbytes / trie.n_items,
        "build_seconds": seconds, "batch": batch, "num_beams": num_beams, "rounds": rounds, "search": measured,
    }  # fmt: skip
    lines = [
        f"{trie.n_items:,} items, codebook sizes {trie.codebook_sizes}, {facts['bytes_per_item']:.2f} bytes an item, "
        f"built in {seconds:.3g} s",
        f"a search of {batch} x {num_beams} beams, all levels, {rounds} times in turn:",
    ]
    for name, found in measured.items():
        lines.append(
            f"  {name:6} median {1e3 * found['median_seconds']:.3g} ms, lowest {1e3 * found['lowest_seconds']:.3g}, "
            f"highest {1e3 * found['highest_seconds']:.3g}; the first one took {1e3 * found['first_seconds']:.3g} ms"
        )
    print_facts(facts, "\n".join(lines), as_json=json_output)


def _builder(
    source: Path | None, view: str | None, shape: tuple[int, int, int], rng: "np.random.Generator"
) -> Callable[[], semid.Trie]:
    """Return a function that builds the trie of codes in memory: those of a file, or random ones."""
    if source is not None:
        return trie_builder(source, view)
    n_items, levels, codebook_size = shape
    if n_items > codebook_size**levels // 2:
        raise typer.BadParameter(
            f"--n-items is too large: expected at most half of the {codebook_size**levels:,} IDs of {levels} levels, "
            f"got {n_items:,}. Raise --levels or --codebook-size."
        )
    codes = _unique_codes(n_items, levels, codebook_size, rng)
    return lambda: semid.Trie.from_codes(codes, codebook_sizes=(codebook_size,) * levels)


def _unique_codes(n_items: int, levels: int, codebook_size: int, rng: "np.random.Generator") -> "IntArray":
    """Return distinct random rows of codes in random order."""
    import numpy as np

    codes = np.empty((0, levels), np.int64)
    while len(codes) < n_items:  # at most half of all IDs are wanted, so most rows are new
        more = rng.integers(0, codebook_size, (2 * (n_items - len(codes)) + 16, levels))
        codes = np.unique(np.concatenate([codes, more]), axis=0)
    return rng.permutation(codes)[:n_items]


def _measure(trie: semid.Trie, scores: "list[npt.NDArray[np.float32]]", rounds: int) -> dict[str, dict[str, float]]:
    """Return the times of searches on each back end; raise if their results differ."""
    import numpy as np

    from semid.kernels import available, use_backend

    names = [name for name, missing in available().items() if missing is None]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    found = {}
    for number in range(rounds + 1):  # the first search compiles; the statistics leave it out
        for name in names[:: -1 if number % 2 else 1]:
            with use_backend(name):
                begin = time.perf_counter()
                found[name] = _search(trie, scores)
                seconds[name].append(time.perf_counter() - begin)
    expected = found[names[0]]
    for name in names[1:]:
        if not all(np.array_equal(one, other) for one, other in zip(expected, found[name], strict=True)):
            raise RuntimeError(f"back ends {names[0]} and {name} disagree: expected equal results. Please report this.")
    return {
        name: {
            "first_seconds": every[0], "median_seconds": statistics.median(every[1:]),
            "lowest_seconds": min(every[1:]), "highest_seconds": max(every[1:]),
        }
        for name, every in seconds.items()
    }  # fmt: skip


def _search(trie: semid.Trie, scores: "list[npt.NDArray[np.float32]]") -> Any:
    """Return the last selection of a beam search over given scores."""
    import numpy as np

    batch, num_beams, _ = scores[0].shape
    start, nodes = np.zeros((batch, 1), np.float32), np.zeros((batch, 1), np.int64)
    selection: Any = None
    for depth, log_probs in enumerate(scores):
        selection = trie.select(log_probs[:, : nodes.shape[1]], start, nodes, depth=depth, k=num_beams)
        start, nodes = selection.scores, selection.nodes
    return selection
