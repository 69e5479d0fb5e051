"""A run folder is refused before any work when it is in use, and made whole; its pictures are drawn with a margin."""

import json

import matplotlib.image
import numpy as np
import pytest
from gensar.models import CausalBackbone
from gensar.output import RunFolder, Stopwatch, item_labels, loss_curve, metric_bars

import semid
from semid.errors import FormatError, InvalidValueError

MODEL = {"recommendation": {"NDCG@10": 0.0779, "HR@10": 0.15}, "search": {"NDCG@10": 0.4, "HR@10": 0.6}}
FLOORS = {
    "recommendation": {"popularity": {"NDCG@10": 0.04, "HR@10": 0.08}},
    "search": {"items of the query, by popularity": {"NDCG@10": 0.3, "HR@10": 0.5}},
}


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


def is_drawn_with_a_margin(path):
    """Something is drawn, and nothing but the background touches the border: no label is cut off."""
    dark = matplotlib.image.imread(path)[:, :, :3].min(axis=2) < 0.9
    return dark.any() and not (dark[0].any() or dark[-1].any() or dark[:, 0].any() or dark[:, -1].any())


def test_metric_bars(tmp_path):
    metric_bars(MODEL, FLOORS, path=tmp_path / "bars.png", name="ours (causal, small)")
    assert is_drawn_with_a_margin(tmp_path / "bars.png")


def test_bars_of_a_model_that_found_nothing(tmp_path):
    metric_bars({"search": {"NDCG@10": 0.0, "HR@10": 0.0}}, {}, path=tmp_path / "bars.png")
    assert is_drawn_with_a_margin(tmp_path / "bars.png")


@pytest.mark.parametrize("n_steps", [1, 3, 400])
def test_loss_curve(tmp_path, n_steps):
    steps = np.arange(1, n_steps + 1) * 10
    validation = {"recommendation": ([10], [0.01]), "search": ([10, 20], [0.1, 0.2])}
    loss_curve(steps, np.exp(-steps / 500), path=tmp_path / "loss.png", validation=validation)
    assert is_drawn_with_a_margin(tmp_path / "loss.png")
    loss_curve(steps, np.exp(-steps / 500), path=tmp_path / "alone.png")
    assert is_drawn_with_a_margin(tmp_path / "alone.png")


def test_no_figure_stays_behind(tmp_path):
    import matplotlib.pyplot as plt

    metric_bars(MODEL, FLOORS, path=tmp_path / "bars.png")
    assert plt.get_fignums() == []


def test_parts_of_one_name_add_up(capsys):
    watch = Stopwatch()
    for _ in range(2):
        with watch("work"):
            pass
    assert capsys.readouterr().out == "work ..\nwork ..\n"
    assert list(watch.seconds) == ["work"]


def test_labels_are_queries_without_their_common_words(toy):
    assert item_labels(toy)[:5] == ["Action", "drama 1990s", "war", "noir 1940s", "Action"]
