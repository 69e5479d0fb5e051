"""The published T5 tokenizer and a T5 model: every ID is n_levels tokens, in text and back."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

import semid

SIZES = (256, 256, 64)


@pytest.fixture(scope="module")
def extended(request):
    folder = request.getfixturevalue("data_folder") / "t5_tokenizer"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=32_128, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    n_before = len(tokenizer)
    vocabs = semid.SidVocabulary.for_views(SIZES, n_shared=1, views=("semantic", "collaborative"))
    for vocab in vocabs.values():
        vocab.extend(tokenizer, model)
    return tokenizer, model, vocabs, n_before


def test_every_id_is_one_token_per_level(extended, rng):
    tokenizer, _, vocabs, _ = extended
    codes = np.stack([rng.integers(0, size, 200) for size in SIZES], axis=1)
    for vocab in vocabs.values():
        for text, tokens in zip(vocab.to_text(codes), vocab.to_tokens(codes), strict=True):
            assert tokenizer(text, add_special_tokens=False)["input_ids"] == tokens.tolist()
            around = tokenizer(f"recommend {text} or something else", add_special_tokens=False)["input_ids"]
            assert [t for t in around if t in set(tokens.tolist())] == tokens.tolist()
            decoded = tokenizer.decode(tokens)
            assert tokenizer(decoded, add_special_tokens=False)["input_ids"] == tokens.tolist()
        assert (vocab.to_codes(vocab.to_tokens(codes)) == codes).all()


def test_views_share_the_tokens_of_shared_levels_alone(extended):
    tokenizer, model, vocabs, n_before = extended
    semantic, collaborative = vocabs["semantic"], vocabs["collaborative"]
    assert (semantic.level_tokens[0] == collaborative.level_tokens[0]).all()
    for level in (1, 2):
        assert not set(semantic.level_tokens[level]) & set(collaborative.level_tokens[level])
    assert len(tokenizer) == n_before + 256 + 2 * (256 + 64)
    assert model.get_input_embeddings().weight.shape[0] >= len(tokenizer)


def test_only_items_come_out(extended, rng):
    tokenizer, model, vocabs, _ = extended
    vocab = vocabs["collaborative"]
    codes = np.unique(np.stack([rng.integers(0, size, 50) for size in SIZES], axis=1), axis=0)
    trie = semid.Trie.from_codes(codes, codebook_sizes=SIZES)
    inputs = tokenizer(["something to read on a rainy day", "a gift"], return_tensors="pt", padding=True)
    out = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=8)
    beams = model.generate(
        **inputs, num_beams=8, num_return_sequences=8, max_new_tokens=3,
        logits_processor=[semid.SidLogitsProcessor(trie, vocab, prompt_len=1)],
    )  # fmt: skip
    assert (vocab.to_codes(beams[:, 1:]).reshape(out.codes.shape) == out.codes).all()
    assert (trie.rank(out.codes) == out.items).all()
