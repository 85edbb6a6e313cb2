"""A web service around a saved model, which it loads again when another one is saved.

MODEL=directory uvicorn --app-dir examples --workers 2 app:app
curl 'localhost:8000/recommend?user=1&n=5'
"""

import asyncio
import datetime as dt
import logging
import os
import warnings
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from fastapi import FastAPI, HTTPException, Query

import sktwotower

# Any id may be asked for, also one that is not even a number.
warnings.filterwarnings("ignore", ".* user ids of X are not known users")

PATH = Path(os.environ["MODEL"]).expanduser()
SECONDS = 1.0  # between two looks at the manifest
Count = Annotated[int, Query(ge=1, le=100)]


def text(value):
    """An id as clients write it in a query."""
    if isinstance(value, np.datetime64 | dt.datetime):
        value = pd.Timestamp(value).isoformat()
    return str(value).encode("utf-8", "backslashreplace").decode()


def last_saved():
    """What changes whenever a model is saved: each save makes a new manifest."""
    manifest = (PATH / "manifest.json").stat()
    return manifest.st_mtime_ns, manifest.st_ino


class Service:
    """One version of the model, and its ids by their texts: a query holds only texts."""

    def __init__(self):
        self.saved = last_saved()
        self.model = sktwotower.load(PATH)
        self.users, self.items = (
            {text(value): value for value in ids}
            for ids in (self.model.user_ids_, self.model.item_ids_)
        )


def pairs(ids, scores):
    """Items and scores of a single query, without padding."""
    both = zip(ids[0], scores[0].tolist(), strict=True)
    return [{"item": plain(i), "score": score} for i, score in both if score > -np.inf]


def plain(item):
    """An id in JSON: a number, or the text that a query has."""
    if isinstance(item, np.integer | np.floating):
        return item.item()
    return item if type(item) in (int, float) else text(item)


async def follow():
    """Answer from each model that is saved, from a second later on."""
    global service
    while True:
        await asyncio.sleep(SECONDS)
        try:
            if last_saved() != service.saved:
                service = await asyncio.to_thread(Service)
        except Exception:  # the model that is there goes on answering
            logging.getLogger("uvicorn.error").exception("The model was not loaded.")


@asynccontextmanager
async def lifespan(app):
    following = asyncio.create_task(follow())
    yield
    following.cancel()


service = Service()
app = FastAPI(lifespan=lifespan)


@app.get("/recommend")
def recommend(user: str, n: Count = 10):
    """Items for a user; unknown users get the items of the unknown user."""
    now = service  # the same model for the whole answer
    found = now.model.recommend([now.users.get(user, user)], n_recommendations=n)
    return {"is_known": user in now.users, "items": pairs(*found)}


@app.get("/similar")
def similar(item: str, n: Count = 10):
    """Items similar to an item."""
    now = service
    if item not in now.items:
        raise HTTPException(404, f"There is no item {item!r}.")
    found = now.model.similar_items([now.items[item]], n_recommendations=n)
    return {"items": pairs(*found)}
