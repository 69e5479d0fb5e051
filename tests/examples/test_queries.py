import numpy as np
import pytest
from gensar.queries import attach_queries, path_query, queries_of_paths, words


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (("Movies", "Drama", "1990s"), "movies drama 1990s"),
        (("Beauty", "Skin Care", "Hair & Skin"), "beauty care hair skin"),
        (("Movies", "Children's", "1990s"), "movies children 1990s"),
        (("Movies", "Sci-Fi", "1980s"), "movies sci fi 1980s"),
        (("Tools", "Sets of Tools for the Home"), "sets tools home"),
        (("Movies",), ""),
        ((), ""),
    ],
)
def test_path_query(path, query):
    assert path_query(path) == query


def test_words_are_lower_case_letters_and_digits():
    assert words("Se7en: L'Été, children's_books'") == ["se7en", "l", "été", "children", "s", "books"]


def test_queries_come_in_order_of_appearance_with_their_items():
    texts, items = queries_of_paths([[("A", "B"), ("A", "C")], [], [("A", "C"), ("a", "c"), ("D",)]])
    assert texts == ("b", "c")  # "a" is a stop word
    assert [members.tolist() for members in items] == [[0], [0, 2]]
    assert items[0].dtype == np.int64


def test_each_interaction_gets_a_query_of_its_item():
    query_items = [np.array([0, 1]), np.array([1]), np.array([1, 2])]
    items = np.array([0, 1, 2, 3] * 200)
    queries = attach_queries(items, query_items, n_items=4)
    assert queries.tolist() == attach_queries(items, query_items, n_items=4).tolist()
    assert {(item, query) for item, query in zip(items.tolist(), queries.tolist(), strict=True)} == {
        (0, 0),
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 2),
        (3, -1),
    }
    counts = np.bincount(queries[items == 1])
    assert counts.min() > 40  # 200 draws over three queries
