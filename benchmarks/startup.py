"""What a server does first, timed in a fresh process: ``python -m benchmarks.startup FILE STEP``.

NumPy, torch and, for the processor, transformers are imported before the clock starts; then semid is imported, a trie
is mapped, and one constrained step is made. Prints the milliseconds, and whether Numba was imported, as JSON.
"""

import json
import sys
import time

__all__ = ["STEPS", "main"]

STEPS = ("select", "mask_inplace", "SidLogitsProcessor")


def main(path, step):
    """Time one first step on the trie in a file."""
    import numpy as np
    import torch

    if step == "SidLogitsProcessor":
        import transformers

        transformers.LogitsProcessor  # noqa: B018  # imports the module that defines it
    rng = np.random.default_rng(0)
    log_probs = rng.standard_normal((16, 20, 256), dtype=np.float32)
    scores, ids = torch.zeros(320, 2000), torch.zeros((320, 1), dtype=torch.int64)
    start, nodes = np.zeros((16, 20), np.float32), np.zeros((16, 20), np.int64)
    begin = time.perf_counter()
    import semid

    trie = semid.Trie.load(path, mmap=True)
    if step == "select":
        trie.select(log_probs, start, nodes, depth=0, k=20)
    elif step == "mask_inplace":
        trie.mask_inplace(scores.numpy(), nodes.reshape(-1), depth=0, tokens=np.arange(256))
    else:
        levels = np.arange(sum(trie.codebook_sizes)).reshape(trie.n_levels, -1)
        vocab = semid.SidVocabulary.from_token_ids(list(levels), eos_token_id=levels.size)
        semid.SidLogitsProcessor(trie, vocab, prompt_len=1)(ids, scores)
    milliseconds = 1e3 * (time.perf_counter() - begin)
    return {"milliseconds": milliseconds, "numba": "numba" in sys.modules}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
