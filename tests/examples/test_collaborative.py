import numpy as np
import pytest
from gensar.collaborative import collaborative_embeddings, ppmi_matrix
from gensar.dataset import Events, build_histories
from oracles import ppmi_oracle


def random_sequences(rng, n_users, n_items):
    return [rng.integers(0, n_items, rng.integers(0, 15)) for _ in range(n_users)]


def histories_of(sequences):
    user = np.repeat(np.arange(len(sequences)), [len(items) for items in sequences])
    time = np.concatenate([np.arange(len(items)) for items in sequences])
    events = Events(user, np.concatenate(sequences), np.full(len(user), -1), time)
    return build_histories(events, n_users=len(sequences))


@pytest.mark.parametrize("window", [1, 3, 20])
def test_ppmi_agrees_with_the_oracle(rng, window):
    sequences = random_sequences(rng, n_users=30, n_items=12)
    ours = ppmi_matrix(sequences, n_items=12, window=window).toarray()
    np.testing.assert_allclose(ours, ppmi_oracle(sequences, 12, window), atol=1e-12)


def test_embeddings_are_those_of_a_full_svd(rng):
    histories = histories_of(random_sequences(rng, n_users=40, n_items=20))
    train = [history.item[history.train_events()] for history in histories]
    left, strengths, _ = np.linalg.svd(ppmi_oracle(train, 20, 5))
    expected = left[:, :6] * np.sqrt(strengths[:6])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    ours = collaborative_embeddings(histories, n_items=20, dim=6, window=5)
    assert ours.shape == (20, 6) and ours.dtype == np.float32
    np.testing.assert_allclose(ours @ ours.T, expected @ expected.T, atol=2e-3)  # equal up to the signs of columns
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)


def test_the_same_seed_gives_the_same_embeddings(rng):
    histories = histories_of(random_sequences(rng, n_users=40, n_items=20))
    first, second = (collaborative_embeddings(histories, n_items=20, dim=4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_held_out_events_leave_no_trace(rng):
    sequences = [np.array([0, 1, 2, 0, 1, 4, 5]), np.array([2, 1, 0, 1, 2, 4, 3])]
    embeddings = collaborative_embeddings(histories_of(sequences), n_items=7, dim=4)
    unseen = [3, 4, 5, 6]  # the last two events of each user, and an item nobody has
    assert (embeddings[unseen] == 0).all() and (embeddings[[0, 1, 2]] != 0).any(axis=1).all()


def test_more_dimensions_than_items_and_nothing_to_count():
    histories = histories_of([np.array([0, 1, 2])])
    assert (collaborative_embeddings(histories, n_items=3, dim=64) == np.zeros((3, 3))).all()
