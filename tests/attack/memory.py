"""Memory stays flat, however often a call is repeated."""

import gc
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from attack.row import Row

TITLE = "Memory"
MOST_MIB = 8  # what the allocator may keep
SAMPLES = 5  # of the memory, in each quarter


def attack(scale):
    """Repeat each call in a process of its own and watch its memory."""
    rows = []
    for what, n, prepare in CALLS:
        repeats = max(20, round(n * scale))
        found = in_a_fresh_process(watched, prepare, repeats)
        row = Row(what, repeats, {"crash": int(found is None), "grows": 0})
        if found is not None:
            start, *quarters = found
            medians = [statistics.median(quarter) for quarter in quarters]
            end = quarters[-1][-1]
            row.figures = {
                "MiB after warming up": round(start, 1),
                "MiB at the end": round(end, 1),
                "MiB per 1,000 calls": round((end - start) / repeats * 1000, 2),
            }
            if medians == sorted(medians) and max(end, medians[-1]) - start > MOST_MIB:
                row.fault("grows", f"{start:.1f} MiB, then medians {medians}")
        rows.append(row)
    return rows


def in_a_fresh_process(work, *arguments):
    """Return what `work` returns in a process that shares no memory with this one, None if the process ends early."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            return None


def watched(prepare, repeats):
    """Return the memory in MiB after warming up by a tenth of the calls, and some samples of each quarter of them."""
    with tempfile.TemporaryDirectory() as folder:
        call = prepare(Path(folder))
        for at in range(max(5, repeats // 10)):
            call(at)
        found = [resident()]
        ends = {one * repeats // (4 * SAMPLES) for one in range(1, 4 * SAMPLES + 1)}
        samples = []
        for at in range(repeats):
            call(at)
            if at + 1 in ends:
                samples.append(resident())
    return found + [samples[first : first + SAMPLES] for first in range(0, 4 * SAMPLES, SAMPLES)]


def resident():
    """Return this process's memory in MiB."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def codes_of(n):
    return np.unique(np.random.default_rng(0).integers(0, 64, (n, 3)), axis=0)


def parts():
    """Return a tiny model, a trie, a vocabulary and prompts."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import semid

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=220, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0, bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    trie = semid.Trie.from_codes(codes_of(2000), codebook_sizes=(64, 64, 64))
    vocab = semid.SidVocabulary.from_token_ids([range(10, 74), range(74, 138), range(138, 202)], eos_token_id=1)
    return model, trie, vocab, lambda at: {"input_ids": torch.randint(2, 10, (1 + at % 3, 3 + at % 7))}


def generate(folder):
    import semid

    model, trie, vocab, prompts = parts()
    return lambda at: semid.generate(model, prompts(at), trie=trie, vocab=vocab, num_beams=1 + at % 10)


def generate_with_processor(folder):
    import semid

    model, trie, vocab, prompts = parts()

    def call(at):
        inputs = prompts(at)
        processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=inputs["input_ids"].shape[1])
        model.generate(
            **inputs, logits_processor=[processor], num_beams=3, max_new_tokens=3, do_sample=False, pad_token_id=0,
            attention_mask=inputs["input_ids"] * 0 + 1,
        )  # fmt: skip

    return call


def save_and_load(folder):
    import semid

    codes = codes_of(2000)
    catalogue = semid.SemanticIds([f"i{at}" for at in range(len(codes))], codes, codebook_sizes=(64, 64, 64))
    trie = catalogue.trie()
    quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=8)
    quantizer.fit(np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32))

    def call(at):
        for thing, name in ((catalogue, "catalogue"), (quantizer, "quantizer")):
            thing.save_pretrained(folder / name)
            type(thing).from_pretrained(folder / name)
        trie.save(folder / "trie")
        semid.Trie.load(folder / "trie", mmap=at % 2 == 0)

    return call


def restrict(folder):
    import semid

    trie = semid.Trie.from_codes(codes_of(100_000), codebook_sizes=(64, 64, 64))
    rng = np.random.default_rng(0)
    return lambda at: trie.restrict(rng.random(trie.n_items) < 0.5).ranks()


def resolve(folder):
    import semid

    X = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=16).fit(X)
    return lambda at: semid.resolve(quantizer, X[: 100 + at % 100])


def change_catalogue(folder):
    import semid

    codes = codes_of(3000)
    catalogue = semid.SemanticIds(np.arange(2000), codes[:2000], codebook_sizes=(64, 64, 64))

    def call(at):
        new = catalogue.__copy__()
        new.add(np.arange(2000, 2100), codes[2000:2100])
        new.remove(np.arange(2000, 2100))
        new.trie()

    return call


CALLS = (
    ("`semid.generate`, batches and prompts of changing sizes", 10_000, generate),
    ("`model.generate` with the processor", 1000, generate_with_processor),
    ("a trie, a catalogue and a quantizer saved and loaded", 1000, save_and_load),
    ("`Trie.restrict` and `ranks` of 100,000 items", 1000, restrict),
    ("`resolve` of 100 to 200 items", 1000, resolve),
    ("items added to a catalogue and removed, and its trie made", 1000, change_catalogue),
)
