import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def nothing_is_cut_off():
    """Check that all that is drawn lies on the figure, and that no two texts of an axes overlap."""

    def check(ax):
        ax.figure.canvas.draw()
        figure = ax.figure.bbox
        box = ax.get_tightbbox()
        assert figure.x0 <= box.x0 and box.x1 <= figure.x1 and figure.y0 <= box.y0 and box.y1 <= figure.y1
        boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
        for i, one in enumerate(boxes):
            assert not any(one.overlaps(other) for other in boxes[:i])

    return check
