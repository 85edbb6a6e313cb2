"""
Is it better? Comparing models honestly
=======================================

One model has a higher score than another. Is it the better model, or would the result be
different with other users, another seed, or another split? This notebook compares
two-tower models with popularity, item-KNN and EASE, and explains after each table what
it shows.

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
from sktwotower.history import PooledHistory
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
# The question is what users will watch next. So the last fifth of each user's rows is
# held out, and all models are trained and evaluated on the same rows. Films with fewer
# than 30 training rows are left out, to make this page quick. The results therefore hold
# for films that many users have seen.


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
# Tune the baselines
# ------------------
# A comparison with an untuned baseline shows little. Tune each baseline like your own
# model: by the same metric, on the last fifth of the *training* rows.

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
# There are two two-tower models. One of them also uses the last five films of the user
# (``history=PooledHistory(size=5)``). The table has the films of every split on this page.

n_ratings = data.item_table["item_id"].map(ratings["item_id"].value_counts())
films = data.item_table[n_ratings >= 30]
towers = TwoTowerRecommender(
    **columns,
    timestamp_column="timestamp",
    history=None,
    item_table=EntityTable(films, "item_id", features=["genres", "year"]),
    embedding_dim=32,
    learning_rate=0.01,
    batch_size=1024,
    max_iter=6,
    random_state=0,
)
models["two towers"] = clone(towers).fit(train)
models["with history"] = clone(towers).set_params(history=PooledHistory(size=5)).fit(train)

# %%
# Means and confidence intervals
# ------------------------------
# The table shows the mean over users, and the interval in which the mean would lie with
# other users of the same kind.

metrics = ["ndcg@10", "recall@10"]
reports = {
    name: ranking_report(model, test, metrics=metrics, by="activity", random_state=0)
    for name, model in models.items()
}
report = pd.concat(reports, names=["model"]).droplevel(1)
report[report["slice"] == "all"].sort_values("metric", kind="stable").round(3)

# %%
# The intervals are wide, because there are only some 600 users. The intervals of
# item-KNN, EASE and the two towers without a history overlap, so it seems that nothing
# can be said about these three. However, all models were evaluated on the same users,
# and a paired comparison uses this.
#
# Is the difference real?
# -----------------------
# Some users are hard for every model. ``compare`` takes the *difference* to the first
# model, user by user, so that this effect cancels out, and resamples the users.

first_ease = {"EASE": models["EASE"], **models}
table = compare(first_ease, test, metrics="ndcg@10", random_state=0)
table.set_index("model").round(3)

# %%
# - Popularity is clearly worse than EASE: ``high`` is far below 0.
# - Item-KNN is probably worse, but the interval includes 0. It is also one comparison of
#   several: if nothing differs, one in twenty comparisons still has a p-value below
#   0.05.
# - The two towers without a history do not differ significantly from EASE. This does not
#   mean that they are equal; the interval shows how large a difference could have been
#   missed.
# - With a history they are better by far more than chance. Part of that is the data:
#   MovieLens users often rate in the order in which the site shows them films (Fan, Ji,
#   Zhang and Sun, "Our Model Achieves Excellent Performance on MovieLens: What Does it
#   Mean?", 2024), and the last five films show where in this order they are. No test can
#   detect this.
#
# Does the seed matter?
# ---------------------
# The bootstrap resamples users, with the models as they are. Training with another seed
# gives another model.

seeds = {
    f"seed {seed}": clone(models["with history"]).set_params(random_state=seed).fit(train)
    for seed in (1, 2)
}
seeds = {"seed 0": models["with history"], **seeds}
table = compare(seeds, test, metrics=metrics, random_state=0)
table.set_index("model").round(3)

# %%
# All intervals include 0: no seed is significantly better or worse than the first one.
# But look at the differences between their means. If a new idea improves one seed by as
# much, this shows nothing.
#
# Slices of users
# ---------------
# A mean over all users hides differences between groups. Above, ``by="activity"``
# divided the users into thirds, by the number of their films in training.

thirds = report[(report["metric"] == "ndcg@10") & (report["slice"] != "all")]
thirds = thirds.pivot(columns="slice", values="mean")
thirds.loc[list(models), ["low", "medium", "high"]].round(3)

# %%
# The history helps all three groups. Active users have the highest NDCG with every
# model, because they also have more films in the test rows, so hits are more likely.
# Compare down a column, not along a row.
#
# You can give labels of your own as a Series by user id. Here they tell when a user
# came.

year = ratings.groupby("user_id")["timestamp"].min().dt.year
came = year.map(lambda year: "before 2005" if year < 2005 else "2005 and later")
by_year = ranking_report(
    models["with history"], test, metrics="ndcg@10", by=came, random_state=0
)
by_year.set_index("slice").round(3)

# %%
# The intervals overlap, so this table does not answer the question. The slices contain
# different users, so a paired comparison is not possible. The more slices, the fewer
# users are in each. Do not search for the slice in which your model wins.
#
# Length of the list
# ------------------
# Models that differ do so at nearly every length of the list, so the choice of k = 10
# does not decide the comparison. EASE and the two towers lie within each other's bands,
# as expected.

_ = RankingCurveDisplay.from_estimators(models, test, metric="recall", k=50)

# %%
# Beyond accuracy
# ---------------
# Accuracy is not the only criterion. Are the same few films recommended to all users?

beyond = make_ranking_scorer(
    ["ndcg@10", "coverage@10", "gini@10", "popularity@10", "novelty@10", "serendipity@10"]
)
pd.DataFrame({name: beyond(model, test) for name, model in models.items()}).T.round(3)

# %%
# The popularity model recommends one film in seven, and always the best known ones. The
# model with a history is not only the most accurate one. It also recommends the most
# films and the least popular ones, and it has the most hits that are not among the most
# popular films (serendipity). None of these numbers is good by itself: random films
# would have the best values of most of them.
#
# In the picture, a curve above the dashed line means that a model favours popular films
# more than users do. All models do so, the one with a history least.

_ = PopularityBiasDisplay.from_estimators(models, train)

# %%
# Another split
# -------------
# The same baselines on rows that were held out at random. Here, the models predict what
# a user watched last year from what the user watched since.

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
# The scores are two to three times as high, with the same data, models and metric.
# However, real use corresponds to the first split. Never compare a number from one split
# with a number from another.
#
# ``GlobalTimeSplit`` evaluates known and new users together. It trains on the rows
# before a moment and tests on the rows after it.

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
# Most of the users after that moment are new, and no model has any information about
# them. All models recommend popular films to them, more or less. Since everything that
# these users ever watched is in the test rows, this is enough for a high NDCG. The mean
# over all users mostly reflects these new users.
#
# The known users alone:

known = future[future["user_id"].isin(past["user_id"])]
table = compare(later, known, metrics=metrics, random_state=0)
table.set_index("model").round(3)

# %%
# For these 25 users, the model with a history is better than EASE by NDCG, and by recall
# the interval includes 0. After four comparisons this is a hint, in line with the first
# split, and no proof. The solution is to wait for more users.
#
# Common mistakes
# ---------------
# - **Ranking among a sample.** It is easy to find a relevant film among a hundred random
#   ones, for a bad model nearly as easily as for a good one, and the order of models can
#   be reversed (Krichene and Rendle, "On Sampled Metrics for Item Recommendation", KDD
#   2020). Nothing on this page is sampled: every film is ranked for every user.
# - **Tuning on the test rows.** The best of twenty candidates is partly the luckiest on
#   these rows. Tune inside the training rows, and use the test rows once. Early stopping
#   on the test rows is tuning, too.
# - **Splitting at random.** The model then predicts last year with the knowledge of this
#   year.
# - **Comparing with an untuned baseline**, on other rows, on other candidates, or with a
#   number from a paper.
# - **Reporting the best seed**, the best slice or the best metric of many.
# - **Leaving out the interval.** With a few hundred users the second digit is noise.
