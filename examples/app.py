"""A web service around a saved model, which it loads again when another one is saved.

    MODEL=directory uvicorn --app-dir examples app:app
    curl --json '{"users": [{"id": 1}]}' localhost:8000/recommend

It needs ``pip install 'sktwotower[save]' fastapi uvicorn prometheus-client``. Clients find
what it takes and answers under ``/docs``.
"""

import asyncio
import datetime as dt
import logging
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import prometheus_client as prometheus
from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

import sktwotower

PATH = Path(os.environ["MODEL"]).expanduser()
LOOK_SECONDS = 1.0  # between two looks at the manifest
RETRY_SECONDS = 60.0  # until a model that could not be loaded is tried again

# One request with more than this is refused: 413 for the bytes, 422 for the others.
MAX_BYTES = 1_000_000
MAX_USERS = 100
MAX_ITEMS = 1_000  # of each list
MAX_RECOMMENDATIONS = 100
# Of more requests at a time the last ones are refused: 503.
MAX_REQUESTS = int(os.environ.get("MAX_REQUESTS", "256"))
THREADS = os.cpu_count() or 1  # that answer them

log = logging.getLogger("uvicorn.error")
# The answers say which users are not known.
warnings.filterwarnings("ignore", ".* user ids of X are not known users")


# --- What clients send and get. JSON has numbers and texts; other ids are texts in it.


def text(value):
    """An id as a client writes it."""
    if isinstance(value, np.datetime64 | dt.datetime):
        value = pd.Timestamp(value).isoformat()
    return str(value).encode("utf-8", "backslashreplace").decode()


def plain(value):
    """An id in JSON: a number, of which 17.0 is 17 for many clients, or its text."""
    if isinstance(value, np.integer | np.floating):
        value = value.item()
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) in (int, float) else text(value)


def texts(value):
    """The texts that an id may have: 17.0 also has that of 17."""
    return text(value), text(plain(value))


def spelling(value, known):
    """The text by which an id is known; its own if it is not."""
    return next((name for name in texts(value) if name in known), text(value))


Id = (
    Annotated[int, Field(strict=True)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | Annotated[str, Field(max_length=1_000)]
)
Items = Annotated[list[Id], Field(max_length=MAX_ITEMS)]
Count = Annotated[int, Field(ge=1, le=MAX_RECOMMENDATIONS)]


class Strict(BaseModel):
    """A message in which other keys are refused."""

    model_config = ConfigDict(extra="forbid")


class User(Strict):
    """A user who is asked about."""

    id: Id
    history: Items = Field([], description="items since the training, the latest last")
    exclude: Items = Field([], description="items to leave out")


class Request(Strict):
    """What is asked."""

    users: Annotated[list[User], Field(min_length=1, max_length=MAX_USERS)]
    n: Count = 10
    candidates: Items | None = Field(None, description="items to choose from; null: all")
    exclude_seen: bool = True


class Scored(BaseModel):
    """An item that was found."""

    item: Id
    score: float


class Found(BaseModel):
    """What was found for a user, or for an item, best first."""

    items: list[Scored]


class FoundForUser(Found):
    """What was found for a user."""

    user: Id
    is_known: bool


class Answer(BaseModel):
    """What was found for each user, in the order of the request."""

    users: list[FoundForUser]
    n_unknown_items: int = Field(description="items of the request that the model lacks")


class State(BaseModel):
    """What answers, and why not the latest model."""

    saved: dt.datetime | None
    error: str | None


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


# --- The model.


def last_saved():
    """What changes whenever a model is saved, which makes a new manifest; None: none."""
    try:
        manifest = (PATH / "manifest.json").stat()
    except OSError:
        return None
    return manifest.st_mtime, manifest.st_ino


def scored(ids, scores):
    """Items and scores of one query, without padding."""
    pairs = zip(ids, scores.tolist(), strict=True)
    return [Scored(item=plain(i), score=score) for i, score in pairs if score > -np.inf]


class Service:
    """One version of the model, and its ids by their texts."""

    def __init__(self):
        self.saved = dt.datetime.fromtimestamp((last_saved() or (0,))[0], dt.UTC)
        self.model = sktwotower.load(PATH)
        self.users, self.items = (
            {name: value for value in ids for name in texts(value)}
            for ids in (self.model.user_ids_, self.model.item_ids_)
        )

    def known(self, items):
        """Those of the items that the model has, as their ids."""
        names = (spelling(item, self.items) for item in items)
        return [self.items[name] for name in names if name in self.items]

    def recommend(self, request):
        """Items for users; unknown users get the items of the unknown user."""
        names = [spelling(user.id, self.users) for user in request.users]
        users = [self.users.get(name, name) for name in names]
        if len(set(users)) < len(users):  # which history would it be?
            twice = {"loc": ("body", "users"), "msg": "a user is there twice"}
            raise RequestValidationError([{**twice, "type": "value_error"}])
        candidates = request.candidates
        lists = [*([] if candidates is None else [candidates])]
        by_user = {}
        for which in ("history", "exclude"):
            given = [getattr(user, which) for user in request.users]
            lists += given
            pairs = zip(users, map(self.known, given), strict=True)
            by_user[which] = {user: items for user, items in pairs if items} or None
        ids, scores = self.model.recommend(
            users,
            n_recommendations=request.n,
            candidates=None if candidates is None else self.known(candidates),
            exclude_seen=request.exclude_seen,
            exclude_interactions=by_user["exclude"],
            history=by_user["history"],
        )
        return Answer(
            users=[
                FoundForUser(
                    user=user.id, is_known=name in self.users, items=scored(*found)
                )
                for user, name, *found in zip(
                    request.users, names, ids, scores, strict=True
                )
            ],
            n_unknown_items=sum(len(items) - len(self.known(items)) for items in lists),
        )

    def similar(self, item, n):
        """Items similar to an item."""
        if item not in self.items:
            raise HTTPException(404, "There is no such item.")
        ids, scores = self.model.similar_items([self.items[item]], n_recommendations=n)
        return Found(items=scored(ids[0], scores[0]))


class Latest:
    """The service of the latest model that could be loaded."""

    service = None
    error = None
    _tried = ()

    async def follow(self):
        """Load each model that is saved, beside the one that goes on answering."""
        while True:
            saved = last_saved()
            if saved != self._tried or (self.error and time.monotonic() > self._again):
                self._tried = saved
                await self._load()
            await asyncio.sleep(LOOK_SECONDS)

    async def _load(self):
        try:
            self.service = await asyncio.to_thread(Service)
            self.error = None
            SAVED.set(self.service.saved.timestamp())
        except Exception as error:
            self.error = text(error)
            self._again = time.monotonic() + RETRY_SECONDS
            log.exception("The model was not loaded.")
        LOADS.labels("failed" if self.error else "loaded").inc()


# --- Requests: counted, timed, limited.

registry = prometheus.CollectorRegistry()
common = {"namespace": "recommender", "registry": registry}
REQUESTS = prometheus.Counter("requests", "Requests", ["endpoint", "status"], **common)
LATENCY = prometheus.Histogram("seconds", "Time of a request", ["endpoint"], **common)
WAITING = prometheus.Gauge("waiting", "Requests that are being answered", **common)
LOADS = prometheus.Counter("model_loads", "Loads of a model", ["result"], **common)
SAVED = prometheus.Gauge("model_saved_timestamp", "When the model was saved", **common)


class Measured:
    """The app, with each request counted and its body limited."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status, n_bytes = time.perf_counter(), 500, 0

        async def limited():
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > MAX_BYTES:
                raise HTTPException(413, f"A body has at most {MAX_BYTES} bytes.")
            return message

        async def watched(message):
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, limited, watched)
        finally:
            endpoint = getattr(scope.get("route"), "path", "other")
            REQUESTS.labels(endpoint, status).inc()
            LATENCY.labels(endpoint).observe(time.perf_counter() - started)


n_waiting = 0
pool = ThreadPoolExecutor(THREADS)
latest = Latest()
WAITING.set_function(lambda: n_waiting)


async def answer(method, *arguments):
    """What a method of the service answers, in a thread of its own."""
    global n_waiting
    service = latest.service  # the same model for the whole answer
    if service is None:
        raise HTTPException(503, "There is no model yet.", {"Retry-After": "1"})
    if n_waiting >= MAX_REQUESTS:
        raise HTTPException(503, "Too many requests; try again.", {"Retry-After": "1"})
    n_waiting += 1
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, method, service, *arguments)
    finally:
        n_waiting -= 1


@asynccontextmanager
async def lifespan(app):
    following = asyncio.create_task(latest.follow())
    yield
    following.cancel()


app = FastAPI(title="Recommendations", version=sktwotower.__version__, lifespan=lifespan)
app.add_middleware(Measured)
refused = {503: {"model": Problem}}


@app.exception_handler(RequestValidationError)
async def refuse(request, error):
    """Say what is wrong, without the input, which need not be JSON."""
    detail = [
        {
            "loc": [part if isinstance(part, int) else text(part) for part in one["loc"]],
            "msg": text(one["msg"]),
            "type": one["type"],
        }
        for one in error.errors()
    ]
    return JSONResponse({"detail": detail}, 422)


@app.post(
    "/recommend",
    responses={400: {"model": Problem}, 413: {"model": Problem}, **refused},
)
async def recommend(request: Request) -> Answer:
    """Items for users; unknown users get the items of the unknown user."""
    return await answer(Service.recommend, request)


@app.get("/similar", responses={404: {"model": Problem}, **refused})
async def similar(
    item: Annotated[str, Query(max_length=1_000)],
    n: Annotated[int, Query(ge=1, le=MAX_RECOMMENDATIONS)] = 10,
) -> Found:
    """Items similar to an item."""
    return await answer(Service.similar, item, n)


@app.get("/health")
async def health() -> dict[str, str]:
    """Whether the process answers at all."""
    return {"status": "ok"}


@app.get("/ready", responses={503: {"model": State}})
async def ready(response: Response) -> State:
    """Whether there is a model, and whether it is the latest that was saved."""
    response.status_code = 503 if latest.service is None else 200
    saved = latest.service and latest.service.saved
    return State(saved=saved, error=latest.error)


@app.get("/metrics", response_class=Response)
async def metrics():
    """Counts and times in the text format of Prometheus."""
    content = prometheus.generate_latest(registry)
    return Response(content, media_type=prometheus.CONTENT_TYPE_LATEST)
