"""The examples that serve a saved model do what they say."""

import asyncio
import contextlib
import decimal
import json
import re
import threading
import time
import uuid
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks import service
from tests.helpers import NAMES, example, make_model

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


# A web service.


@contextlib.contextmanager
def served(artefact, **settings):
    """The app, and the URL at which it is served over loopback, when it has a model."""
    for package in ("fastapi", "httpx", "prometheus_client"):
        pytest.importorskip(package)
    uvicorn = pytest.importorskip("uvicorn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL", str(artefact))
        app = example("app")
    vars(app).update({"LOOK_SECONDS": 0.05} | settings)
    config = uvicorn.Config(app.app, host="127.0.0.1", port=0, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield app, f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def wait_until(done):
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(url, method="get", **options):
    httpx = pytest.importorskip("httpx")
    return httpx.request(method, url, trust_env=False, **options)  # not through a proxy


def recommend(url, *users, **options):
    body = {"users": [{"id": u} if not isinstance(u, dict) else u for u in users]}
    return ask(f"{url}/recommend", "post", json=body | options)


def items(response, number=0):
    assert response.status_code == 200
    return [pair["item"] for pair in response.json()["users"][number]["items"]]


def metric(url, line):
    """The value of a line of /metrics; 0 where it is not there."""
    found = re.search(
        rf"^recommender_{re.escape(line)} (.*)$", ask(f"{url}/metrics").text, re.M
    )
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def url(artefact):
    with served(artefact) as (_, url):
        wait_until(lambda: ask(f"{url}/ready").status_code == 200)
        yield url


def test_the_app_recommends(model, url):
    response = recommend(url, 7, "8", n=5)
    ids, scores = model.recommend([7, 8], n_recommendations=5)
    for number, user in enumerate([7, "8"]):
        answer = response.json()["users"][number]
        assert (answer["user"], answer["is_known"]) == (user, True)
        assert items(response, number) == ids[number].tolist()
        found = [pair["score"] for pair in answer["items"]]
        assert found == pytest.approx(scores[number].tolist())
    assert response.json()["n_unknown_items"] == 0


def test_the_app_answers_unknown_users_without_padding(model, url):
    response = recommend(url, "nobody", n=100)
    assert not response.json()["users"][0]["is_known"]
    ids, _ = model.recommend(["nobody"], n_recommendations=40)
    assert items(response) == ids[0].tolist()


def test_the_app_takes_candidates_exclusions_and_histories(model, url):
    some = model.item_ids_[:20].tolist()
    users = [
        {"id": 7, "exclude": [*some[:2], "new"]},
        {"id": "nobody", "history": some[2:5]},
    ]
    response = recommend(url, *users, candidates=[*some, -1], exclude_seen=False)
    ids, scores = model.recommend(
        [7, "nobody"],
        candidates=some,
        exclude_interactions={7: some[:2]},
        history={"nobody": some[2:5]},
        exclude_seen=False,
    )
    assert response.json()["n_unknown_items"] == 2
    for number in range(2):
        assert items(response, number) == ids[number].tolist()
        found = [pair["score"] for pair in response.json()["users"][number]["items"]]
        assert found == pytest.approx(scores[number].tolist())
    assert items(recommend(url, 7, candidates=[-1])) == []


def test_the_app_finds_similar_items(model, url):
    item = model.item_ids_[3].item()
    answer = ask(f"{url}/similar", params={"item": item}).json()
    ids, _ = model.similar_items([item])
    assert [pair["item"] for pair in answer["items"]] == ids[0].tolist()
    response = ask(f"{url}/similar", params={"item": "nothing"})
    assert response.status_code == 404
    assert response.json() == {"detail": "There is no such item."}


REFUSED = {
    "a thousand times the catalogue": ([1], {"n": 40_000}, "less than or equal to 100"),
    "nothing": ([1], {"n": 0}, "greater than or equal to 1"),
    "many users": (range(101), {}, "at most 100 items"),
    "no user": ([], {}, "at least 1 item"),
    "many candidates": ([1], {"candidates": [1] * 1001}, "at most 1000 items"),
    "a long history": ([{"id": 1, "history": [1] * 1001}], {}, "at most 1000 items"),
    "a user twice": ([1, "1"], {}, "a user is there twice"),
    "another key": ([1], {"k": 3}, "Extra inputs are not permitted"),
    "another key of a user": ([{"id": 1, "age": 3}], {}, "Extra inputs"),
    "no id": ([None], {}, "should be a valid"),
    "no flag": ([1], {"exclude_seen": "maybe"}, "valid boolean"),
}


@pytest.mark.parametrize("users, options, message", REFUSED.values(), ids=REFUSED)
def test_the_app_refuses_what_is_too_much_or_wrong(url, users, options, message):
    response = recommend(url, *users, **options)
    assert response.status_code == 422
    assert any(message in one["msg"] for one in response.json()["detail"])


BODIES = {
    "large": (b" " * 1_000_001, 413),
    "no JSON": (b'{"users"', 422),
    "no text": (b'{"\xff"', 400),
    "a huge number": (b'{"users": [{"id": ' + b"9" * 5000 + b"}]}", 400),
    "a long number": (b'{"users": [{"id": ' + b"9" * 4000 + b"}]}", 200),
    "deep": (b"[" * 100_000, 400),
    "no number": (b'{"users": [{"id": NaN}]}', 422),
    "half a character": (b'{"users": [{"id": "\\ud800"}], "\\ud800": 0}', 422),
}


@pytest.mark.parametrize("body, status", BODIES.values(), ids=BODIES)
def test_the_app_takes_any_body(url, body, status):
    headers = {"content-type": "application/json"}
    for content in (body, iter([body[:10], body[10:]])):  # with its length, and without
        response = ask(f"{url}/recommend", "post", content=content, headers=headers)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/json"
        response.json()


def test_the_app_refuses_requests_beyond_its_limit(artefact):
    with served(artefact, MAX_REQUESTS=2) as (app, url):
        wait_until(lambda: ask(f"{url}/ready").status_code == 200)
        go, there = threading.Event(), threading.Semaphore(0)

        def slow(self, request):
            there.release()
            go.wait(60)
            return original(self, request)

        original, app.Service.recommend = app.Service.recommend, slow
        with ThreadPoolExecutor(2) as threads:
            waiting = [threads.submit(recommend, url, user) for user in (1, 2)]
            wait_until(lambda: metric(url, "waiting") == 2)
            response = recommend(url, 3)
            assert response.status_code == 503
            assert response.json() == {"detail": "Too many requests; try again."}
            assert response.headers["retry-after"] == "1"
            assert ask(f"{url}/health").json() == {"status": "ok"}
            go.set()
            assert [one.result().status_code for one in waiting] == [200, 200]
        assert there.acquire(timeout=60)
        assert metric(url, "waiting") == 0
        assert metric(url, 'requests_total{endpoint="/recommend",status="200"}') == 2
        assert metric(url, 'requests_total{endpoint="/recommend",status="503"}') == 1
        assert metric(url, 'seconds_count{endpoint="/recommend"}') == 3
        ask(f"{url}/{uuid.uuid4()}")
        assert metric(url, 'requests_total{endpoint="other",status="404"}') == 1


@pytest.mark.slow
def test_the_app_follows_the_models_that_are_saved(data, model, tmp_path):
    def state():
        return ask(f"{url}/ready")

    with served(tmp_path, RETRY_SECONDS=0.2) as (_, url):
        wait_until(lambda: state().json()["error"])
        assert state().status_code == 503
        assert "is not an artefact" in state().json()["error"]
        assert recommend(url, 7).json() == {"detail": "There is no model yet."}
        assert ask(f"{url}/health").status_code == 200

        model.save(tmp_path)
        wait_until(lambda: state().status_code == 200)
        before, saved = items(recommend(url, 7)), state().json()["saved"]
        assert state().json()["error"] is None
        assert metric(url, "model_saved_timestamp") == pytest.approx(
            (tmp_path / "manifest.json").stat().st_mtime, abs=0.01
        )

        manifest = tmp_path / "manifest.json"
        content = manifest.read_bytes()
        manifest.write_text("{")
        wait_until(lambda: state().json()["error"])
        assert (state().status_code, state().json()["saved"]) == (200, saved)
        assert items(recommend(url, 7)) == before  # the old model goes on
        assert metric(url, 'model_loads_total{result="loaded"}') == 1
        n_failed = metric(url, 'model_loads_total{result="failed"}')
        assert n_failed >= 2
        wait_until(lambda: metric(url, 'model_loads_total{result="failed"}') > n_failed)

        manifest.write_bytes(content)
        other = data.interactions.assign(item_id=data.interactions["item_id"] + 1000)
        make_model(**NAMES).fit(other).save(tmp_path)
        wait_until(lambda: state().json()["error"] is None)
        wait_until(lambda: min(items(recommend(url, 7))) >= 1000)
        assert state().json()["saved"] > saved


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


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A client of the app without a server, for the model in ``tmp_path``."""
    testing = pytest.importorskip("fastapi.testclient")
    pytest.importorskip("prometheus_client")
    monkeypatch.setenv("MODEL", str(tmp_path))
    app = example("app")

    def make():
        app.latest.service = app.Service()
        return testing.TestClient(app.app)

    return make


@pytest.mark.parametrize("column", ["float64", "float32", "int64"])
def test_the_app_does_not_tell_17_from_17_point_0(tmp_path, client, column):
    rows = pd.DataFrame({"user": [17, 17, 5, 5, 6], "item": [20, 30, 20, 40, 30]})
    model = make_model().fit(rows.astype(column))
    model.save(tmp_path)
    client = client()

    def answer(**body):
        return client.post("/recommend", json=body).json()

    for user, one, other in ((17, 20, 40), (17.0, 20.0, 40.0), ("17", "20", "40")):
        lists = {"history": [other], "exclude": [one]}
        found = answer(users=[{"id": user}])["users"][0]
        assert found["is_known"] and str(found["user"]) == str(user)
        assert json.dumps([pair["item"] for pair in found["items"]]) == "[40]"
        found = answer(users=[{"id": user, **lists}], candidates=[one, other, 30])
        assert found["n_unknown_items"] == 0
        similar = client.get("/similar", params={"item": int(one)}).json()["items"]
        assert sorted(json.dumps(pair["item"]) for pair in similar) == ["30", "40"]
    for user in (17.0, "17"):
        response = client.post("/recommend", json={"users": [{"id": 17}, {"id": user}]})
        assert response.status_code == 422
        assert "a user is there twice" in response.text
    assert not answer(users=[{"id": 17.5}])["users"][0]["is_known"]
    if column != "int64":  # as a file of answers has it
        assert answer(users=[{"id": "17.0"}])["users"][0]["is_known"]
        assert client.get("/similar", params={"item": "20.0"}).status_code == 200


def test_the_app_keeps_texts_apart(tmp_path, client):
    rows = pd.DataFrame({"user": ["1", "1.0", "1.0"], "item": ["a", "a", "b"]})
    make_model().fit(rows).save(tmp_path)
    body = {"users": [{"id": "1"}, {"id": "1.0"}], "candidates": ["a", "b"]}
    users = client().post("/recommend", json=body).json()["users"]
    assert [len(user["items"]) for user in users] == [1, 0]


@pytest.mark.parametrize("kind", ODD_IDS)
def test_the_app_takes_the_ids_that_it_answers(tmp_path, client, kind):
    ids = pd.Series(ODD_IDS[kind])
    rows = {"user": ids.iloc[[0, 1, 2, 0]].array, "item": ids.iloc[[1, 2, 0, 0]].array}
    model = make_model().fit(pd.DataFrame(rows))
    model.save(tmp_path)
    client = client()

    def found(**user):
        body = {"users": [user], "exclude_seen": False}
        response = client.post("/recommend", json=body)
        assert response.json()["n_unknown_items"] == 0
        return response.json()["users"][0]

    n_asked = 0
    for pair in found(id="nobody")["items"]:
        item = json.loads(json.dumps(pair["item"]))  # as it is, an item and a user
        answer = client.get("/similar", params={"item": item})
        assert answer.status_code == 200
        assert all(other["item"] != item for other in answer.json()["items"])
        assert found(id=item, history=[item])["is_known"]
        left = found(id=item, exclude=[item])["items"]
        assert len(left) == len(model.item_ids_) - 1
        assert item not in [other["item"] for other in left]
        n_asked += 1
    assert n_asked == len(model.item_ids_)


@pytest.mark.slow
def test_the_app_answers_many_at_once(model, url):
    users = model.user_ids_.tolist()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda user: recommend(url, user), users))
    ids, _ = model.recommend(users)
    for answer, expected in zip(answers, ids, strict=True):
        assert items(answer) == [item for item in expected.tolist() if item is not None]


@pytest.mark.slow
def test_no_request_is_lost_while_models_are_replaced(data, model, tmp_path):
    model.save(tmp_path)
    others = [
        make_model(**NAMES, random_state=seed).fit(data.interactions) for seed in (1, 2)
    ]
    savers = [partial(other.save, tmp_path) for other in others]
    with served(tmp_path) as (_, url):
        wait_until(lambda: ask(f"{url}/ready").status_code == 200)
        requests = service.mixed_requests(model, 200)
        load = service.Load(int(url.rpartition(":")[2]), requests)
        asyncio.run(service.under_load(load, 20, 1.5, savers))
        wait_until(lambda: metric(url, 'model_loads_total{result="loaded"}') == 3)
        last = items(recommend(url, 7))
    assert set(load.statuses) == {200}
    assert load.statuses.total() == len(load.seconds) > 20
    assert last == others[1].recommend([7])[0][0].tolist()


# Ids that a fuzzer comes upon.
USERS = ["", "0", "1", "-1", "a", "false", "null", "00"]
PAIRS = [[user, item] for user in USERS for item in USERS if user != item]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_any_request_is_answered_as_the_schema_says(mode, tmp_path, client):
    reason = "schemathesis is in the extra fuzz, and needs later versions than the oldest"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        schemathesis = pytest.importorskip("schemathesis", reason=reason)
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi import checks as openapi

    checks = [
        not_a_server_error,
        openapi.status_code_conformance,
        openapi.content_type_conformance,
        openapi.response_schema_conformance,
    ]

    def statuses(operation):
        counts = Counter()

        @settings(max_examples=10, derandomize=True, suppress_health_check=HealthCheck)
        @given(case=operation.as_strategy(schemathesis.GenerationMode(mode)))
        def answers(case):
            response = case.call()
            counts[response.status_code] += 1
            case.validate_response(response, checks=checks)

        answers()
        return counts

    make_model().fit(PAIRS).save(tmp_path)
    schema = schemathesis.openapi.from_asgi("/openapi.json", client().app)
    operations = [result.ok() for result in schema.get_all_operations()]
    if mode == "negative":  # the others have nothing that could be wrong
        operations = [one for one in operations if one.body or one.query]
    found = {operation.path: statuses(operation) for operation in operations}
    assert len(found) == {"positive": 5, "negative": 2}[mode]
    assert found["/recommend"][{"positive": 200, "negative": 422}[mode]]
