"""
Is it better? Comparing models honestly
=======================================

Two models, two numbers, one is larger. Is it the better model, or would other users,
another seed, another split have said the opposite? This notebook compares two-tower
models with popularity, item-KNN and EASE, and says after each table what it shows.

The data is MovieLens ``ml-latest-small``, which comes with the package. It is for
non-commercial use.
"""

import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import (
    EASERecommender,
    ItemKNNRecommender,
    PopularRecommender,
)
from sktwotower.datasets import load_movielens_small
from sktwotower.inspection import PopularityBiasDisplay, RankingCurveDisplay
from sktwotower.metrics import compare, make_ranking_scorer, ranking_report
from sktwotower.model_selection import (
    GlobalTimeSplit,
    LastInteractionsSplit,
    train_test_split_interactions,
)

# %%
# One question, one split
# -----------------------
# What will users watch next? So the last fifth of each user's rows is held out, and all
# models are trained and judged on the same rows. Films with fewer than 30 training rows
# are left out, to make this page quick: what is said here is said of films that many
# have seen.


def often_rated(train, test, at_least=30):
    train = train[train.groupby("item_id")["item_id"].transform("size") >= at_least]
    return train, test[test["item_id"].isin(train["item_id"])]


data = load_movielens_small()
ratings = data.interactions
train, test = often_rated(
    *train_test_split_interactions(
        ratings,
        method="last",
        test_size=0.2,
        user_column="user_id",
        timestamp_column="timestamp",
    )
)
print(f"{len(train):,} rows to train on, {len(test):,} to find")
print(f"{train['user_id'].nunique()} users, {train['item_id'].nunique()} films")

# %%
# Give the baselines their chance
# -------------------------------
# A baseline with bad parameters is no baseline. Each is tuned like the model that one
# is fond of: by the same metric, on the last fifth of the *training* rows.

by_time = LastInteractionsSplit(
    fraction=0.2, timestamp_column="timestamp", user_column="user_id"
)
columns = {"user_column": "user_id", "item_column": "item_id"}
grids = {
    "item-KNN": (ItemKNNRecommender(**columns), {"n_neighbors": [3, 10, 30, 100]}),
    "EASE": (EASERecommender(**columns), {"regularization": [30, 100, 300, 1000]}),
}
models = {"popular": PopularRecommender(**columns).fit(train)}
for name, (baseline, grid) in grids.items():
    search = GridSearchCV(
        baseline, grid, scoring=make_ranking_scorer("ndcg@10"), cv=by_time
    ).fit(train)
    models[name] = search.best_estimator_
    print(name, search.best_params_)

# %%
# Two two-tower models, one of which also sees the five films that the user had before.
# The table has the films of every split on this page.

n_ratings = data.item_table["item_id"].map(ratings["item_id"].value_counts())
films = data.item_table[n_ratings >= 30]
towers = TwoTowerRecommender(
    **columns,
    timestamp_column="timestamp",
    item_table=EntityTable(films, "item_id", features=["genres", "year"]),
    embedding_dim=32,
    learning_rate=0.01,
    batch_size=1024,
    max_iter=6,
    random_state=0,
)
models["two towers"] = clone(towers).fit(train)
models["with history"] = clone(towers).set_params(history_size=5).fit(train)

# %%
# How good, and how sure
# ----------------------
# The mean over users, and the range in which it would lie with other users of the same
# kind.

metrics = ["ndcg@10", "recall@10"]
reports = {
    name: ranking_report(model, test, metrics=metrics, by="activity", random_state=0)
    for name, model in models.items()
}
report = pd.concat(reports, names=["model"]).droplevel(1)
report[report["slice"] == "all"].sort_values("metric", kind="stable").round(3)

# %%
# The intervals are wide: some 600 users say only so much. Those of item-KNN, EASE and
# the two towers without a history overlap, and one might think that nothing can be said
# about these three. But they were judged on the same users, and that can be used.
#
# Is the difference real?
# -----------------------
# Some users are hard for every model. ``compare`` takes the *difference* to the first
# model, user by user, so that this cancels out, and resamples the users.

first_ease = {"EASE": models["EASE"], **models}
table = compare(first_ease, test, metrics="ndcg@10", random_state=0)
table.set_index("model").round(3)

# %%
# - Popularity is worse than EASE, beyond doubt: ``high`` is far below 0.
# - Item-KNN is probably worse, but the interval reaches 0. And it is one comparison of
#   several: of twenty in which nothing differs, one has a p-value below 0.05.
# - The two towers without a history do not differ from EASE. That is not to say that
#   they are equal; the interval says how large a difference could have been missed.
# - With a history they are better by far more than chance. Part of that is the data:
#   MovieLens users often rate in the order in which the site shows them films (Fan, Ji,
#   Zhang and Sun, "Our Model Achieves Excellent Performance on MovieLens: What Does it
#   Mean?", 2024), and the last five say where they are. No test can find that out.
#
# Would another seed have said so?
# --------------------------------
# The bootstrap is about users, with the models as they are. Another seed is another
# model.

seeds = {
    f"seed {seed}": clone(models["with history"]).set_params(random_state=seed).fit(train)
    for seed in (1, 2)
}
seeds = {"seed 0": models["with history"], **seeds}
table = compare(seeds, test, metrics=metrics, random_state=0)
table.set_index("model").round(3)

# %%
# No interval leaves 0 out: no seed is better or worse than the first one. But look at
# how far apart their means are. A new idea that gains as much, on one seed, has shown
# nothing.
#
# For whom?
# ---------
# A mean hides who it is made of. Above, ``by="activity"`` cut the users into thirds, by
# how many films they had in training.

thirds = report[(report["metric"] == "ndcg@10") & (report["slice"] != "all")]
thirds = thirds.pivot(columns="slice", values="mean")
thirds.loc[list(models), ["low", "medium", "high"]].round(3)

# %%
# The history helps all three. Active users have the highest NDCG, with every model:
# they have more films in the test rows, too, so that there is more to find. Compare down
# a column, not along a row.
#
# Labels of your own are a Series by user id. Does it matter when a user came?

year = ratings.groupby("user_id")["timestamp"].min().dt.year
came = year.map(lambda year: "before 2005" if year < 2005 else "2005 and later")
by_year = ranking_report(
    models["with history"], test, metrics="ndcg@10", by=came, random_state=0
)
by_year.set_index("slice").round(3)

# %%
# The intervals overlap, so it may or may not. These are different users, so here there
# are no pairs to help. The more slices, the fewer users in each; do not look for the
# one in which your model wins.
#
# Where in the list?
# ------------------
# Models that differ do so at nearly every length of the list, so the choice of k = 10
# does not decide. EASE and the two towers lie within each other's bands, as they
# should.

_ = RankingCurveDisplay.from_estimators(models, test, metric="recall", k=50)

# %%
# At what price?
# --------------
# Accuracy is not all. Are the same few films shown to everybody?

beyond = make_ranking_scorer(
    ["ndcg@10", "coverage@10", "gini@10", "popularity@10", "novelty@10", "serendipity@10"]
)
pd.DataFrame({name: beyond(model, test) for name, model in models.items()}).T.round(3)

# %%
# Popularity shows one film in seven, and always the best known. The model with a
# history is not only the most accurate one. It shows the most films, the least popular
# ones, and has the most hits that popularity does not have (serendipity). None of these
# numbers is a merit by itself: films drawn at random would win most of them.
#
# In the picture a curve above the dashed one favours popular films more than users do.
# All models do so, the one with a history least.

_ = PopularityBiasDisplay.from_estimators(models, train)

# %%
# Another question, another answer
# --------------------------------
# The same baselines on rows that were held out at random: what a user watched last year
# is guessed with the help of what the user watched since.

shuffled, random_test = often_rated(
    *train_test_split_interactions(
        ratings, method="per_user", test_size=0.2, user_column="user_id", random_state=0
    )
)
ndcg = make_ranking_scorer("ndcg@10")
baselines = ["popular", "item-KNN", "EASE"]
pd.DataFrame(
    {
        "the last fifth": {name: ndcg(models[name], test) for name in baselines},
        "a random fifth": {
            name: ndcg(clone(models[name]).fit(shuffled), random_test) for name in baselines
        },
    }
).round(3)

# %%
# Twice to three times as high, with the same data, models and metric. But use will ask
# the first question. Never compare a number from one split with one from another.
#
# What comes next, with whoever turns up? ``GlobalTimeSplit`` trains on what was before
# a moment and tests on what came after it.

moment = GlobalTimeSplit(1, test_size=0.2, timestamp_column="timestamp")
past, future = often_rated(*(ratings.iloc[rows] for rows in next(moment.split(ratings))))
later = {
    name: clone(models[name]).fit(past) for name in ["EASE", "popular", "with history"]
}
by_cold = {
    name: ranking_report(model, future, metrics="ndcg@10", by="cold", random_state=0)
    for name, model in later.items()
}
pd.concat(by_cold, names=["model"]).droplevel(1).round(3)

# %%
# Most of the users after that moment are new, and no model knows anything of them. All
# show them what is popular, more or less; and as everything that they ever watched is
# there to be found, this is enough for a high NDCG. The mean over all users is mostly
# about them.
#
# The known ones alone:

known = future[future["user_id"].isin(past["user_id"])]
table = compare(later, known, metrics=metrics, random_state=0)
table.set_index("model").round(3)

# %%
# Over 25 users the model with a history is better than EASE by NDCG, and by recall the
# interval has 0 in it. After four comparisons that is a hint, in line with the first
# split, and no proof. The honest answer is to wait for more users.
#
# What not to do
# --------------
# - **Rank among a sample.** A relevant film among a hundred random ones is easy to
#   find, for a bad model nearly as easily as for a good one, and the order of models
#   can turn round (Krichene and Rendle, "On Sampled Metrics for Item Recommendation",
#   KDD 2020). Nothing on this page is sampled: every film is ranked for every user.
# - **Tune on the test rows.** The best of twenty candidates is partly the luckiest on
#   those very rows. Tune inside the training rows, and look at the test rows once.
#   Stopping early by the test rows is tuning, too.
# - **Split at random.** The model is then asked about last year with the knowledge of
#   this year.
# - **Compare with a baseline that nobody tuned**, on other rows, on other candidates,
#   or with a number from a paper.
# - **Report the best seed**, the best slice or the best metric of many.
# - **Leave out the interval.** With some hundred users the second digit is noise.
