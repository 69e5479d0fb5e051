import re

import numpy as np
import pytest
from gensar.dataset import TEST, TRAIN, VALID, load_dataset, seen, targets

from semid.errors import FormatError, OptionalDependencyError


@pytest.fixture(scope="module")
def movielens():
    try:
        return load_dataset(None)
    except OptionalDependencyError as error:
        pytest.skip(str(error))


def test_movielens_is_split_leave_one_out(movielens):
    assert (movielens.n_users, movielens.n_items, movielens.n_queries) == (943, 1682, 420)
    for task in ("recommendation", "search"):
        for split in (VALID, TEST):
            assert targets(movielens.histories, task=task, split=split)[:, 0].tolist() == list(range(943))
    for history in movielens.histories:
        assert (np.diff(history.time) >= 0).all()
        assert history.split[-2:].tolist() == [VALID, TEST] and (history.split[:-2] == TRAIN).all()


def test_no_history_holds_the_target_or_anything_of_its_second(movielens):
    for user, event in targets(movielens.histories, task="search", split=TEST):
        history = movielens.histories[user]
        past = history.before(event)
        assert history.item[event] not in history.item[past]
        assert (history.time[past] < history.time[event]).all()
        assert history.item[event] not in seen(history, event)


@pytest.mark.parametrize("name", ["amazon_beauty_small", "ml_latest_small", "amazon_industrial"])
def test_neutral_sets(data_folder, name):
    dataset = load_dataset(data_folder / name)
    assert dataset.name == name and all(dataset.item_texts)
    assert len(targets(dataset.histories, task="recommendation", split=TEST)) == dataset.n_users
    for history in dataset.histories:
        assert (np.diff(history.split) >= 0).all() and history.split[-1] == TEST


def test_loading_twice_gives_the_same_order(movielens):
    again = load_dataset(None)
    assert all(
        (first.item == second.item).all() and (first.query == second.query).all()
        for first, second in zip(movielens.histories, again.histories, strict=True)
    )


def test_atomic_files_in_a_folder(tmp_path):
    (tmp_path / "few.item").write_text("item_id:token\ttitle:token\n1\tone\n")
    (tmp_path / "few.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n5\t1\t1\n")
    dataset = load_dataset(str(tmp_path))
    assert (dataset.name, dataset.n_users, dataset.n_items, dataset.n_queries) == ("few", 1, 1, 0)


def test_a_missing_folder(tmp_path):
    message = f"no data folder: expected a folder, got {str(tmp_path / 'none')!r}. Pass an existing folder, or leave"
    with pytest.raises(FormatError, match=re.escape(message)):
        load_dataset(tmp_path / "none")


def test_a_folder_without_data(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    message = (
        r"expected items\.jsonl\[\.gz\] and interactions\.csv\[\.gz\], or NAME\.inter .* got \['notes\.txt'\]\. Check"
    )
    with pytest.raises(FormatError, match=message):
        load_dataset(tmp_path)
