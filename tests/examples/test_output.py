"""A run folder is refused before any work when it is in use, and made whole."""

import json

import pytest
from gensar.causal import CausalBackbone
from gensar.output import RunFolder

import semid
from semid.errors import FormatError, InvalidValueError


@pytest.fixture
def language(teach, recipe):
    return teach(CausalBackbone(recipe))[1]


def test_a_new_folder_holds_ids_quantizer_and_vocabulary(tmp_path, identifiers, language):
    folder = RunFolder(tmp_path / "runs" / "new")
    folder.check(resume=False)
    assert not (tmp_path / "runs").exists()
    folder.open({"seed": 0}, identifiers, language)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["new"]
    sids = semid.SemanticIds.from_pretrained(folder.path / "ids")
    assert sids.fingerprint == identifiers.sids.fingerprint
    quantizer = semid.SharedSpecificKMeans.from_pretrained(folder.path / "quantizer")
    assert quantizer.n_shared == identifiers.quantizer.n_shared
    for view, vocab in language.vocabs.items():
        saved = semid.SidVocabulary.from_pretrained(folder.path / "vocabulary" / view)
        assert [tokens.tolist() for tokens in saved.level_tokens] == [tokens.tolist() for tokens in vocab.level_tokens]


def test_a_run_goes_on_only_with_what_it_was_asked_for(tmp_path, identifiers, language):
    folder = RunFolder(tmp_path / "run")
    folder.open({"seed": 0, "preset": "tiny"}, identifiers, language)
    folder.check(resume=True)
    folder.open({"seed": 0, "preset": "tiny"}, identifiers, language)
    with pytest.raises(
        InvalidValueError,
        match=r"holds another run: expected seed = 0, got 1 \(differing: seed\)\. Choose another --out",
    ):
        folder.open({"seed": 1, "preset": "tiny"}, identifiers, language)


def test_a_run_is_not_overwritten(tmp_path, identifiers, language):
    folder = RunFolder(tmp_path / "run")
    folder.open({"seed": 0}, identifiers, language)
    with pytest.raises(InvalidValueError, match=r"holds a run already: .*Pass --resume to go on with it"):
        folder.check(resume=False)


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    for resume in (False, True):
        with pytest.raises(InvalidValueError, match=r"is in use: expected a new or empty folder, .*another --out"):
            RunFolder(tmp_path).check(resume=resume)
    with pytest.raises(InvalidValueError, match=r"is a file: expected a folder for the run"):
        RunFolder(tmp_path / "thesis.tex").check(resume=False)


def test_a_damaged_description_is_named(tmp_path, identifiers, language):
    folder = RunFolder(tmp_path / "run")
    folder.open({"seed": 0}, identifiers, language)
    (folder.path / "run.json").write_text("{")
    with pytest.raises(FormatError, match=r"run\.json is damaged: expected JSON, got .*Choose another --out"):
        folder.open({"seed": 0}, identifiers, language)


def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path, identifiers, language):
    with pytest.raises(TypeError):
        RunFolder(tmp_path / "run").open({"seed": json}, identifiers, language)
    assert not list(tmp_path.iterdir())
