import builtins
import itertools
import json
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from typer.testing import CliRunner

import semid
from semid.__main__ import main
from semid.cli import app
from semid.cli.trie import trie_builder
from semid.io.persistence import write_folder, write_tensors
from semid.quantizers import RECIPES, Training

HEAVY = {"torch", "transformers", "numba", "sklearn", "matplotlib"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a folder with embeddings; returns exit code, stdout and stderr."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((5, 6))
    for name in ("S", "C"):
        np.save(tmp_path / f"{name}.npy", centers[rng.integers(0, 5, 60)] + 0.1 * rng.standard_normal((60, 6)))
    monkeypatch.chdir(tmp_path)

    def invoke(line):
        result = CliRunner().invoke(app, line.split(), prog_name="semid")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.fixture
def fitted(run):
    assert run("fit S.npy --out one --levels 2 --codebook-size 8")[0] == 0
    return run


@pytest.fixture
def fitted_views(run):
    assert run("fit semantic=S.npy collaborative=C.npy --out two --codebook-size 8 --specific 1")[0] == 0
    return run


def test_version(run):
    assert run("--version") == (0, f"semid {semid.__version__}\n", "")


def test_help_lists_the_commands(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(f"\n  {command} " in out for command in ("fit", "encode", "resolve", "trie", "report", "bench", "info"))


def test_fit_is_the_library_call(run, tmp_path):
    code, out, err = run("fit S.npy --out one --levels 2 --codebook-size 8,4 --seed 3")
    assert (code, err) == (0, "")
    assert out.startswith("one: ResidualKMeans of 8 x 4 codes, ")
    expected = semid.ResidualKMeans(n_levels=2, codebook_size=(8, 4), seed=3).fit(np.load(tmp_path / "S.npy"))
    loaded = semid.ResidualKMeans.from_pretrained(tmp_path / "one")
    for ours, theirs in zip(loaded.codebooks, expected.codebooks, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_fit_prints_json(run):
    facts = json.loads(run("fit S.npy --out one --codebook-size 8 --json")[1])
    assert (facts["class"], facts["codebook_sizes"], facts["out"]) == ("ResidualKMeans", [8, 8, 8], "one")


def test_encode(fitted, tmp_path):
    assert fitted("encode one S.npy --out codes.npy") == (0, "codes.npy: codes of 60 items\n", "")
    quantizer = semid.ResidualKMeans.from_pretrained(tmp_path / "one")
    X = np.load(tmp_path / "S.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), quantizer.encode(X))
    facts = json.loads(fitted("encode one S.npy --out wide.npy --beam 8 --json")[1])
    assert facts == {"out": "wide.npy", "n_items": 60, "n_levels": 2}
    np.testing.assert_array_equal(np.load(tmp_path / "wide.npy"), quantizer.encode(X, beam=8))


def test_resolve(fitted, tmp_path):
    code, out, err = fitted("resolve one S.npy --out unique.npy")
    assert (code, err) == (0, "")
    assert out.startswith("unique.npy: Resolution(60 items")
    assert len(np.unique(np.load(tmp_path / "unique.npy"), axis=0)) == 60


def test_resolve_in_the_last_level_alone(fitted, tmp_path):
    codes = np.stack([np.arange(60) // 8, np.zeros(60)], axis=1).astype(np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    assert fitted("resolve one S.npy --out last.npy --codes codes.npy --max-level-moved 1")[0] == 0
    found = np.load(tmp_path / "last.npy")
    np.testing.assert_array_equal(found[:, 0], codes[:, 0])
    assert len(np.unique(found, axis=0)) == 60


def test_resolve_by_suffix_from_given_codes(fitted, tmp_path):
    codes = np.repeat(np.arange(6), 10)[:, None].repeat(2, axis=1).astype(np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    facts = json.loads(fitted("resolve one S.npy --out long.npy --policy suffix --codes codes.npy --json")[1])
    assert facts["codebook_sizes"] == [8, 8, 10]
    assert (facts["n_items"], facts["n_levels"], facts["n_moved"]) == (60, 3, 0)
    np.testing.assert_array_equal(np.load(tmp_path / "long.npy")[:, :2], codes)


def test_numbers_that_are_unknown_are_null_in_json(fitted):
    out = fitted("resolve one S.npy --out repaired.npy --policy sinkhorn --json")[1]
    assert '"optimality_gap": null' in out and "NaN" not in out


def test_report(fitted, tmp_path):
    fitted("encode one S.npy --out codes.npy")
    X, codes = np.load(tmp_path / "S.npy"), np.load(tmp_path / "codes.npy")
    quantizer = semid.ResidualKMeans.from_pretrained(tmp_path / "one")
    assert fitted("report S.npy codes.npy") == (0, f"{semid.report(X, codes)}\n", "")
    assert fitted("report S.npy codes.npy --model one")[1] == f"{semid.report(X, codes, quantizer)}\n"
    facts = json.loads(fitted("report S.npy codes.npy --model one --n-neighbors 3 --sample 7 --seed 1 --json")[1])
    assert facts == semid.report(X, codes, quantizer, n_neighbors=3, sample=7, seed=1).to_dict()


def test_several_views(fitted_views, tmp_path):
    run, views = fitted_views, "semantic=S.npy collaborative=C.npy"
    assert run(f"encode two {views} --out codes.npz")[0] == 0
    with np.load(tmp_path / "codes.npz") as codes:
        assert {view: table.shape for view, table in codes.items()} == {"semantic": (60, 2), "collaborative": (60, 2)}
    facts = json.loads(run(f"resolve two {views} --codes codes.npz --out unique.npz --json")[1])
    assert (facts["views"], facts["n_collisions_after"]) == (["semantic", "collaborative"], 0)
    facts = json.loads(run(f"report {views} unique.npz --model two --json")[1])
    assert [facts[view]["n_unique"] for view in ("semantic", "collaborative")] == [60, 60]


def test_any_identifier_is_a_view_name(run, tmp_path):
    run("fit file=S.npy text=C.npy --out two --codebook-size 4")
    assert run("encode two file=S.npy text=C.npy --out codes.npz")[0] == 0
    assert set(np.load(tmp_path / "codes.npz")) == {"file", "text"}


def test_an_equals_sign_in_a_path_is_no_view(run, tmp_path):
    (tmp_path / "S.npy").rename(tmp_path / "a=b.npy")
    assert run("fit ./a=b.npy --out one --codebook-size 4")[0] == 0


def test_what_exists_is_kept_unless_overwrite(fitted, tmp_path):
    (tmp_path / "codes.npy").write_text("mine")
    message = "semid: codes.npy exists: expected a new name, got a file. Choose another name, or pass --overwrite.\n"
    assert fitted("encode one S.npy --out codes.npy") == (1, "", message)
    assert (tmp_path / "codes.npy").read_text() == "mine"
    assert fitted("encode one S.npy --out codes.npy --overwrite")[0] == 0
    assert np.load(tmp_path / "codes.npy").shape == (60, 2)
    assert fitted("fit S.npy --out one") == (1, "", message.replace("codes.npy", "one").replace("a file", "a folder"))
    assert fitted("fit S.npy --out one --codebook-size 4 --overwrite")[0] == 0


def test_overwrite_never_removes_a_folder(fitted, tmp_path):
    (tmp_path / "codes.npy").mkdir()
    (tmp_path / "codes.npy" / "mine").write_text("mine")
    code, _, err = fitted("encode one S.npy --out codes.npy --overwrite")
    assert (code, err) == (
        1, "semid: codes.npy cannot be written: expected a file, got a folder. Choose another name.\n",
    )  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work").write_text("mine")
    assert fitted("fit S.npy --out mine --codebook-size 4 --overwrite")[0] == 1
    assert (tmp_path / "mine" / "work").read_text() == "mine"


@pytest.mark.parametrize("config", [None, "{}", "junk"])
def test_fit_refuses_a_folder_of_others_before_the_work(run, tmp_path, monkeypatch, config):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ("work" if config is None else "config.json")).write_text(config or "mine")
    monkeypatch.setattr(semid.ResidualKMeans, "fit", lambda *_, **__: pytest.fail("fitted in vain"))
    code, out, err = run("fit S.npy --out mine --codebook-size 4 --overwrite")
    assert (code, out) == (1, "")
    assert err == (
        "semid: mine would be overwritten: expected a new, an empty or a saved semid folder, got something else. "
        "Choose another name.\n"
    )


def test_fit_refuses_to_lose_files_beside_a_saved_one_before_the_work(fitted, tmp_path, monkeypatch):
    (tmp_path / "one" / "notes.txt").write_text("mine")
    monkeypatch.setattr(semid.ResidualKMeans, "fit", lambda *_, **__: pytest.fail("fitted in vain"))
    code, out, err = fitted("fit S.npy --out one --codebook-size 4 --overwrite")
    assert (code, out) == (1, "")
    assert err == (
        "semid: one would lose files: expected config.json, model.safetensors and README.md alone, got notes.txt "
        "besides. Move them away, or choose another name.\n"
    )


def test_fit_takes_an_empty_folder(run, tmp_path):
    (tmp_path / "one").mkdir()
    assert run("fit S.npy --out one --codebook-size 4 --overwrite")[0] == 0


def test_a_failed_command_leaves_nothing(fitted, tmp_path):
    before = sorted(tmp_path.iterdir())
    np.save(tmp_path / "bad.npy", np.full((60, 6), np.nan))
    assert fitted("encode one bad.npy --out codes.npy")[0] == 1
    assert fitted("resolve one bad.npy --out codes.npy")[0] == 1
    (tmp_path / "bad.npy").unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_archives_that_cannot_be_read_are_said(run, tmp_path):
    """A header that does not end, a bomb, one that needs a key, a damaged one, one of other files."""
    header = (tmp_path / "S.npy").read_bytes().replace(b"'fortran_order': False, ", b"'fortran_order': False, (", 1)
    (tmp_path / "open.npy").write_bytes(header)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, np.zeros((10**8, 1), np.uint8))
    np.savez_compressed(tmp_path / "whole.npz", a=np.arange(3000).reshape(-1, 3))
    data = bytearray((tmp_path / "whole.npz").read_bytes())
    data[60:70] = bytes(10)
    (tmp_path / "damaged.npz").write_bytes(data)
    data = bytearray((tmp_path / "whole.npz").read_bytes())
    data[6] |= 1  # the flag of an encrypted member, in both of its headers
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.npz").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "others.npz", "w") as archive:
        archive.writestr("readme.txt", "no array")
    for name in ("open.npy", "damaged.npz", "locked.npz", "others.npz"):
        code, out, err = run(f"report S.npy {name}")
        assert (code, out) == (1, "") and f"{name} cannot be read: expected codes as .npy" in err
    code, _, err = run("report S.npy bomb.npz")
    assert code == 1 and re.search(r"bomb.npz is not read: expected codes, got 100,000,128 bytes of a.npy packed", err)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("encode one long.npy --out c.npy", "c.npy"),
        ("trie long-codes.npy --out t.safetensors", "t.safetensors"),
        ("fit long.npy --out three --codebook-size 200", "model.safetensors"),
    ],
)
def test_a_full_disk_is_said_and_leaves_nothing(fitted, tmp_path, line, file):
    """No file may grow over 2,000 bytes, as if there were no more space."""
    np.save(tmp_path / "long.npy", np.random.default_rng(0).standard_normal((4000, 6)))
    np.save(tmp_path / "long-codes.npy", np.random.default_rng(0).integers(0, 256, (4000, 4)))
    before = sorted(tmp_path.rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        code, out, err = fitted(line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, out) == (1, "") and file in err and "cannot be written" in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("encode one no.npy --out c.npy", "expected a .npy file, got no.npy"),
        ("encode no S.npy --out c.npy", "no cannot be loaded: expected a folder with config.json"),
        ("encode one semantic=S.npy --out c.npz", "one needs other embeddings: expected one file, got semantic=FILE."),
        ("report S.npy no.npy", "no.npy cannot be read: expected a file of codes, got no such file. Check the path."),
        (
            "report S.npy junk.npy",
            "junk.npy cannot be read: expected codes as .npy, .npz, .parquet or .safetensors, got ",
        ),
        (
            "report S.npy empty.npy",
            "empty.npy cannot be read: expected codes as .npy, .npz, .parquet or .safetensors, got ",
        ),
        (
            "report S.npy junk.npz",
            "junk.npz cannot be read: expected codes as .npy, .npz, .parquet or .safetensors, got ",
        ),
        (
            "encode trie S.npy --out c.npy",
            "trie holds no quantizer: expected one of KMeans, ProductKMeans, ResidualKMeans, RQVAE, ",
        ),
    ],
)
def test_errors_are_one_line_and_exit_with_1(fitted, tmp_path, line, message):
    (tmp_path / "junk.npy").write_bytes(b"junk")
    (tmp_path / "junk.npz").write_bytes(b"PK\x03\x04junk")
    (tmp_path / "empty.npy").write_bytes(b"")
    write_folder(tmp_path / "trie", class_name="Trie", config={}, arrays={}, card="")
    code, out, err = fitted(line)
    assert (code, out) == (1, "")
    assert err.startswith("semid: ")
    assert message in err
    assert err.count("\n") == 1


def test_codes_of_the_other_kind(fitted_views, tmp_path):
    views, codes = "semantic=S.npy collaborative=C.npy", np.zeros((60, 2), np.uint8)
    np.save(tmp_path / "one.npy", codes)
    np.savez(tmp_path / "two.npz", semantic=codes, collaborative=codes)
    np.savez(tmp_path / "none.npz")
    for line, message in (
        ("report S.npy two.npz", "two.npz does not match the embeddings: expected one table without views, got "
         "views semantic, collaborative. Pass the codes of these embeddings."),
        (f"resolve two {views} --codes one.npy --out u.npz", "one.npy does not match the embeddings: expected views "
         "semantic, collaborative, got one table without views. Pass the codes of these embeddings."),
        (f"resolve two {views} --taken one.npy --out u.npz", "one.npy does not match the embeddings: expected views"),
        ("trie none.npz --out t", "none.npz holds no codes: expected an array per view, got none. Check the path."),
    ):  # fmt: skip
        code, out, err = fitted_views(line)
        assert (code, out) == (1, "") and message in err


def test_embeddings_of_the_other_kind(fitted_views):
    message = "two needs other embeddings: expected semantic=FILE collaborative=FILE, got one file. Pass those."
    assert message in fitted_views("encode two S.npy --out c.npy")[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit --out m", "embeddings are missing: expected one file, or several as VIEW=FILE, got none."),
        ("fit S.npy", "Missing option '--out'"),
        ("fit S.npy --view a=C.npy --out m", "embeddings are ambiguous: expected one file, or several as VIEW=FILE"),
        ("fit --view S.npy --out m", "--view has no name or no file: expected NAME=FILE, got 'S.npy'. Give both."),
        ("fit --view a=S.npy --view a=C.npy --out m", "got a=S.npy a=C.npy. Name each view once."),
        ("fit S.npy C.npy --out m", "embeddings are ambiguous: expected one file, or several as VIEW=FILE"),
        ("fit a=S.npy C.npy --out m", "got a=S.npy C.npy. Name each view once."),
        ("fit a=S.npy a=C.npy --out m", "got a=S.npy a=C.npy. Name each view once."),
        ("fit S.npy --out m --shared 2", "--shared is not an option of residual-kmeans: expected none, got 2."),
        (
            "fit a=S.npy b=C.npy --out m --levels 2",
            "--levels is not an option of shared-specific-kmeans: expected none",
        ),
        (
            "fit S.npy --out m --algorithm shared-specific-kmeans",
            "--algorithm does not fit the embeddings: expected kmeans or residual-kmeans or product-kmeans or rqvae "
            "for one file, got shared-specific-kmeans. Name the views as VIEW=FILE.",
        ),
        (
            "fit --view a=S.npy --out m --algorithm rqvae",
            "expected shared-specific-kmeans or shared-specific-rqvae for views, got rqvae. Give one file without a",
        ),
        ("fit S.npy --out m --algorithm best", "Invalid value for '--algorithm'"),
        ("fit S.npy --out m --rotation opq", "--rotation is not an option of residual-kmeans: expected none, got opq."),
        ("fit S.npy --out m --epochs 3", "got 3. Leave it out, or choose rqvae or shared-specific-rqvae."),
        ("fit S.npy --out m --algorithm kmeans --levels 2", "--levels is not an option of kmeans"),
        ("fit S.npy --out m --codebook-size big", "--codebook-size is not a number: expected one such as 256, one per"),
        ("encode one S.npy --out c.npz", "--out has a wrong ending: expected .npy for one file, got c.npz."),
        ("encode one a=S.npy --out c.npy", "--out has a wrong ending: expected .npz for several views, got c.npy."),
        ("resolve one S.npy --out c.npy --policy best", "Invalid value for '--policy'"),
        ("bench --n-items 60 --levels 1 --codebook-size 64", "--n-items is too large: expected at most half of the 64"),
        ("fit S.npy --out m --seed -1", "Invalid value for '--seed'"),
        ("report S.npy c.npy --seed -1", "Invalid value for '--seed'"),
        ("bench --seed -1", "Invalid value for '--seed'"),
        ("trie --out t", "Missing argument"),
        ("report", "Missing argument"),
        ("report S.npy", "embeddings are missing"),
    ],
)
def test_usage_errors_exit_with_2(run, line, message):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_the_installed_command_is_light_and_needs_no_terminal():
    program = (
        "import sys, semid.cli; sys.argv = ['semid', '--help']\n"
        "try: semid.cli.main()\n"
        "except SystemExit as end: print(end.code, *sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", program], text=True)
    code, *modules = out.splitlines()[-1].split()
    assert code == "0"
    assert not HEAVY & set(modules)


def test_a_process_ends_with_the_code_and_without_a_traceback(tmp_path):
    program = "import sys, semid.cli; sys.argv = ['semid', 'report', 'no.npy', 'no.npy']; semid.cli.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "semid: no.npy cannot be read: expected a file of codes, got no such file. Check the path.\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kmeans --codebook-size 8", lambda: semid.KMeans(8)),
        ("residual-kmeans --levels 2 --codebook-size auto", lambda: semid.ResidualKMeans(2, "auto")),
        ("product-kmeans --levels 2 --codebook-size 8 --seed 2", lambda: semid.ProductKMeans(2, 8, seed=2)),
        ("product-kmeans --codebook-size 4 --rotation opq", lambda: semid.ProductKMeans(4, 4, rotation="opq")),
        (
            "rqvae --levels 2 --codebook-size 8 --epochs 2 --device cpu",
            lambda: semid.RQVAE(2, 8, training=Training(epochs=2, device="cpu")),
        ),
    ],
)
def test_every_quantizer_of_one_file(run, tmp_path, line, expected):
    X = np.load(tmp_path / "S.npy")
    code, out, err = run(f"fit S.npy --out q --algorithm {line}")
    assert (code, err) == (0, "")
    quantizer = expected().fit(X)
    assert out.startswith(f"q: {type(quantizer).__name__} of {' x '.join(map(str, quantizer.codebook_sizes))} codes, ")
    assert run("encode q S.npy --out codes.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), quantizer.encode(X))
    assert run("report S.npy codes.npy --model q")[1] == f"{semid.report(X, quantizer.encode(X), quantizer)}\n"
    assert run("resolve q S.npy --out suffix.npy --policy suffix")[0] == 0
    assert len(np.unique(np.load(tmp_path / "suffix.npy"), axis=0)) == 60


@pytest.mark.parametrize("recipe", ["default", "gensar"])
def test_the_shared_specific_network(run, tmp_path, recipe):
    views = "--view semantic=S.npy --view collaborative=C.npy"
    options = f"--algorithm shared-specific-rqvae --shared 1 --specific 1 --codebook-size 8 --recipe {recipe}"
    assert run(f"fit {views} --out q {options} --epochs 2 --device cpu --checkpoint state")[0] == 0
    assert (tmp_path / "state").is_file()
    quantizer = semid.SharedSpecificRQVAE.from_pretrained(tmp_path / "q")
    assert quantizer.recipe.scaling == RECIPES[recipe].scaling and quantizer.recipe.training.epochs == 2
    assert quantizer.codebook_sizes == (8, 8)
    assert run(f"encode q {views} --out codes.npz")[0] == 0
    assert run(f"resolve q {views} --out unique.npz")[0] == 0
    facts = json.loads(run(f"report {views} unique.npz --model q --json")[1])
    assert facts["semantic"]["n_unique"] == facts["collaborative"]["n_unique"] == 60


def test_one_view_and_views_of_any_name(run, tmp_path):
    assert run("fit --view a/b=S.npy --out one --codebook-size 8")[0] == 0
    assert run("encode one --view a/b=S.npy --out codes.npz")[0] == 0
    with np.load(tmp_path / "codes.npz") as codes:
        assert codes["a/b"].shape == (60, 3)


def test_embeddings_in_a_parquet_column(fitted, tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    X = np.load(tmp_path / "S.npy")
    parquet.write_table(arrow.table({"title": ["x"] * 60, "embedding": list(X)}), tmp_path / "items.parquet")
    assert fitted("encode one items.parquet::embedding --out codes.npy")[0] == 0
    np.testing.assert_array_equal(
        np.load(tmp_path / "codes.npy"), semid.ResidualKMeans.from_pretrained(tmp_path / "one").encode(X)
    )
    assert "neighbor recall" in fitted("report items.parquet::embedding codes.npy --model one")[1]
    code, _, err = fitted("encode one items.parquet::title --out no.npy")
    assert code == 1 and "is not a column of lists: expected lists of numbers in 'title'" in err


def test_published_codes_do_not_move(fitted, tmp_path):
    fitted("resolve one S.npy --out old.npy")
    assert fitted("resolve one C.npy --taken old.npy --out new.npy")[0] == 1  # 120 items, 64 IDs
    rows = np.load(tmp_path / "old.npy")[:3]
    np.save(tmp_path / "few.npy", rows)
    np.save(tmp_path / "T.npy", np.load(tmp_path / "C.npy")[:20])
    assert fitted("resolve one T.npy --taken few.npy --out new.npy")[0] == 0
    new = np.load(tmp_path / "new.npy")
    assert len(np.unique(np.concatenate([rows, new]), axis=0)) == 23


def test_report_against_labels(fitted, tmp_path):
    fitted("encode one S.npy --out codes.npy")
    (tmp_path / "labels.txt").write_text("tea\n茶\n" * 30, encoding="utf-8")
    facts = json.loads(fitted("report S.npy codes.npy --labels labels.txt --json")[1])
    codes = np.load(tmp_path / "codes.npy")
    expected = semid.report(np.load(tmp_path / "S.npy"), codes, labels=["tea", "茶"] * 30).levels[0].prefix_purity
    assert facts["levels"][0]["prefix_purity"] == expected
    # str.splitlines would also end lines at these characters, which labels may hold.
    (tmp_path / "labels.txt").write_text("tea\x0b\u2028\n茶\x85\r\n" * 30, encoding="utf-8")
    assert json.loads(fitted("report S.npy codes.npy --labels labels.txt --json")[1]) == facts
    (tmp_path / "labels.txt").write_text("tea\n茶\n" * 30, encoding="utf-8-sig")  # as Excel and Notepad write it
    assert json.loads(fitted("report S.npy codes.npy --labels labels.txt --json")[1]) == facts
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    code, _, err = fitted("report S.npy codes.npy --labels labels.txt")
    assert code == 1 and "labels.txt cannot be read: expected one label per line in UTF-8, got other bytes" in err


def test_trie(fitted, tmp_path):
    fitted("resolve one S.npy --out unique.npy")
    codes = np.load(tmp_path / "unique.npy")
    facts = json.loads(fitted("trie unique.npy --out t --model one --json")[1])
    loaded = semid.Trie.load(tmp_path / "t")
    assert facts == {"out": "t", "n_items": 60, "codebook_sizes": [8, 8], "nbytes": loaded.nbytes}
    np.testing.assert_array_equal(np.sort(loaded.rank(codes)), np.arange(60))
    assert "t exists: expected a new name" in fitted("trie unique.npy --out t")[2]
    fitted("resolve one S.npy --out long.npy --policy suffix")
    assert fitted("trie long.npy --out t --model one --overwrite")[0] == 0
    assert semid.Trie.load(tmp_path / "t").codebook_sizes[:2] == (8, 8)


def test_a_trie_of_codes_that_collide_says_so(fitted, tmp_path):
    np.save(tmp_path / "codes.npy", np.array([[1, 2], [1, 2], [0, 1]], np.uint8))
    code, out, err = fitted("trie codes.npy --out t")
    assert code == 0 and out.startswith("t: Trie(n_items=2")
    assert err == (
        "semid: warning: 1 of 3 rows repeat another row: the trie has 2 items. Make the codes unique with "
        "semid.resolve.\n"
    )


def test_codes_of_parquet_and_safetensors_files(fitted, tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    codes = np.array([[1, 2], [0, 3], [300, 1]], np.uint16)
    lists, names = arrow.array(codes.tolist()), arrow.array(["x", "y", "z"])
    parquet.write_table(arrow.table({"item": names, "codes": lists}), tmp_path / "lists.parquet")
    parquet.write_table(arrow.table({"codes": lists, "more": lists}), tmp_path / "two.parquet")
    brands = arrow.array(["x", "y", "x"]).dictionary_encode()
    columns = {"item": names, "brand": brands, "level_0": codes[:, 0], "level_1": codes[:, 1]}
    parquet.write_table(arrow.table(columns), tmp_path / "columns.parquet")
    write_tensors(tmp_path / "one.safetensors", {"codes": codes, "items": np.arange(3), "X": np.zeros((3, 4))})
    write_tensors(tmp_path / "views.safetensors", {"a": codes, "b": codes[::-1]})
    expected = semid.Trie.from_codes(codes)
    sources = ("lists.parquet", "two.parquet::more", "columns.parquet", "one.safetensors", "views.safetensors --view b")
    for source in sources:
        assert fitted(f"trie {source} --out t --overwrite")[0] == 0
        assert semid.Trie.load(tmp_path / "t") == expected
    write_tensors(tmp_path / "none.safetensors", {"codes": np.zeros((3, 2), np.float32)})
    parquet.write_table(arrow.table({"item": names}), tmp_path / "none.parquet")
    parquet.write_table(arrow.table({"level_0": arrow.array([1, None])}), tmp_path / "gaps.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    (tmp_path / "codes.txt").write_text("1 2")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for source, message in {
        "none.safetensors": "none.safetensors holds no codes: expected a matrix of integers, got codes.",
        "none.parquet": "holds no codes: expected a column of lists, or one of integers per level, got item.",
        "two.parquet": "needs a column of lists: expected one of 'codes', 'more', got 'no name'.",
        "gaps.parquet": "has a wrong column 'level_0': expected integers without nulls, got int64 with 1 nulls.",
        "junk.parquet": "junk.parquet cannot be read: expected a parquet file, got ",
        "no.parquet::codes": "no.parquet cannot be read: expected a file of codes, got no such file.",
        "codes.txt": "expected codes as .npy, .npz, .parquet or .safetensors, got something else. Check the path.",
        "objects.npy": "expected codes as .npy, .npz, .parquet or .safetensors, got something else. Check the path.",
    }.items():
        code, out, err = fitted(f"trie {source} --out u")
        assert (code, out) == (1, "") and message in err and "pickle" not in err and not (tmp_path / "u").exists()


def test_codes_in_the_table_of_a_catalogue(run, tmp_path):
    pytest.importorskip("pyarrow")
    codes = {"semantic": np.array([[0, 1], [2, 0], [1, 1]]), "look": np.array([[3, 1], [0, 2], [0, 1]])}
    semid.SemanticIds([700, 500, 300], codes["semantic"]).to_parquet(tmp_path / "one.parquet")
    semid.SemanticIds([700, 500, 300], codes).to_parquet(tmp_path / "two.parquet")
    for source, view in (("one.parquet", "semantic"), ("two.parquet --view look", "look")):
        assert run(f"trie {source} --out t --overwrite")[0] == 0
        assert semid.Trie.load(tmp_path / "t") == semid.Trie.from_codes(codes[view])
    code, _, err = run("trie two.parquet --out u")
    assert code == 1 and "--view is missing: expected one of semantic, look, got none." in err


def test_columns_of_codes_are_read_in_the_order_of_their_numbers(run, tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    expected = semid.Trie.from_codes(np.array([[5, 0, 1], [4, 2, 3]]))
    for stem in ("code_", "level"):
        columns = {"price": [9, 8], f"{stem}2": [1, 3], f"{stem}0": [5, 4], f"{stem}1": [0, 2]}
        parquet.write_table(arrow.table(columns), tmp_path / "codes.parquet")
        assert run("trie codes.parquet --out t --overwrite")[0] == 0
        assert semid.Trie.load(tmp_path / "t") == expected
    for columns, message in (
        ({"a": [1, 2], "b": [0, 1]}, "holds no codes: expected a column of lists, or one of integers per level, got a"),
        ({"a_0": [1, 2], "b_0": [0, 1]}, "got a_0, b_0. Name the columns code_0, code_1 and so on."),
        ({"code_0": [1, 2], "code_2": [0, 1]}, "has gaps: expected columns ['code_0', 'code_1'], got ['code_0', "),
        ({"level_1": [1, 2]}, "has gaps: expected columns ['level_0'], got ['level_1']. Number all levels."),
    ):
        parquet.write_table(arrow.table(columns), tmp_path / "codes.parquet")
        code, out, err = run("trie codes.parquet --out u")
        assert (code, out) == (1, "") and message in err and not (tmp_path / "u").exists()


def test_every_command_makes_the_folders_above_its_output(fitted, tmp_path):
    assert fitted("encode one S.npy --out a/b/codes.npy")[0] == 0
    assert fitted("resolve one S.npy --out c/d/codes.npy")[0] == 0
    assert fitted("trie c/d/codes.npy --out e/f/t")[0] == 0
    assert fitted("fit S.npy --out g/h --levels 2 --codebook-size 8")[0] == 0
    assert semid.Trie.load(tmp_path / "e" / "f" / "t").n_items == 60


def test_a_trie_of_one_view_and_of_a_catalogue(run, tmp_path):
    codes = {"a": np.array([[0, 1], [1, 0]]), "b": np.array([[2, 1], [1, 2]])}
    np.savez(tmp_path / "codes.npz", **codes)
    semid.SemanticIds(["x", "y"], codes, codebook_sizes=(4, 4)).save_pretrained(tmp_path / "catalogue")
    for source in ("codes.npz", "catalogue"):
        assert run(f"trie {source} --view b --out t --overwrite")[0] == 0
        np.testing.assert_array_equal(semid.Trie.load(tmp_path / "t").rank(codes["b"]), [1, 0])
    assert semid.Trie.load(tmp_path / "t").codebook_sizes == (4, 4)
    for line, message in (
        ("trie codes.npz --out u", "--view is missing: expected one of a, b, got none. A trie holds the codes of one"),
        ("trie catalogue --out u", "view is missing: expected one of ('a', 'b'), got None. Name one of them."),
        ("trie no.npy --out u", "no.npy cannot be read: expected a file of codes, got no such file. Check the path."),
    ):
        code, out, err = run(line)
        assert (code, out) == (1, "") and message in err and not (tmp_path / "u").exists()
    np.save(tmp_path / "a.npy", codes["a"])
    assert "because a.npy has no views, got b. Leave it out" in run("trie a.npy --view b --out u")[2]
    assert "--model does not apply to a catalogue" in " ".join(
        run("trie catalogue --view b --model m --out u")[2].split()
    )


def test_bench_on_random_codes(run):
    code, out, err = run("bench --n-items 200 --levels 2 --codebook-size 32 --batch 2 --num-beams 5 --rounds 3 --json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert (facts["n_items"], facts["codebook_sizes"], facts["rounds"]) == (200, [32, 32], 3)
    assert facts["bytes_per_item"] > 0 and facts["build_seconds"] > 0
    backends = {name for name, missing in semid.kernels.available().items() if missing is None}
    assert set(facts["search"]) == backends
    for found in facts["search"].values():
        assert 0 < found["lowest_seconds"] <= found["median_seconds"] <= found["highest_seconds"]
    text = run("bench --n-items 200 --levels 2 --codebook-size 32 --rounds 1")[1]
    assert text.startswith("200 items, codebook sizes (32, 32), ") and "a search of 1 x 50 beams" in text


def test_bench_on_codes_and_a_catalogue(run, tmp_path):
    codes = {"a": np.array([[0, 1], [1, 0]]), "b": np.array([[2, 1], [1, 2]])}
    semid.SemanticIds(["x", "y"], codes, codebook_sizes=(4, 4)).save_pretrained(tmp_path / "catalogue")
    np.save(tmp_path / "codes.npy", codes["b"])
    assert json.loads(run("bench codes.npy --rounds 1 --json")[1])["codebook_sizes"] == [3, 3]
    assert json.loads(run("bench catalogue --view a --rounds 1 --json")[1])["codebook_sizes"] == [4, 4]
    assert "view is missing" in run("bench catalogue --rounds 1")[2]


def test_bench_builds_from_memory(tmp_path):
    np.save(tmp_path / "codes.npy", np.array([[2, 1], [1, 2]]))
    semid.SemanticIds(["x"], [[0, 3]], codebook_sizes=(4, 4)).save_pretrained(tmp_path / "catalogue")
    builders = [trie_builder(tmp_path / name, None) for name in ("codes.npy", "catalogue")]
    shutil.rmtree(tmp_path)
    for build, n_items in zip(builders, (2, 1), strict=True):
        first, second = build(), build()
        assert first.n_items == second.n_items == n_items
        assert first is not second


def test_bench_refuses_back_ends_that_disagree(run, monkeypatch):
    if semid.kernels.available()["ext"]:
        pytest.skip("the C extension is not built: there is one back end")
    results = itertools.cycle([np.zeros(3), np.ones(3)])
    monkeypatch.setattr("semid.cli.bench._search", lambda trie, scores: next(results))
    with pytest.raises(RuntimeError, match="back ends ext and numba disagree"):
        CliRunner().invoke(app, ["bench", "--n-items", "20", "--rounds", "1"], catch_exceptions=False)


def test_info(run):
    code, out, err = run("info")
    assert (code, err) == (0, "") and f"semid {semid.__version__}, Python " in out
    assert "back end   state      why" in out and f"numpy         {np.__version__}" in out
    facts = json.loads(run("info --json")[1])
    assert facts["semid"] == semid.__version__ and facts["backend"] in {"ext", "numba"}
    assert facts["packages"]["numpy"] == np.__version__


def test_info_names_what_is_missing(run, monkeypatch):
    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr("semid.cli.report_info.version", missing)
    out = run("info")[1]
    assert "matplotlib    missing: pip install 'semid[plot]'" in out and "numba         missing: pip install num" in out
    assert json.loads(run("info --json")[1])["packages"]["pyarrow"] is None


def test_an_interrupt_exits_with_130_and_leaves_nothing(run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(semid.ResidualKMeans, "fit", interrupted)
    assert run("fit S.npy --out one") == (130, "", "semid: interrupted\n")
    assert not (tmp_path / "one").exists()


def test_an_interrupt_while_the_commands_are_imported(monkeypatch, capsys):
    def interrupted(name, *rest):
        if name == "semid.cli":
            raise KeyboardInterrupt
        return importing(name, *rest)

    importing = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as end:
        main()
    monkeypatch.undo()
    assert end.value.code == 130
    assert capsys.readouterr().err == "semid: interrupted\n"


def test_the_module_runs(tmp_path):
    command = [sys.executable, "-m", "semid", "--version"]
    assert subprocess.check_output(command, text=True, cwd=tmp_path) == f"semid {semid.__version__}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "too few items for level 0: expected at least 256, its codebook_size, got n_samples=60."),
        ("--codebook-size 0", "codebook_size is too small: expected 1 or more, got 0."),
        ("--codebook-size 4,4", "codebook_size has a wrong length: expected one size for each of 3 levels, got 2."),
        ("--codebook-size 4 --levels 0", "n_levels is too small: expected 1 or more, got 0."),
        ("--codebook-size 8 --algorithm rqvae --epochs 0", "epochs is too small: expected 1 or more, got 0."),
    ],
)
def test_parameters_are_checked_by_the_library(run, tmp_path, options, message):
    code, out, err = run(f"fit S.npy --out one {options}")
    assert (code, out) == (1, "") and message in err and err.count("\n") == 1
    assert not (tmp_path / "one").exists()


def test_every_saved_quantizer_encodes(run, tmp_path):
    X = np.load(tmp_path / "S.npy").astype(np.float32)
    for quantizer in (semid.KMeans(8), semid.ProductKMeans(2, 8)):
        name = type(quantizer).__name__
        quantizer.fit(X).save_pretrained(tmp_path / name)
        assert run(f"encode {name} S.npy --out {name}.npy")[0] == 0
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), quantizer.encode(X))
