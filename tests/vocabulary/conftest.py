"""Small tokenizers and models of the kinds that people extend."""

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)


def t5():
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁buy", -1.0), ("a", -3.0)]
    return T5Tokenizer(vocab=pieces, extra_ids=4)


def gpt2():
    pieces = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    return GPT2Tokenizer(vocab=pieces | {"<|endoftext|>": 256}, merges=[])


def llama():
    return LlamaTokenizer(vocab={"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "b": 5}, merges=[])


def lower_case_words():
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "buy": 1, "</s>": 2}, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="</s>")


TOKENIZERS = {"t5": t5, "gpt2": gpt2, "llama": llama, "lower_case_words": lower_case_words}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@pytest.fixture
def words():
    return lower_case_words()


def tiny(kind, vocab_size):
    torch.manual_seed(0)
    if kind == "t5":  # tied
        config = T5Config(vocab_size=vocab_size, d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        model = T5ForConditionalGeneration(config)
    elif kind == "gpt2":  # tied
        model = GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, n_embd=16, n_layer=1, n_head=2, n_positions=32))
    else:  # not tied
        config = LlamaConfig(vocab_size=vocab_size, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
                             num_attention_heads=2, tie_word_embeddings=False)  # fmt: skip
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in {
            id(w): w for w in (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
        }.values():
            weight.normal_(0.3, 0.5)
    return model.eval()


@pytest.fixture(params=["t5", "gpt2", "llama"])
def make_model(request):
    return lambda vocab_size: tiny(request.param, vocab_size)


@pytest.fixture
def llama_model():
    return lambda vocab_size: tiny("llama", vocab_size)
