"""Catalogue, trie, vocabulary and model tell whether they belong together."""

import re

import pytest

import semid
from semid.errors import InvalidTypeError, InvalidValueError


def test_a_trie_of_this_generation(sids, two_views, tmp_path):
    sids.check_pair(trie=sids.trie())
    sids.trie().save(tmp_path / "trie.safetensors")
    sids.check_pair(trie=semid.Trie.load(tmp_path / "trie.safetensors"))
    for view in two_views.views:
        two_views.check_pair(trie=two_views.trie(view), view=view)


def test_a_trie_of_another_catalogue(sids, two_views):
    old, before = sids.trie(), sids.fingerprint
    other = semid.SemanticIds(["ring", "bell", "boot"], sids.codes_of(list(sids)))
    message = rf"another catalogue: expected {before}, got {other.fingerprint} \(3 items against 3\)\. Take the trie"
    with pytest.raises(InvalidValueError, match=message):
        sids.check_pair(trie=other.trie())
    with pytest.raises(InvalidValueError, match=f"expected {before}, got None"):
        sids.check_pair(trie=semid.Trie.from_codes([[0, 2], [0, 3], [1, 2]]))
    sids.add(["cup"], [[0, 0]])
    with pytest.raises(InvalidValueError, match=rf"got {before} .* It is of generation 0, and this is 1\. Take"):
        sids.check_pair(trie=old)
    with pytest.raises(InvalidValueError, match=r"expected \w+:semantic, got \w+:collaborative"):
        two_views.check_pair(trie=two_views.trie("collaborative"), view="semantic")
    with pytest.raises(InvalidTypeError, match=r"expected a Trie, got int. Pass sids.trie"):
        sids.check_pair(trie=5)


def test_a_vocabulary_depends_on_codebook_sizes_alone(sids, two_views):
    vocab = semid.SidVocabulary([2, 4])
    sids.check_pair(vocab=vocab)
    sids.add(["cup"], [[0, 0]])
    sids.check_pair(vocab=vocab)
    sids.check_pair(vocab=semid.SidVocabulary([9, 9]))
    for sizes in ([2, 3], [2], [2, 4, 4]):
        with pytest.raises(
            InvalidValueError, match=re.escape(f"sizes of at least (2, 4), got {tuple(sizes)}. Make it with Sid")
        ):
            sids.check_pair(vocab=semid.SidVocabulary(sizes))
    with pytest.raises(InvalidValueError, match=r"fit the codes of view 'collaborative': expected .* \(3, 2, 2\)"):
        two_views.check_pair(vocab=semid.SidVocabulary([2, 2]), view="collaborative")
    with pytest.raises(InvalidTypeError, match=r"expected a SidVocabulary, got Trie"):
        sids.check_pair(vocab=sids.trie())


def test_a_model_stays_valid_while_ids_mean_the_same(sids, tmp_path):
    config, vocab = {}, semid.SidVocabulary([2, 4])
    signature = sids.sign(config, vocab=vocab)
    assert config == {"semid": signature} and signature["generation"] == 0
    sids.check_pair(model=config, vocab=vocab)
    sids.add(["cup"], [[0, 0]])
    sids.remove(["bell"])
    sids.save_pretrained(tmp_path)
    for catalogue in (sids, semid.SemanticIds.from_pretrained(tmp_path)):
        catalogue.check_pair(model=config, vocab=vocab)
        catalogue.add(["jar"], [[0, 3]], reuse=True)
        with pytest.raises(
            InvalidValueError,
            match=r"may take new items for removed ones: .* after generation 0, .* in generation 3 of",
        ):
            catalogue.check_pair(model=config)
        catalogue.sign(config)
        catalogue.check_pair(model=config)
        sids.sign(config)
        config["semid"] = signature


def test_a_model_of_another_catalogue_or_vocabulary(sids, two_views):
    config, vocab = {}, semid.SidVocabulary([2, 4])
    two_views.sign(config)
    message = (
        rf"trained on another catalogue: expected fingerprint {sids.fingerprint} or .* got {two_views.fingerprint} \("
    )
    with pytest.raises(InvalidValueError, match=message):
        sids.check_pair(model=config)
    sids.sign(config, vocab=vocab)
    other = semid.SidVocabulary([2, 4], prefix="item")
    with pytest.raises(
        InvalidValueError, match=rf"another vocabulary: expected {vocab.fingerprint}, got {other.fingerprint}\. Load"
    ):
        sids.check_pair(model=config, vocab=other)
    with pytest.raises(
        InvalidValueError, match=r"what it was trained on: expected an entry 'semid' .*, got None\. Call"
    ):
        sids.check_pair(model={})
    with pytest.raises(InvalidTypeError, match=r"expected a transformers model, its config or a dict, got int"):
        sids.sign(5)
    with pytest.raises(InvalidValueError, match=r"vocab has no view: expected a mapping with the views"):
        two_views.sign(config, vocab=vocab)
    with pytest.raises(InvalidValueError, match=r"view is unknown: expected one of \('semantic', .*\), got 'text'"):
        two_views.sign(config, vocab={"text": vocab})
    with pytest.raises(InvalidValueError, match=r"expected none, because these codes have no views, got 'text'"):
        sids.sign(config, vocab={"text": vocab})


def test_vocabularies_of_views(two_views):
    config = {}
    vocabs = {view: semid.SidVocabulary(sizes, prefix=view) for view, sizes in two_views.codebook_sizes.items()}
    two_views.sign(config, vocab=vocabs)
    for view, vocab in vocabs.items():
        two_views.check_pair(model=config, vocab=vocab, view=view)
    swapped = semid.SidVocabulary((3, 2, 2), prefix="semantic")
    with pytest.raises(InvalidValueError, match=r"trained with another vocabulary"):
        two_views.check_pair(model=config, vocab=swapped, view="collaborative")


def test_a_transformers_model_keeps_the_signature(sids, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16, n_positions=8))
    sids.sign(model)
    model.save_pretrained(tmp_path)
    sids.check_pair(model=GPT2LMHeadModel.from_pretrained(tmp_path))
