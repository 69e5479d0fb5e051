import numpy as np
import pytest

import semid
from semid.errors import InvalidValueError
from semid.generation import beam_search, read_beams
from tests.generation.conftest import tiny_model


@pytest.fixture(params=["gpt2", "qwen2", "t5"])
def model(request):
    return tiny_model(request.param)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    "options",
    [{}, {"normalize": "window", "num_return": 2}, {"num_beams": 60}, {"exclude": [range(49)]}],
    ids=["plain", "window", "more than items", "exclude"],
)
def test_equal_to_generate(model, trie, vocab, make_inputs, prompt_len, batch, options):
    inputs = make_inputs(batch)
    options = {"trie": trie, "vocab": vocab, "num_beams": 6, **options}
    if "exclude" in options:
        options["exclude"] = options["exclude"] * batch
    expected = semid.generate(model, inputs, **options)
    output = model.generate(
        **inputs, custom_generate=beam_search(**options), max_new_tokens=3, return_dict_in_generate=True
    )
    n_return = options.get("num_return", options["num_beams"])
    start = prompt_len(model, inputs)
    assert output.sequences.shape == (batch * n_return, start + 3)
    found = read_beams(
        output.sequences, trie=trie, vocab=vocab, prompt_len=start, num_return=n_return, scores=output.sequences_scores
    )
    for name in ("items", "codes", "n_valid"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    plain = model.generate(**inputs, custom_generate=beam_search(**options), max_new_tokens=3)
    assert plain.equal(output.sequences)


def test_rows_of_their_own(model, trie, vocab, codes, make_inputs, prompt_len):
    inputs = make_inputs(2)
    other = semid.SidVocabulary.from_token_ids([range(48, 56), range(40, 48), range(56, 64)])
    tries, vocabs = [trie, semid.Trie.from_codes(codes[::2], codebook_sizes=(8, 8, 8))], [vocab, other]
    search = beam_search(trie=tries, vocab=vocabs, num_beams=5)
    sequences = model.generate(**inputs, custom_generate=search, max_new_tokens=3)
    expected = semid.generate(model, inputs, trie=tries, vocab=vocabs, num_beams=5)
    start = prompt_len(model, inputs)
    for row in range(2):
        of_row = sequences[5 * row : 5 * row + 5]
        found = read_beams(of_row, trie=tries[row], vocab=vocabs[row], prompt_len=start, num_return=5)
        np.testing.assert_array_equal(found.items[0], expected.items[row])


def test_what_it_refuses(model, trie, vocab, make_inputs, prompt_len):
    inputs = make_inputs(1)
    options = dict(custom_generate=beam_search(trie=trie, vocab=vocab, num_beams=3), max_new_tokens=3)
    with pytest.raises(InvalidValueError, match=r"expected num_beams and num_return_sequences of 1, got 3"):
        model.generate(**inputs, **options, num_beams=3)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=prompt_len(model, inputs))
    with pytest.raises(InvalidValueError, match=r"expected none, got \['SidLogitsProcessor'\]"):
        model.generate(**inputs, **options, logits_processor=[processor])
