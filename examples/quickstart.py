"""Embeddings to unique semantic IDs to a language model that answers with items: one screen, a few seconds.

The items are 1,797 scans of handwritten digits (they come with scikit-learn), their pixels are the embeddings, and the
queries are the words zero to nine. A small model learns from scratch to answer a word with the ID of a scan.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin would starve the working ones

import torch
from sklearn.datasets import load_digits
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed

import semid

set_seed(0)
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
digits = load_digits()

# Embeddings -> codes -> unique codes -> a catalogue and its trie.
quantizer = semid.ResidualKMeans(n_levels=3, codebook_size=16, seed=0).fit(digits.data)
unique = semid.resolve(quantizer, digits.data)
catalogue = semid.SemanticIds([f"scan {i}" for i in range(len(digits.data))], unique.codes, quantizer=quantizer)
print(semid.report(digits.data, unique.codes, quantizer))

# Any Hugging Face tokenizer and model: the vocabulary gives every code a token.
words = {word: i for i, word in enumerate(["<pad>", "<eos>", *WORDS])}
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(WordLevel(words)), pad_token="<pad>", eos_token="<eos>", padding_side="left"
)
model = Qwen2ForCausalLM(
    Qwen2Config(vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=4, bos_token_id=None, eos_token_id=1, pad_token_id=0)
)  # fmt: skip
vocab = semid.SidVocabulary(quantizer.codebook_sizes)
vocab.extend(tokenizer, model, codebooks=quantizer.codebooks)

# Learn: word -> ID of a scan of that digit.
prompts = torch.tensor([[words[WORDS[digit]]] for digit in digits.target])
texts = torch.cat([prompts, torch.from_numpy(vocab.to_tokens(unique.codes))], dim=1)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(150):
    batch = texts[torch.randint(len(texts), (256,))]
    loss = model(input_ids=batch, labels=batch).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model.eval()

# Ask: only scans can come out, each once. `model.generate` gives the same with semid's logits processor.
inputs = tokenizer(["seven", "two"], return_tensors="pt", return_token_type_ids=False)
out = semid.generate(model, inputs, trie=catalogue.trie(), vocab=vocab, num_beams=10)
only_items = semid.SidLogitsProcessor(catalogue.trie(), vocab, prompt_len=inputs["input_ids"].shape[1])
beams = model.generate(**inputs, num_beams=10, num_return_sequences=10, max_new_tokens=3, logits_processor=[only_items])
assert (vocab.to_codes(beams[:, 1:]).reshape(out.codes.shape) == out.codes).all()
for query, ranks in zip(["seven", "two"], out.items, strict=True):
    scans = catalogue.items_at(ranks)
    shown = ", ".join(f"{scan} (a {digits.target[int(scan.split()[1])]})" for scan in scans[:5])
    right = sum(digits.target[int(scan.split()[1])] == WORDS.index(query) for scan in scans)
    print(f"{query}: {right} of {len(scans)} are right, first {shown}")
