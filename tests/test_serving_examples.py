"""The examples that serve a saved model do what they say."""

import decimal
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from tests.helpers import NAMES, example, make_model, run_example

# Users of a service are texts, also where the model has integers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:1 of 1 user ids of X are not known"),
    pytest.mark.filterwarnings("ignore:The 'app' shortcut:DeprecationWarning"),  # httpx
]

for package in ("pyarrow", "safetensors", "skops"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def model(data):
    return make_model(**NAMES, user_table=data.user_table).fit(data.interactions)


@pytest.fixture(scope="module")
def artefact(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("artefact")
    model.save(path)
    return path


# A batch of users.


def test_a_file_of_users_is_answered_batch_by_batch(data, model, tmp_path, monkeypatch):
    script = example("recommend_batch")
    users = data.user_table.rename(columns={"user_num_1": "other"})
    users.to_parquet(tmp_path / "users.parquet", row_group_size=25)
    sizes, recommend = [], type(model).recommend

    def watched(self, X, **options):
        sizes.append(len(X))
        return recommend(self, X, **options)

    monkeypatch.setattr(type(model), "recommend", watched)
    script.recommend_batches(
        model, tmp_path / "users.parquet", tmp_path / "out.parquet", n=5, batch_size=7
    )
    assert sum(sizes) == len(users)
    assert max(sizes) == 7
    found = pd.read_parquet(tmp_path / "out.parquet")
    expected = recommend(model, users, n_recommendations=5, as_frame=True)
    pd.testing.assert_frame_equal(
        found.drop(columns="score"), expected.drop(columns="score")
    )
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-6)


def test_the_batch_script_runs(data, model, artefact, tmp_path, monkeypatch):
    users = data.user_table[["user_id"]]
    users.to_parquet(tmp_path / "users.parquet")
    out = tmp_path / "out.parquet"
    paths = [artefact, tmp_path / "users.parquet", out]
    run_example(monkeypatch, "recommend_batch", *paths, "-n", "3", "--batch-size", "32")
    expected = model.recommend(users, n_recommendations=3, as_frame=True)
    pd.testing.assert_frame_equal(pd.read_parquet(out), expected)


def test_users_without_recommendations_are_left_out(tmp_path):
    script = example("recommend_batch")
    X = pd.DataFrame(
        [(1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a")], columns=["user", "item"]
    )
    model = make_model().fit(X)
    users = tmp_path / "users.parquet"
    for batch_size in (1, 2, 3):
        pd.DataFrame({"user": [1, 2, 3]}).to_parquet(users)
        out = tmp_path / "out.parquet"
        script.recommend_batches(model, users, out, batch_size=batch_size)
        assert pd.read_parquet(out)[["user", "item"]].to_numpy().tolist() == [[3, "b"]]


# A web service.


@pytest.fixture(scope="module")
def url(artefact):
    """Of the app, served over loopback."""
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("httpx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL", str(artefact))
        app = example("app").app
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline
        assert thread.is_alive()
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    yield f"http://{host}:{port}"
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


def get(url, **query):
    httpx = pytest.importorskip("httpx")
    return httpx.get(url, params=query, trust_env=False)  # not through a proxy


def test_the_app_recommends(model, url):
    response = get(f"{url}/recommend", user=7, n=5)
    assert response.status_code == 200
    ids, scores = model.recommend([7], n_recommendations=5)
    answer = response.json()
    assert answer["is_known"]
    assert [pair["item"] for pair in answer["items"]] == ids[0].tolist()
    assert [pair["score"] for pair in answer["items"]] == pytest.approx(scores[0].tolist())


def test_the_app_answers_unknown_users_without_padding(model, url):
    answer = get(f"{url}/recommend", user="nobody", n=100).json()
    assert not answer["is_known"]
    ids, _ = model.recommend(["nobody"], n_recommendations=40)
    assert [pair["item"] for pair in answer["items"]] == ids[0].tolist()


def test_the_app_finds_similar_items(model, url):
    item = model.item_ids_[3].item()
    answer = get(f"{url}/similar", item=item).json()
    ids, _ = model.similar_items([item])
    assert [pair["item"] for pair in answer["items"]] == ids[0].tolist()


def test_the_app_refuses_in_a_sentence(url):
    response = get(f"{url}/similar", item="nothing")
    assert response.status_code == 404
    assert response.json() == {"detail": "There is no item 'nothing'."}
    for n in (0, 101, "many"):
        assert get(f"{url}/recommend", user=7, n=n).status_code == 422
    assert get(f"{url}/recommend").status_code == 422


@pytest.mark.slow
def test_the_app_answers_from_a_model_that_is_saved(data, model, artefact, url):
    def items():
        return [pair["item"] for pair in get(f"{url}/recommend", user=7).json()["items"]]

    other = data.interactions.assign(item_id=data.interactions["item_id"] + 1000)
    before = items()
    manifest = (artefact / "manifest.json").read_bytes()
    (artefact / "manifest.json").write_text("{")  # no model: the old one goes on
    time.sleep(2.5)
    assert items() == before
    (artefact / "manifest.json").write_bytes(manifest)
    try:
        make_model(**NAMES).fit(other).save(artefact)
        deadline = time.monotonic() + 30
        while items() == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert min(items()) >= 1000
    finally:
        model.save(artefact)
        while items() != before:
            assert time.monotonic() < deadline + 30
            time.sleep(0.05)


ODD_IDS = {
    "datetime": pd.to_datetime(["2020", "2021", "2022"]),
    "zone": pd.date_range("2020", periods=3, tz="Europe/Berlin"),
    "uuid": [uuid.UUID(int=number) for number in range(3)],
    "bytes": [b"a", b"\xff", b"c"],
    "decimal": [decimal.Decimal("1.50"), decimal.Decimal(3), decimal.Decimal(2)],
    "tuple": [("a", 1), ("b", 2), ("c", None)],
    "bool": [True, False, True],
    "uint64": np.array([1, 2**63 + 1, 2**64 - 1], dtype="u8"),
    "float": [1.5, -2.5, 1e15],
}


@pytest.mark.parametrize("kind", ODD_IDS)
def test_the_app_takes_the_ids_that_it_answers(tmp_path, monkeypatch, kind):
    testing = pytest.importorskip("fastapi.testclient")
    ids = pd.Series(ODD_IDS[kind])
    rows = {"user": ids.iloc[[0, 1, 2, 0]].array, "item": ids.iloc[[1, 2, 0, 0]].array}
    model = make_model().fit(pd.DataFrame(rows))
    model.save(tmp_path)
    monkeypatch.setenv("MODEL", str(tmp_path))
    client = testing.TestClient(example("app").app)
    n_asked = 0
    for item in client.get("/recommend", params={"user": "nobody"}).json()["items"]:
        query = json.loads(json.dumps(item["item"]))  # as it is, an item and a user
        answer = client.get("/similar", params={"item": query})
        assert answer.status_code == 200
        assert all(pair["item"] != query for pair in answer.json()["items"])
        assert client.get("/recommend", params={"user": query}).json()["is_known"]
        n_asked += 1
    assert n_asked == len(model.item_ids_)


@pytest.mark.slow
def test_the_app_answers_many_at_once(model, url):
    users = model.user_ids_.tolist()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda user: get(f"{url}/recommend", user=user), users))
    ids, _ = model.recommend(users)
    for answer, expected in zip(answers, ids, strict=True):
        items = [pair["item"] for pair in answer.json()["items"]]
        assert items == [item for item in expected.tolist() if item is not None]
