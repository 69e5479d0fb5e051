from gensar.table import format_table, interval_rows, unbeaten_floors

MODEL = {"recommendation": {"HR@10": 0.15, "NDCG@10": 0.0779}, "search": {"HR@10": 0.6, "NDCG@10": 0.4}}
FLOORS = {
    "recommendation": {
        "popularity": {"HR@10": 0.08, "NDCG@10": 0.04},
        "item-item CF": {"HR@10": 0.14, "NDCG@10": 0.082},
    },
    "search": {"BM25": {"HR@10": 0.31, "NDCG@10": 0.19}},
}


def test_table():
    assert format_table(MODEL, FLOORS, name="causal").splitlines() == [
        "                   HR@10   NDCG@10",
        "----------------------------------",
        "recommendation",
        "  causal          0.1500    0.0779",
        "  popularity      0.0800    0.0400",
        "  item-item CF    0.1400    0.0820",
        "----------------------------------",
        "search",
        "  causal          0.6000    0.4000",
        "  BM25            0.3100    0.1900",
        "----------------------------------",
        "Floors that causal does not beat:",
        "  recommendation, item-item CF: NDCG@10 95% of it",
    ]


def test_all_beaten_is_said_plainly():
    table = format_table({"search": MODEL["search"]}, FLOORS)
    assert table.endswith("Every floor is beaten by ours, on every metric.")
    assert "recommendation" not in table


def test_a_tie_is_not_a_win():
    floors = {"search": {"BM25": {"HR@10": 0.6, "NDCG@10": 0.3}, "none": {"HR@10": 0.0, "NDCG@10": 0.0}}}
    assert unbeaten_floors(MODEL, floors) == [("search", "BM25", ["HR@10"])]
    zero = {"search": {"HR@10": 0.0, "NDCG@10": 0.0}}
    assert "none: HR@10 both 0, NDCG@10 both 0" in format_table(zero, {"search": {"none": zero["search"]}})


def test_rows_below_the_model_are_shown_and_not_judged():
    spread = {"search": {"HR@10": (0.55, 0.65), "NDCG@10": (0.35, 0.45)}}
    below = {"search": {**interval_rows(spread)["search"], "with beams": {"HR@10": 0.7, "NDCG@10": 0.5}}}
    table = format_table({"search": MODEL["search"]}, FLOORS, below=below).splitlines()
    assert table[3:7] == [
        "  ours          0.6000    0.4000",
        "    95% from    0.5500    0.3500",
        "    95% to      0.6500    0.4500",
        "  with beams    0.7000    0.5000",
    ]
    assert table[-1] == "Every floor is beaten by ours, on every metric."


def test_the_metrics_that_are_shown_are_those_that_are_judged():
    table = format_table(MODEL, FLOORS, shown=["HR@10"])
    assert "NDCG" not in table
    assert table.endswith("Every floor is beaten by ours, on every metric.")
