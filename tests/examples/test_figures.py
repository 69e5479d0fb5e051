import matplotlib.image
import numpy as np
import pytest
from gensar.figures import loss_curve, metric_bars

MODEL = {"recommendation": {"NDCG@10": 0.0779, "HR@10": 0.15}, "search": {"NDCG@10": 0.4, "HR@10": 0.6}}
FLOORS = {
    "recommendation": {"popularity": {"NDCG@10": 0.04, "HR@10": 0.08}},
    "search": {"items of the query, by popularity": {"NDCG@10": 0.3, "HR@10": 0.5}},
}


def is_drawn_with_a_margin(path):
    """Something is drawn, and nothing but the background touches the border: no label is cut off."""
    dark = matplotlib.image.imread(path)[:, :, :3].min(axis=2) < 0.9
    return dark.any() and not (dark[0].any() or dark[-1].any() or dark[:, 0].any() or dark[:, -1].any())


def test_metric_bars(tmp_path):
    metric_bars(MODEL, FLOORS, path=tmp_path / "bars.png", name="ours (causal, small)")
    assert is_drawn_with_a_margin(tmp_path / "bars.png")


def test_bars_of_a_model_that_found_nothing(tmp_path):
    metric_bars({"search": {"NDCG@10": 0.0, "HR@10": 0.0}}, {}, path=tmp_path / "bars.png")
    assert is_drawn_with_a_margin(tmp_path / "bars.png")


@pytest.mark.parametrize("n_steps", [1, 3, 400])
def test_loss_curve(tmp_path, n_steps):
    steps = np.arange(1, n_steps + 1) * 10
    validation = {"recommendation": ([10], [0.01]), "search": ([10, 20], [0.1, 0.2])}
    loss_curve(steps, np.exp(-steps / 500), path=tmp_path / "loss.png", validation=validation)
    assert is_drawn_with_a_margin(tmp_path / "loss.png")
    loss_curve(steps, np.exp(-steps / 500), path=tmp_path / "alone.png")
    assert is_drawn_with_a_margin(tmp_path / "alone.png")


def test_no_figure_stays_behind(tmp_path):
    import matplotlib.pyplot as plt

    metric_bars(MODEL, FLOORS, path=tmp_path / "bars.png")
    assert plt.get_fignums() == []
