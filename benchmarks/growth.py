"""Picture of how the cost of fitting and encoding grows with the number of items."""

from semid.plots.style import GREY, PALETTE, axes_or_new

__all__ = ["draw_growth"]


def draw_growth(report, path):
    """Draw the growth benchmark of a report into a PNG file; nothing where the report has none."""
    entries = [entry for entry in report["benchmarks"] if entry["group"] == "quantizers: growth"]
    if not entries:
        return
    import matplotlib

    matplotlib.use("Agg")
    infos = sorted((entry["extra_info"] for entry in entries), key=lambda info: info["n_items"])
    n_items = [info["n_items"] for info in infos]
    ax = axes_or_new(None, size=(6.4, 4.2))
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
    ax.spines[["right", "top"]].set_visible(False)
    ax.legend(frameon=False)
    ax.figure.savefig(path, dpi=120)
