"""
What comes next: recommending in the order of time
==================================================

Somebody who plays one jazz song after an hour of rock wants jazz now. What a user did last
says more than what came before, and a bag of items does not know which of them was last.
This notebook trains two towers that read the order, watches the recommendations change
from click to click, looks at what the model listened to, and measures whether it is the
order that helps.

The sessions are made here, by a rule that you can read, so that you know what there is to
be found.
"""

import time

import numpy as np
import pandas as pd

from sktwotower import TwoTowerRecommender
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.inspection import AttentionDisplay
from sktwotower.model_selection import LastInteractionsSplit

# %%
# Sessions with an order
# ----------------------
# A listener is in a mood for a genre and plays songs of it. After each song the mood
# changes with a probability of one in five. So the next song has the genre of the last
# one in more than four cases of five, whatever was played before.

GENRES = ["rock", "jazz", "folk", "soul", "punk", "blues", "disco", "opera"]


def make_session(rng):
    genre, session = rng.choice(GENRES), []
    while len(session) < 12:
        if rng.random() < 0.2:
            genre = rng.choice(GENRES)
        song = f"{genre} {rng.integers(1, 21)}"
        if song not in session:
            session.append(song)
    return session


rng = np.random.default_rng(0)
plays = pd.DataFrame(
    [
        (listener, song, place)
        for listener in range(2000)
        for place, song in enumerate(make_session(rng))
    ],
    columns=["listener", "song", "place"],
)
print(f"{len(plays):,} plays of {plays['song'].nunique()} songs; the first session:")
print(", ".join(plays["song"].head(12)))

# %%
# A bag and a transformer
# -----------------------
# The last song of each session is held out. One model reads the songs before it as a bag,
# the other reads them in their order. A listener is nothing but the history, so that new
# ones are like the others. The rest are the defaults. With these rows ``history="auto"``,
# the default, takes the transformer: the rows of a listener come one at a time, and there
# are more than a thousand listeners.

last = LastInteractionsSplit(n_last=1, user_column="listener", timestamp_column="place")
train, test = (plays.iloc[rows] for rows in next(last.split(plays)))


def fit(history, train):
    started = time.perf_counter()
    model = TwoTowerRecommender(
        user_column="listener",
        item_column="song",
        timestamp_column="place",
        history=history,
        user_id_embedding=False,
        random_state=0,
    ).fit(train)
    return model, time.perf_counter() - started


histories = {
    "a bag of the last 20": PooledHistory(size=20),
    "a transformer": TransformerHistory(size=20),
}
models, scores = {}, {}
for name, history in histories.items():
    models[name], seconds = fit(history, train)
    scores[name] = {"NDCG@10": models[name].score(test), "seconds": seconds}
pd.DataFrame(scores).T.round(3)

# %%
# Nobody could reach 1: there are twenty songs of a genre, and the rule does not prefer any.
# The model that knows the rule would have about .23.
#
# Click by click
# --------------
# A new listener comes, whom no training has seen. ``recommend`` takes the songs so far as
# ``history``, and nothing is trained. Watch what happens when the genre changes.

clicks = ["rock 3", "rock 11", "rock 5", "rock 8", "jazz 2", "jazz 9"]
rows = {}
for n in range(1, len(clicks) + 1):
    for name, model in models.items():
        (songs,), _ = model.recommend([-1], n_recommendations=5, history={-1: clicks[:n]})
        rows[f"{n}. {clicks[n - 1]}", name] = ", ".join(songs)
pd.Series(rows).unstack().rename_axis("after click")

# %%
# After one jazz song the transformer recommends jazz. The bag has one jazz song among five,
# and goes on with rock. In another order the bag says the same as before:

for order in (clicks, clicks[::-1]):
    for name, model in models.items():
        (songs,), _ = model.recommend([-1], n_recommendations=3, history={-1: order})
        print(f"{order[-1]:6} last, {name:20}: {', '.join(songs)}")

# %%
# What the model listened to
# --------------------------
# The vector of a listener is mixed from the songs before. ``AttentionDisplay`` draws how
# much of each is in it, over both layers. The last song counts most, and the other song
# of its genre counts more than the rock songs do.

transformer = models["a transformer"]
_ = AttentionDisplay.from_estimator(transformer, -1, history={-1: clicks})

# %%
# The same in each head of each layer:

_ = AttentionDisplay.from_estimator(transformer, -1, history={-1: clicks}, kind="heads")

# %%
# Is it the order?
# ----------------
# Shuffle the rows of each user, train again, and compare. What is lost was in the order.
# The test does the same to your data, before you decide for a transformer.

places = train.groupby("listener")["place"].transform(rng.permutation)
shuffled = train.assign(place=places)
for name, history in histories.items():
    model, seconds = fit(history, shuffled)
    scores[name]["NDCG@10, shuffled"] = model.score(test)
pd.DataFrame(scores).T.drop(columns="seconds").round(3)

# %%
# Without the order the two are the same, and the bag is fitted faster.
#
# Take a transformer where users went through the rows in their order: plays, clicks,
# lessons, single purchases. Take a bag where the rows of one time are a visit, such as
# the articles of a basket, where there are few users, and where a fit has to be fast. The
# user guide has figures of both kinds.
