import pytest

import semid


@pytest.fixture
def sids():
    return semid.SemanticIds(["ring", "bell", "book"], [[1, 2], [0, 3], [0, 2]])


@pytest.fixture
def two_views():
    codes = {"semantic": [[0, 1], [0, 0], [1, 0]], "collaborative": [[2, 0, 0], [1, 0, 0], [0, 0, 0]]}
    return semid.SemanticIds([10, 20, 30], codes, codebook_sizes={"semantic": (2, 2), "collaborative": (3, 2, 2)})
