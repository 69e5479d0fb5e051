"""Options of the benchmarks."""


def pytest_addoption(parser):
    group = parser.getgroup("semid benchmarks")
    group.addoption("--items", type=int, default=100_000, help="Items of the quantizer benchmarks. [default: 100000]")
    group.addoption(
        "--most-items",
        type=int,
        default=1_000_000,
        help="Items of the memory and growth benchmarks. [default: 1000000]",
    )
