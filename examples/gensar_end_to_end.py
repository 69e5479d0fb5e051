"""Search and recommendation by one model that generates semantic IDs, from raw data to a table; after GenSAR.

    python examples/gensar_end_to_end.py                       # MovieLens-100K, 5 to 10 minutes on two cores
    python examples/gensar_end_to_end.py --preset tiny         # the same steps in a minute, to see that it works
    python examples/gensar_end_to_end.py --data FOLDER --backbone t5

GenSAR is arXiv 2504.05730. Read gensar/run.py next: it goes through the modules of the folder gensar in order. The
paper's other protocols and training tasks are experiments: cd examples && python -m gensar.lab.run --help
"""

import os

# Idle OpenMP threads spin by default. On a busy two-core machine each of them takes a core from a thread that has work:
# a training step went from 120 samples a second to 12. This takes effect only before torch and NumPy load their OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys

from gensar.options import make_parser, options_of
from gensar.run import exit_status, run


def main(arguments: list[str] | None = None) -> int:
    """Run the example; 0 when it went through, 1 for bad input, 130 after Ctrl-C."""
    options = options_of(make_parser(__doc__), arguments)
    return exit_status(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
