"""Pictures of how a cost grows: with the items of a catalogue, and of a search with its beams and its prompt."""

import statistics

from semid.plots.style import GREY, PALETTE, axes_or_new

__all__ = ["draw_growth"]


def draw_growth(report, path):
    """Draw the growth benchmark of a report into a PNG file; nothing where the report has none."""
    for group, draw in (
        ("trie: growth", _draw_steps),
        ("quantizers: growth", _draw_fitting),
        ("collisions: growth", _draw_solving),
        ("generate: growth", _draw_searches),
    ):
        infos = _infos(report, group)
        if infos:
            draw(infos, path)


def _infos(report, group):
    infos = [entry["extra_info"] for entry in report["benchmarks"] if entry["group"].startswith(group)]
    return sorted(infos, key=lambda info: info["n_items"])


def _axes():
    import matplotlib

    matplotlib.use("Agg")
    ax = axes_or_new(None, size=(6.4, 4.2))
    ax.spines[["right", "top"]].set_visible(False)
    return ax


def _draw_steps(infos, path):
    ax = _axes()
    n_items = [info["n_items"] for info in infos]
    for color, name, marker in zip(PALETTE, infos[0]["seconds"], "os", strict=False):
        microseconds = [1e6 * statistics.median(info["seconds"][name]) for info in infos]
        ax.plot(n_items, microseconds, marker=marker, color=color, label=name)
    ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("items (4 levels of 256 codes)")
    ax.set_ylabel("CPU microseconds, 4 steps of 16 x 20 beams")
    ax.legend(frameon=False)
    ax.figure.savefig(path, dpi=120)


def _draw_fitting(infos, path):
    ax = _axes()
    n_items = [info["n_items"] for info in infos]
    fit, encode = ([info["seconds"][name][0] for info in infos] for name in ("semid fit", "semid encode"))
    both = [one + other for one, other in zip(fit, encode, strict=True)]
    series = {"fit and encode": (both, "-", "o"), "fit": (fit, "--", "s"), "encode": (encode, ":", "^")}
    for color, (name, (seconds, line, marker)) in zip(PALETTE, series.items(), strict=False):
        ax.plot(n_items, seconds, line, marker=marker, color=color, label=name)
    ax.plot(n_items, [both[0] * n / n_items[0] for n in n_items], color=GREY, linewidth=0.8, label="linear")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("items (384 dimensions, 3 levels of 256 codes)")
    ax.set_ylabel("CPU seconds, one thread")
    ax.legend(frameon=False)
    ax.figure.savefig(path, dpi=120)


def _draw_solving(infos, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (against_items, against_collisions) = pyplot.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    for color, size, marker in zip(PALETTE, sorted({info["size"] for info in infos}), "os^", strict=False):
        own = [info for info in infos if info["size"] == size]
        n_items = [info["n_items"] for info in own]
        seconds = [info["seconds"]["semid, assignment"][0] for info in own]
        style = {"marker": marker, "color": color, "label": f"3 levels of {size} codes"}
        against_items.plot(n_items, seconds, **style)
        microseconds = [1e6 * time / n for time, n in zip(seconds, n_items, strict=True)]
        against_collisions.plot([100 * info["collided"] for info in own], microseconds, **style)
    against_items.set_xscale("log")
    against_items.set_xlabel("items")
    against_items.set_ylabel("CPU seconds of the assignment")
    against_collisions.set_xlabel("items with a collision before, %")
    against_collisions.set_ylabel("CPU microseconds per item")
    for ax in (against_items, against_collisions):
        ax.set_yscale("log")
        ax.spines[["right", "top"]].set_visible(False)
    against_items.legend(frameon=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_searches(infos, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9.6, 7.2), layout="constrained", sharex="row", sharey="col")
    for (time_ax, memory_ax), varied, fixed, label in (
        (axes[0], "num_beams", "length", "beams, after a prompt of {} tokens"),
        (axes[1], "length", "num_beams", "tokens of the prompt, {} beams"),
    ):
        constant = max({info[fixed] for info in infos}, key=[info[fixed] for info in infos].count)
        own = sorted((info for info in infos if info[fixed] == constant), key=lambda info: info[varied])
        x = [info[varied] for info in own]
        for color, name, marker in zip(PALETTE, own[0]["seconds"], "os^", strict=False):
            style = {"marker": marker, "color": color, "label": name}
            time_ax.plot(x, [statistics.median(info["seconds"][name]) for info in own], **style)
            mebibytes = [next(mib for at, mib in info["mebibytes"].items() if at.startswith(name)) for info in own]
            memory_ax.plot(x, mebibytes, **style)
        for ax, what in ((time_ax, "CPU seconds of a request"), (memory_ax, "memory peak above the model, MiB")):
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlabel(label.format(constant))
            ax.set_ylabel(what)
            ax.spines[["right", "top"]].set_visible(False)
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
