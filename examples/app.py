"""A web service around a saved model.

MODEL=directory uvicorn --app-dir examples app:app
curl 'localhost:8000/recommend?user=1&n=5'
"""

import os
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query

import sktwotower

app = FastAPI()
model = sktwotower.load(os.environ["MODEL"])
users = {str(user): user for user in model.user_ids_}  # queries contain only strings
items = {str(item): item for item in model.item_ids_}
Count = Annotated[int, Query(ge=1, le=100)]


def pairs(ids, scores):
    """Items and scores of a single query, without padding."""
    both = zip(ids[0].tolist(), scores[0].tolist(), strict=True)
    return [{"item": item, "score": score} for item, score in both if item is not None]


@app.get("/recommend")
def recommend(user: str, n: Count = 10):
    """Items for a user; unknown users get the items of the unknown user."""
    found = model.recommend([users.get(user, user)], n_recommendations=n)
    return {"is_known": user in users, "items": pairs(*found)}


@app.get("/similar")
def similar(item: str, n: Count = 10):
    """Items similar to an item."""
    if item not in items:
        raise HTTPException(404, f"There is no item {item!r}.")
    return {"items": pairs(*model.similar_items([items[item]], n_recommendations=n))}
