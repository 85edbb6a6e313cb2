"""``python -m sktwotower``: what it prints, writes and returns."""

import io
import json
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import sktwotower
from sktwotower.__main__ import main
from sktwotower.metrics import ranking_report
from tests.helpers import NAMES, make_model, one_thread, same_embeddings

for package in ("pyarrow", "safetensors", "skops"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def model(data):
    return make_model(**NAMES, user_table=data.user_table).fit(data.interactions[:800])


@pytest.fixture(scope="module")
def files(model, data, tmp_path_factory):
    """A folder with a model and what commands read."""
    folder = tmp_path_factory.mktemp("files")
    model.save(folder / "model")
    data.interactions[:800].to_parquet(folder / "train.parquet")
    data.interactions[800:].assign(liked=1).to_parquet(folder / "test.parquet")
    data.user_table.to_parquet(folder / "users.parquet", row_group_size=25)
    data.user_table.to_csv(folder / "users.csv")
    return folder


@pytest.fixture(autouse=True)
def here(files, monkeypatch):
    monkeypatch.chdir(files)


def configuration(path, **parameters):
    content = {
        "data": "train.parquet",
        "model": str(path.with_suffix("")),
        "parameters": {**NAMES, "embedding_dim": 4, "max_iter": 2, "random_state": 0}
        | parameters,
    }
    path.write_text(json.dumps(content))
    return str(path)


# Train.


def test_train_saves_what_fit_makes(data, tmp_path, capsys):
    config = configuration(
        tmp_path / "m.json",
        user_table="users.parquet",
        history={"PooledHistory": {"size": 3}},
    )
    assert main(["train", config]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"60 users, 40 items, 2 epochs: saved to {tmp_path / 'm'}\n"
    assert "epoch 2/2" in printed.err
    loaded = sktwotower.load(tmp_path / "m")
    model = sktwotower.TwoTowerRecommender(
        **NAMES,
        user_table=data.user_table,
        history=sktwotower.history.PooledHistory(size=3),
        embedding_dim=4,
        max_iter=2,
        random_state=0,
    )
    assert same_embeddings(loaded, model.fit(data.interactions[:800]))


def test_train_is_silent_where_the_parameters_say_so(tmp_path, capsys):
    assert main(["train", configuration(tmp_path / "m.json", verbose=0)]) == 0
    assert capsys.readouterr().err == ""


WRONG_PARAMETERS = {
    "misspelt": ({"embeding_dim": 3}, "Did you mean 'embedding_dim'?"),
    "type": ({"embedding_dim": "big"}, "'embedding_dim' parameter of TwoTowerRecommender"),
    "value": ({"learning_rate": -1}, "'learning_rate' parameter"),
    "column": ({"user_column": "userid"}, "'userid' is not a column of X"),
    "history": ({"history": "pooled"}, "must be None, 'auto' or an object"),
    "table": ({"item_table": "nothing.parquet"}, "nothing.parquet does not exist"),
}


@pytest.mark.parametrize("given, message", WRONG_PARAMETERS.values(), ids=WRONG_PARAMETERS)
def test_wrong_parameters(given, message, tmp_path, capsys):
    assert main(["train", configuration(tmp_path / "m.json", **given)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "m").exists()


def test_a_place_that_is_taken_is_refused_before_the_training(tmp_path, capsys):
    config = configuration(tmp_path / "m.json")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "letter.txt").touch()
    assert main(["train", config]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'm'} is a directory")


# Recommend.


def answers(tmp_path, *options, users="users.parquet"):
    out = tmp_path / "out.parquet"
    assert main(["recommend", "model", users, "--output", str(out), *options]) == 0
    assert [path.name for path in tmp_path.glob("out*")] == ["out.parquet"]
    return pd.read_parquet(out)


def assert_same_frames(found, expected):
    """Scores of another block differ by rounding."""
    pd.testing.assert_frame_equal(found, expected, atol=1e-6, rtol=0)


def test_users_are_answered_block_by_block(data, model, tmp_path, capsys, monkeypatch):
    sizes, recommend = [], type(model).recommend

    def watched(self, X, **options):
        sizes.append(len(X))
        return recommend(self, X, **options)

    monkeypatch.setattr(type(model), "recommend", watched)
    found = answers(tmp_path, "-n", "5", "--batch-size", "7")
    expected = recommend(model, data.user_table, n_recommendations=5, as_frame=True)
    assert_same_frames(found, expected)
    assert sum(sizes) == len(data.user_table)
    assert max(sizes) == 7
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1] == "60 users"


def test_files_are_what_recommend_takes(data, model, tmp_path):
    pd.DataFrame({"item_id": [1, 2, 3, 4, 5, 6]}).to_parquet(tmp_path / "stock.parquet")
    pairs = data.interactions[800:][["user_id", "item_id"]]
    pairs[:50].to_parquet(tmp_path / "shown.parquet")
    pairs[50:].to_parquet(tmp_path / "clicks.parquet")
    given = {"candidates": "stock", "exclude": "shown", "history": "clicks"}
    options = [
        text
        for name, file in given.items()
        for text in (f"--{name}", str(tmp_path / f"{file}.parquet"))
    ]
    found = answers(tmp_path, *options, "--include-seen", "--cold-start", "mean")
    expected = model.recommend(
        data.user_table,
        candidates=[1, 2, 3, 4, 5, 6],
        exclude_interactions=pairs[:50],
        history=pairs[50:],
        exclude_seen=False,
        cold_start="mean",
        as_frame=True,
    )
    assert 60 * 5 < len(expected) < 60 * 6
    assert_same_frames(found, expected)


def test_csv_goes_to_stdout(data, model, capsys):
    command = ["recommend", "model", "users.parquet", "-n", "2", "--batch-size", "25"]
    assert main(command) == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out), dtype={"score": "float32"})
    expected = model.recommend(data.user_table, n_recommendations=2, as_frame=True)
    assert_same_frames(found, expected)


def test_csv_has_whole_numbers_for_float_ids(data, tmp_path, capsys):
    ids = data.interactions[:300].astype({"user_id": float, "item_id": float})
    make_model(**NAMES, max_iter=1).fit(ids).save(tmp_path / "model")
    ids[["user_id"]][:1].to_parquet(tmp_path / "u.parquet")
    paths = [str(tmp_path / name) for name in ("model", "u.parquet")]
    assert main(["recommend", *paths]) == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out))
    kinds = [found[name].dtype.kind for name in found]
    assert kinds == ["i", "i", "f", "i"]
    assert (found["user_id"] == ids["user_id"].iloc[0]).all()


@pytest.mark.parametrize("batch_size", ["1", "2", "3"])
def test_users_without_recommendations_are_left_out(tmp_path, batch_size):
    X = pd.DataFrame(
        [(1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a")], columns=["user", "item"]
    )
    make_model(user_column="user", item_column="item").fit(X).save(tmp_path / "model")
    for users, expected in (([1, 2, 3], [[3, "b"]]), ([1, 2], []), ([], [])):
        pd.DataFrame({"user": users}, dtype="int64").to_parquet(tmp_path / "u.parquet")
        paths = [str(tmp_path / name) for name in ("model", "u.parquet", "out.parquet")]
        paths.insert(2, "--output")
        assert main(["recommend", *paths, "--batch-size", batch_size]) == 0
        found = pd.read_parquet(tmp_path / "out.parquet")
        assert found[["user", "item"]].to_numpy().tolist() == expected
        assert found.columns.tolist() == ["user", "item", "score", "rank"]


def test_a_failure_leaves_the_answers_of_before(tmp_path, capsys):
    before = answers(tmp_path)
    users = pd.DataFrame({"user_id": [1.0, 2.0, np.nan]})
    users.to_parquet(tmp_path / "users.parquet", row_group_size=1)
    out = str(tmp_path / "out.parquet")
    command = ["recommend", "model", str(tmp_path / "users.parquet"), "--output", out]
    assert main(command) == 2
    assert "missing user id" in capsys.readouterr().err
    pd.testing.assert_frame_equal(pd.read_parquet(out), before)
    assert len(list(tmp_path.iterdir())) == 2


# Evaluate.


def test_evaluate_prints_a_report(data, model, capsys):
    expected = ranking_report(
        model, data.interactions[800:], metrics=["ndcg@5", "gini"], random_state=0
    )
    command = ["evaluate", "model", "test.parquet", "--metrics", "ndcg@5", "gini"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == expected.columns.tolist()
    assert lines[1].split()[:3] == ["all", "ndcg@5", f"{expected['mean'][0]:.4f}"]
    assert main([*command, "--json", "--y", "liked"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[1]["low"] is None  # gini is no mean over users
    pd.testing.assert_frame_equal(
        pd.DataFrame(found).astype({"low": float, "high": float}), expected
    )


def test_evaluate_passes_options_on(data, model, capsys):
    expected = ranking_report(
        model,
        data.interactions[800:],
        by="activity",
        exclude_seen=False,
        random_state=0,
    )
    options = ["--by", "activity", "--include-seen", "--json"]
    assert main(["evaluate", "model", "test.parquet", *options]) == 0
    found = pd.DataFrame(json.loads(capsys.readouterr().out))
    pd.testing.assert_frame_equal(found, expected)


def test_messages_name_options(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside pytest
        assert main(["evaluate", "model", "train.parquet", "--metrics", "hit_rate@1"]) == 0
        some = pd.read_parquet("train.parquet")[:20]
        pd.concat([some, pd.read_parquet("test.parquet")]).to_parquet("both.parquet")
        assert main(["evaluate", "model", "both.parquet", "--metrics", "hit_rate@1"]) == 0
    said = capsys.readouterr().err
    assert said.count("To evaluate repeat purchases, set --include-seen.") == 1
    assert "exclude_seen" not in said


# What goes wrong.

WRONG = {
    "no model": ("recommend nothing users.parquet", "There is no artefact at nothing"),
    "no users": (
        "recommend model nothing.parquet",
        "users: nothing.parquet does not",
    ),
    "no Parquet": ("recommend model model/manifest.json", "cannot be read as Parquet"),
    "users in CSV": (
        "recommend model users.csv",
        "users.csv cannot be read as Parquet; ",
    ),
    "rows in CSV": ("evaluate model users.csv", "pandas.read_csv(...).to_parquet(...)"),
    "no column": ("recommend model users.parquet --history users.parquet", "history"),
    "count": ("recommend model users.parquet -n 0", "error: -n must be an integer"),
    "block": ("recommend model users.parquet --batch-size 0", "--batch-size must be at"),
    "word": ("recommend model users.parquet --cold-start new", "error: --cold-start 'new'"),
    "no data": ("evaluate model nothing.parquet", "data: nothing.parquet does not exist"),
    "metric": ("evaluate model test.parquet --metrics ndgc@3", "did you mean 'ndcg@3'?"),
    "y": ("evaluate model test.parquet --y like", "--y like is not a column"),
    "by": ("evaluate model test.parquet --by age", "error: --by 'age'"),
}


@pytest.mark.parametrize("command, message", WRONG.values(), ids=WRONG)
def test_wrong_input(command, message, capsys):
    assert main(command.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert message in printed.err


@pytest.mark.parametrize("command", ["", "trains c.json", "train", "recommend m u -n many"])
def test_wrong_arguments(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main(command.split())
    assert exit.value.code == 2
    assert "usage: python -m sktwotower" in capsys.readouterr().err


def test_a_folder_that_is_not_there(tmp_path, capsys):
    out = str(tmp_path / "no" / "out.parquet")
    assert main(["recommend", "model", "users.parquet", "--output", out]) == 2
    assert "error: [Errno 2] Failed to open local file" in capsys.readouterr().err


def test_other_failures(tmp_path, monkeypatch, capsys):
    def full(self, path):
        raise OSError(28, "No space left on device")

    config = configuration(tmp_path / "m.json")
    monkeypatch.setattr(sktwotower.TwoTowerRecommender, "save", full)
    assert main(["train", config]) == 1
    assert capsys.readouterr().err.endswith("error: [Errno 28] No space left on device\n")
    monkeypatch.setitem(sys.modules, "skops", None)
    assert main(["train", config]) == 1
    assert "pip install 'sktwotower[save]'" in capsys.readouterr().err


def test_warnings_are_a_line_each(capsys, tmp_path):
    pd.DataFrame({"item_id": [1, 999]}).to_parquet(tmp_path / "stock.parquet")
    command = ["recommend", "model", "users.parquet"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside pytest
        assert main([*command, "--candidates", str(tmp_path / "stock.parquet")]) == 0
    (line,) = (x for x in capsys.readouterr().err.splitlines() if "warning" in x)
    assert line == "warning: 1 of 2 candidates are not known items and are left out."


# In a process of its own.


def test_help_does_not_wait_for_torch():
    program = (
        "import sys\nfrom sktwotower.__main__ import main\n"
        "try: main(['train', '--help'])\n"
        "finally: assert not {'torch', 'sklearn', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=one_thread(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "history: {TransformerHistory: {size: 50}}" in done.stdout


@pytest.mark.slow
def test_the_module_runs_and_survives_head(tmp_path):
    command = [sys.executable, "-m", "sktwotower", "recommend", "model", "users.parquet"]
    process = subprocess.Popen(
        [*command, "--batch-size", "1"],
        env=one_thread(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "user_id,item_id,score,rank\n"
    process.stdout.close()
    assert process.wait(60) == 1
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
