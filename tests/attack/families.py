"""Every text model that transformers can build from a small config: exact, or refused with a reason.

Each model is compared with teacher forcing, which reads the whole text of each item anew without a cache, and with
transformers' own constrained beam search, through the processor and through the prefix function. ``python -m
attack.families gpt2 t5`` shows what happens to some.
"""

import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections import Counter

import numpy as np

from attack.row import Row

TITLE = "Model families"
SECONDS = 600  # a model that takes longer is reported as such
TOLERANCE = 2e-3
SEVERAL_PARTS = "it is of several parts, for text and pictures or sound; the one for text has a type of its own"
MOST_WEIGHTS = 20_000_000
# Changes to the sizes, tried in this order; None leaves the usual size.
VARIANTS = (
    {}, {"head_dim": None}, {"head_dim": 16}, {"head_dim": 16, "qk_rope_head_dim": 16}, {"num_key_value_heads": 4},
    {"hidden_size": 64}, {"hidden_size": 64, "head_dim": 16, "num_key_value_heads": 4}, {"num_hidden_layers": 4},
    {"sliding_window": None}, {"rotary_dim": 4}, {"intermediate_size": None, "moe_intermediate_size": None},
    {"max_position_embeddings": None}, {"num_hidden_layers": None}, {"v_head_dim": None}, {"num_experts_per_tok": 1},
    {"hidden_size": 256}, {"num_hidden_layers": 3},
)  # fmt: skip
N_WORDS, VOCABULARY = 60, 96
LEVELS = [range(60, 68), range(68, 76), range(76, 84)]
FEW, ALL = 6, 64  # beams; there are fewer items than ALL
# Sizes under the names that configs give them. A list sets each of its places.
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "emb_dim": 32, "embed_dim": 32,
    "d_embed": 32, "embedding_size": 32, "word_embed_proj_dim": 32, "model_dim": 32, "hidden_dim": 32,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "layers": 2, "encoder_layers": 2,
    "decoder_layers": 2, "num_decoder_layers": 2, "num_encoder_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8, "d_head": 8, "attention_head_size": 8,
    "intermediate_size": 48, "d_ff": 48, "d_inner": 48, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "ffn_dim": 48,
    "ffn_hidden_size": 48, "n_inner": 48, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16, "intermediate_size_mlp": 48, "expert_ffn_hidden_size": 16,
    "max_position_embeddings": 128, "n_positions": 128, "max_seq_len": 128, "max_source_positions": 128,
    "max_target_positions": 128, "max_encoder_position_embeddings": 128, "max_decoder_position_embeddings": 128,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_k": 2, "moe_topk": 2, "moe_top_k": 2, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "qk_head_dim": 16, "rotary_dim": 8, "sliding_window": 8, "attention_window": 8, "window_size": 8,
    "mamba_d_state": 8, "mamba_d_ssm": 64,
    "mamba_d_head": 8, "mamba_n_heads": 8, "mamba_n_groups": 1, "mamba_expand": 2, "state_size": 8,
    "time_step_rank": 4, "lru_width": 32, "attention_chunk_size": 8, "index_n_heads": 2, "index_head_dim": 16,
    "index_topk": 16, "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
    "laurel_rank": 4, "num_kv_shared_layers": 0, "ngram": 2, "num_buckets": 8, "attention_hidden_size": 32,
    "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 1, "kv_channels": 8, "global_head_dim": 8,
    "num_global_key_value_heads": 2, "n_expert": 4, "attn_layer_period": 2, "attn_layer_offset": 1,
    "expert_layer_period": 2, "expert_intermediate_size": 16, "moe_layers": 1,
}  # fmt: skip
LISTS = {"attn_layer_indices": [1], "attention_types": [[["global", "local"], 1]]}
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2}


def model_types():
    """Return the types of all models that write text, each with its class."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    found = {}
    for mapping in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING):
        for config_class in mapping:
            found[config_class.model_type] = config_class, mapping
    return dict(sorted(found.items()))


def small_config(config_class, changed):
    """Return a small config; sizes that it does not know are left out, and so are kinds of layers that it derives."""
    usual = config_class()
    sizes = {name: size for name, size in SMALL.items() if isinstance(_value(usual, name), int)}
    sizes |= {name: SMALL[name] for name in ("sliding_window", "head_dim") if hasattr(type(usual), name)}
    sizes = {name: size for name, size in (sizes | changed).items() if size is not None}
    # BERT's family reads both ways unless it is told to be a decoder.
    sizes |= {"is_decoder": True} if hasattr(usual, "is_decoder") and not usual.is_encoder_decoder else {}
    sizes |= {name: value for name, value in LISTS.items() if hasattr(usual, name)}
    kinds = _kinds_of_layers(usual)
    if kinds:
        n_layers = max(map(len, kinds.values()))
        counts = {name: n_layers for name in ("num_hidden_layers", "n_layer", "num_layers") if name in sizes}
        try:
            return config_class(**(sizes | counts | kinds), **SPECIAL)
        except AttributeError:
            return config_class(**(sizes | counts), **SPECIAL)
    return config_class(**sizes, **SPECIAL)


def _value(config, name):
    """Return a value of a config; of one that differs from layer to layer, that of the first layer."""
    try:
        return getattr(config, name, None)
    except Exception:
        return getattr(config.per_layer_config[0], name, None)


def _kinds_of_layers(usual):
    """Return short lists with each kind of layer that the usual config has, in the order of their first occurrence."""
    found = {}
    for name in ("layer_types", "layers_block_type", "mlp_layer_types", "block_types"):
        kinds = _value(usual, name)
        if isinstance(kinds, list) and kinds and isinstance(kinds[0], str):
            found[name] = list(dict.fromkeys(kinds))
    longest = max([2, *map(len, found.values())])
    return {name: (kinds * longest)[:longest] for name, kinds in found.items()}


def small_model(model_type):
    """Return a model with random weights large enough that tokens differ: the first of `VARIANTS` that runs."""
    first = None
    for changed in VARIANTS:
        try:
            model = _small_model(model_type, changed)
            teacher_forcing(model, prompts(model), [[60, 68, 76]])
            return model
        except Exception as error:  # sizes that do not fit each other
            first = first or error
    raise first


def _small_model(model_type, changed):
    import torch
    from transformers import set_seed

    config_class, mapping = model_types()[model_type]
    model_class = mapping[config_class]
    model_class = model_class[0] if isinstance(model_class, tuple) else model_class
    with torch.device("meta"):
        n_weights = sum(weight.numel() for weight in model_class(small_config(config_class, changed)).parameters())
    if hasattr(small_config(config_class, changed), "text_config"):
        raise TypeError(SEVERAL_PARTS)
    if n_weights > MOST_WEIGHTS:
        raise MemoryError(f"the small config makes a model of {n_weights / 1e6:,.0f} million weights")
    set_seed(0)
    model = model_class(small_config(config_class, changed)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    if hasattr(model, "set_default_language"):  # X-MOD
        model.set_default_language("en_XX")
    # BART's family forces its end token, which no item has; `model.generate` would return other items for it.
    model.generation_config.forced_eos_token_id = model.generation_config.forced_bos_token_id = None
    return model


def prompts(model):
    """Return three prompts of 11, 6 and 9 tokens, padded on the side that the model reads them from."""
    import torch

    lengths, width = (11, 6, 9), 11
    ids = torch.randint(3, N_WORDS, (3, width), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    for row, length in enumerate(lengths):
        mask[row, slice(length, None) if model.config.is_encoder_decoder else slice(0, width - length)] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def teacher_forcing(model, inputs, items):
    """Return the log-probabilities of all items for each prompt: for each token a pass over the text before it."""
    import torch

    items = torch.as_tensor(items)
    scores = np.zeros((len(inputs["input_ids"]), len(items)))
    for row, (ids, mask) in enumerate(zip(inputs["input_ids"], inputs["attention_mask"], strict=True)):
        prompt = ids[mask.bool()].expand(len(items), -1)
        for level in range(items.shape[1]):
            with torch.no_grad():
                if model.config.is_encoder_decoder:
                    start = torch.full((len(items), 1), model.generation_config.decoder_start_token_id)
                    text = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
                    text["decoder_input_ids"] = torch.cat([start, items[:, :level]], 1)
                else:
                    text = {"input_ids": torch.cat([prompt, items[:, :level]], 1)}
                logits = model(**text, use_cache=False).logits[:, -1].float()
            scores[row] += logits.log_softmax(-1).gather(1, items[:, level, None])[:, 0].numpy()
    return scores


def transformers_search(model, inputs, trie, vocab, *, processor, use_cache=True):
    """Return ranks and scores of transformers' own beam search with semid's processor or prefix function."""
    import semid

    prompt_len = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    if processor:
        constraint = {"logits_processor": [semid.SidLogitsProcessor(trie, vocab, prompt_len=prompt_len)]}
    else:
        function = semid.prefix_allowed_tokens_fn(trie, vocab, prompt_len=prompt_len)
        constraint = {"prefix_allowed_tokens_fn": function}
    out = model.generate(
        **inputs, **constraint, num_beams=FEW, num_return_sequences=FEW, max_new_tokens=len(LEVELS), do_sample=False,
        length_penalty=0.0, return_dict_in_generate=True, output_scores=True, use_cache=use_cache,
    )  # fmt: skip
    codes = vocab.to_codes(out.sequences[:, prompt_len : prompt_len + len(LEVELS)].numpy(), errors="ignore")
    return trie.rank(codes).reshape(-1, FEW), out.sequences_scores.reshape(-1, FEW).numpy()


def examine(model_type):
    """Return a verdict on one type: exact, refused, wrong or not built; and why."""
    import transformers

    import semid
    from semid.errors import SemidError

    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    try:
        model = small_model(model_type)
        inputs = prompts(model)
        codes = np.unique(np.random.default_rng(3).integers(0, 8, (50, 3)), axis=0)
        trie = semid.Trie.from_codes(codes, codebook_sizes=(8, 8, 8))
        vocab = semid.SidVocabulary.from_token_ids(LEVELS, eos_token_id=1)
        expected = teacher_forcing(model, inputs, vocab.to_tokens(codes))
        if not np.isfinite(expected).all():
            raise ArithmeticError("the small model's logits are not finite")
    except Exception as error:  # whatever keeps a model from running: it is counted, with the reason
        return "not built", _line(error)
    try:
        every = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=ALL)
        few = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=FEW)
        given = semid.score_items(
            model, inputs, trie=trie, vocab=vocab, candidates=[list(range(len(codes)))] * len(expected)
        )
    except SemidError as error:
        return "refused", _line(error)
    except Exception as error:
        return "wrong", f"raised {_line(error)}"
    faults = _differences(expected, every, few, given)
    notes = _beside_transformers(model, inputs, trie, vocab, few, expected)
    if not faults:
        return "exact", "; ".join(notes)
    if not notes:
        return "as transformers", f"`model.generate` and semid agree; from teacher forcing, {'; '.join(faults)}"
    return "wrong", "; ".join(faults + notes)


def _differences(expected, every, few, given):
    """Return where semid's answers differ from teacher forcing."""
    n_items = expected.shape[1]
    faults = []
    if (np.sort(every.items[:, :n_items], axis=1) != np.arange(n_items)).any():
        faults.append("a beam for each item does not find all items")
    else:
        off = np.abs(np.take_along_axis(expected, every.items[:, :n_items], 1) - every.scores[:, :n_items]).max()
        faults += [f"scores of all items are off by {off:.2g}"] * bool(off > TOLERANCE)
    off = np.abs(np.take_along_axis(expected, few.items, 1) - few.scores).max()
    faults += [f"scores of {FEW} beams are off by {off:.2g}"] * bool(off > TOLERANCE)
    off = max(np.abs(np.asarray(row) - expected[at]).max() for at, row in enumerate(given))
    return faults + [f"score_items is off by {off:.2g}"] * bool(off > TOLERANCE)


def _beside_transformers(model, inputs, trie, vocab, few, expected):
    """Return where transformers' own search does not give what semid gives, and how far it is from teacher forcing."""
    notes = []
    for name, processor in (("processor", True), ("prefix function", False)):
        try:
            ranks, scores = transformers_search(model, inputs, trie, vocab, processor=processor)
        except Exception as error:
            notes.append(f"`model.generate` with the {name} raises {_line(error)}")
            continue
        same = ranks.shape == few.items.shape and np.abs(scores - few.scores).max() <= TOLERANCE
        if not same:
            own = np.abs(np.take_along_axis(expected, np.maximum(ranks, 0), 1) - scores).max()
            notes.append(f"`model.generate` with the {name} is off by {own:.2g} from teacher forcing")
    return notes


def _line(error):
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"


def _in_a_process(model_type):
    """Examine one type in a forked process, which may crash or never end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        with os.fdopen(write, "w") as pipe:
            json.dump(examine(model_type), pipe)
            pipe.flush()
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    if status == signal.SIGALRM:
        return "not built", f"takes more than {SECONDS} seconds"
    return json.loads(text) if text else ("wrong", f"the process ended with status {status}")


def attack(scale):
    """Examine every type, or the given share of them."""
    import transformers.generation  # noqa: F401  loaded once, before the forks

    types = list(model_types())
    chosen = types[:: max(1, round(1 / scale))]
    rows = []
    for model_type in chosen:
        verdict, reason = _in_a_process(model_type)
        row = Row(model_type, 1, {"wrong": int(verdict == "wrong")}, {"verdict": verdict, "reason": reason})
        rows.append(row)
    return rows


def table(result):
    """Return the text of the page: which types are exact, and what is to be known of the others."""
    rows = [(row["what"], row["figures"]["verdict"], row["figures"]["reason"]) for row in result["rows"]]
    counts = Counter(verdict for _, verdict, _ in rows)

    def names(wanted, *, noted):
        return [what for what, verdict, reason in rows if verdict == wanted and bool(reason) == noted]

    parts = [what for what, verdict, reason in rows if verdict == "not built" and SEVERAL_PARTS in reason]
    built = len(rows) - counts["not built"]
    lines = [
        f"Of {len(rows)} types, {built} could be built from a small config: {counts['exact']} are exact, "
        f"{counts['as transformers']} give what `model.generate` gives, {counts['refused']} "
        f"{'is' if counts['refused'] == 1 else 'are'} refused, {counts['wrong']} are wrong.\n",
        f"**Exact, and equal to `model.generate`**: {', '.join(names('exact', noted=False))}.\n",
        "**To be known**: of some types, transformers' own cached search differs from a pass over the whole text; "
        "semid gives what the whole text gives.\n",
        "| type | semid | what was seen |",
        "|---|---|---|",
    ]
    for what, verdict, reason in rows:
        if reason and verdict != "not built":
            lines.append(f"| {what} | {verdict} | {reason.replace('|', '/')} |")
    lines += [
        f"\n**Of several parts**, for text and pictures or sound; the part for text has a type of its own: "
        f"{', '.join(parts)}.\n",
        "**Not built**:\n",
    ]
    for what, verdict, reason in rows:
        if verdict == "not built" and what not in parts:
            lines.append(f"- {what}: {reason}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for one in sys.argv[1:]:
        started = time.monotonic()
        try:
            sys.stdout.write(f"{one}: {examine(one)}, {time.monotonic() - started:.1f} s\n")
        except Exception:
            traceback.print_exc()
