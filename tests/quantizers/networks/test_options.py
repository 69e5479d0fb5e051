import re

import numpy as np
import pytest
import torch

from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers import Recipe
from semid.quantizers.networks.options import CodeLearning, Training


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: CodeLearning(update="sgd"), InvalidValueError,
         "update is unknown: expected 'ema' or 'loss', got 'sgd'. Choose one of them."),
        (lambda: CodeLearning(gradient="none"), InvalidValueError,
         "gradient is unknown: expected 'rotation' or 'straight-through', got 'none'."),
        (lambda: CodeLearning(distance="dot"), InvalidValueError,
         "distance is unknown: expected 'euclidean' or 'cosine', got 'dot'."),
        (lambda: CodeLearning(ema_decay=1.0), InvalidValueError,
         "ema_decay is out of range: expected 0 or more and less than 1, got 1.0. Change it."),
        (lambda: CodeLearning(commitment="much"), InvalidTypeError,
         "commitment is not a number: expected 0 or more, got 'much'. Pass a float."),
        (lambda: CodeLearning(sinkhorn_epsilon=0), InvalidValueError,
         "sinkhorn_epsilon is out of range: expected 1e-06 or more, got 0."),
        (lambda: CodeLearning(sinkhorn_iterations=0), InvalidValueError,
         "sinkhorn_iterations is too small: expected 1 or more, got 0."),
        (lambda: Training(epochs=0), InvalidValueError, "epochs is too small: expected 1 or more, got 0."),
        (lambda: Training(warmup_epochs=-1), InvalidValueError,
         "warmup_epochs is too small: expected 0 or more, got -1."),
        (lambda: Training(schedule="cosine"), InvalidValueError,
         "schedule is unknown: expected 'linear' or 'constant', got 'cosine'."),
        (lambda: Training(precision="float16"), InvalidValueError,
         "precision is unknown: expected 'auto' or 'float32' or 'bfloat16', got 'float16'."),
        (lambda: Training(learning_rate=float("nan")), InvalidValueError,
         "learning_rate is out of range: expected 0 or more, got nan."),
        (lambda: Training(validation_share=1), InvalidValueError,
         "validation_share is out of range: expected 0 or more and less than 1, got 1."),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_at_once(make, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make()


@pytest.mark.parametrize("device", [None, 3, ["cpu"]])
def test_a_device_that_is_no_name_is_refused(device):
    text = f"device has a wrong type: expected 'auto', 'cpu', 'cuda' or another name, got {device!r}. Pass a str."
    with pytest.raises(InvalidTypeError, match=re.escape(text)):
        Training(device=device)


def test_numbers_of_numpy_and_devices_of_torch_become_plain():
    given = Training(
        epochs=np.uint8(200), warmup_epochs=np.uint8(100), rise=np.float32(0.5), device=torch.device("cpu")
    )
    assert given == Training(epochs=200, warmup_epochs=100, rise=0.5, device="cpu")
    assert given.epochs + given.warmup_epochs == 300 and type(given.device) is str
    learning = CodeLearning(commitment=np.float32(0.5), sinkhorn_iterations=np.int64(3))
    assert (type(learning.commitment), type(learning.sinkhorn_iterations)) == (float, int)
    assert type(Recipe(evaluate_every=np.int64(2)).evaluate_every) is int


def test_settings_are_values():
    assert CodeLearning(sinkhorn_levels=[-1]) == CodeLearning(sinkhorn_levels=(-1,))
    assert len({Training(), Training(), Training(epochs=3)}) == 2


def test_levels_count_from_both_ends():
    assert CodeLearning(sinkhorn_levels=(0, -1)).balanced_levels(3) == {0, 2}


@pytest.mark.parametrize("level", [3, -4, "last"])
def test_levels_that_do_not_exist_are_refused(level):
    text = f"sinkhorn_levels has no such level: expected -3 to 2, got {level!r}. Name levels of the quantizer."
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        CodeLearning(sinkhorn_levels=(level,)).balanced_levels(3)
