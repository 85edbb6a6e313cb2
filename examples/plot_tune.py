"""
Tune a recommender with GridSearchCV
====================================

A two-tower model is a scikit-learn estimator, so scikit-learn's searches tune it. This
notebook avoids the usual mistakes: it splits by time, computes metrics over the whole
catalogue, stops early without using the fold that evaluates the candidate, and uses the
test rows only once, at the end.

The data is MovieLens ``ml-latest-small``, which comes with the package. It is for
non-commercial use.
"""

import pandas as pd
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import PopularRecommender
from sktwotower.datasets import load_movielens_small
from sktwotower.history import PooledHistory
from sktwotower.inspection import SearchResultsDisplay, TrainingCurveDisplay
from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import (
    LastInteractionsSplit,
    train_test_split_interactions,
)
from sktwotower.preprocessing import FeatureEncoder

# %%
# Hold out the test rows
# ----------------------
# The question is what users will do next. So the last fifth of each user's rows is held
# out. Only the films with at least 60 training rows are kept, which makes this page
# quick. They are counted in the training rows, because a count over all rows would use
# information from the future.

data = load_movielens_small()
train, test = train_test_split_interactions(
    data.interactions,
    method="last",
    test_size=0.2,
    user_column="user_id",
    timestamp_column="timestamp",
)
train = train[train.groupby("item_id")["item_id"].transform("size") >= 60]
test = test[test["item_id"].isin(train["item_id"])]
films = data.item_table[data.item_table["item_id"].isin(train["item_id"])]
print(f"{len(train):,} rows to train on, {len(test):,} to find at the end")
print(f"{train['user_id'].nunique()} users, {len(films)} films")
train.head(3)

# %%
# How a candidate is evaluated
# ----------------------------
# The same split is used again, inside the training rows: train on each user's past, and
# rank the last fifth. One ranking of the catalogue gives all three metrics; ``refit``
# names the one that decides.

by_time = LastInteractionsSplit(
    fraction=0.2, timestamp_column="timestamp", user_column="user_id"
)
scoring = make_ranking_scorer(["ndcg@10", "recall@10", "coverage@10"])

# %%
# The model and its parameters
# ----------------------------
# With ``early_stopping`` a candidate holds out the latest of its own *training* rows and
# stops by itself. The fold that evaluates the candidate is not used. ``EntityTable``
# holds the films. All clones of the search share it.

model = TwoTowerRecommender(
    user_column="user_id",
    item_column="item_id",
    timestamp_column="timestamp",
    history=PooledHistory(size=20),
    item_table=EntityTable(films, "item_id", features=["genres", "year"]),
    item_encoder=FeatureEncoder(),
    learning_rate=0.01,
    batch_size=1024,
    max_iter=15,
    early_stopping=True,
    refit=False,
    n_iter_no_change=2,
    random_state=0,
)
search = GridSearchCV(
    model,
    {"embedding_dim": [16, 32], "temperature": [0.06, 0.12, 0.24]},
    scoring=scoring,
    refit="ndcg@10",
    cv=by_time,
)

# %%
# Set a progress bar on the search. It shows nested bars: one for the search, one for its
# candidates, and one for their epochs. The bar of a candidate that stops early is full,
# too.

search.set_callbacks(ProgressBar())
search.fit(train)

# %%
# Results
# -------
# One metric decides, on one split. The others are for information. Most of these
# differences are small; the notebook "Is it better? Comparing models honestly" shows how
# to tell whether they are more than chance.

results = pd.DataFrame(search.cv_results_)
parameters = [f"param_{name}" for name in search.param_grid]
metrics = [f"mean_test_{metric}" for metric in scoring.metrics]
table = results.sort_values("rank_test_ndcg@10")[[*parameters, *metrics, "mean_fit_time"]]
table.columns = table.columns.str.replace("param_|mean_|test_", "", regex=True)
table.round(3)

# %%
# Two parameters make a map.

_ = SearchResultsDisplay.from_estimator(search)

# %%
# The search has trained the best candidate once more, on all rows of ``train``, so it
# can recommend. The titles are a column of the table of films.

titles = films.set_index("item_id")["title"]
user = 125
watched = train[train["user_id"] == user].sort_values("timestamp")["item_id"]
print(f"User {user} watched last:")
print(*titles[watched.tail(5)], sep="\n")

recommended = search.best_estimator_.recommend([user], n_recommendations=5, as_frame=True)
recommended.assign(title=recommended["item_id"].map(titles)).round(3)

# %%
# More parameters, fewer epochs
# -----------------------------
# A grid grows with every parameter. A halving search draws candidates instead. It trains
# all of them for two epochs, the best third of them for six, and so on. Epochs are its
# resource, so early stopping is off. It takes a single metric. It can miss a candidate
# that starts slowly and ends well.
#
# An encoder and a history are tuned through their own parameters. With
# ``item_encoder__min_frequency=30`` all genres with fewer films than that share a vector.
# ``history__size`` is the number of the user's last films that the user tower reads.

tuned = {**search.best_params_, "early_stopping": False}
halving = HalvingRandomSearchCV(
    clone(model).set_params(**tuned),
    {
        "learning_rate": loguniform(0.003, 0.03),
        "history__size": [1, 5, 20],
        "item_encoder__min_frequency": [2, 30],
    },
    n_candidates=9,
    resource="max_iter",
    min_resources=2,
    max_resources=18,
    scoring=make_ranking_scorer("ndcg@10"),
    cv=by_time,
    refit=False,
    random_state=0,
)
halving.fit(train)
rounds = pd.DataFrame(halving.cv_results_)
parameters = [f"param_{name}" for name in halving.param_distributions]
rounds = rounds.rename(columns={"n_resources": "epochs", "mean_test_score": "ndcg@10"})
rounds = rounds[["iter", "epochs", *parameters, "ndcg@10"]]
rounds.columns = rounds.columns.str.removeprefix("param_")
rounds.sort_values(["iter", "ndcg@10"], ascending=False).round(4)

# %%
# The history matters: of the three candidates that had six epochs, the one whose user
# tower reads the last film alone is behind. (Each candidate is drawn with the score of its
# last round, so the bright ones also had more epochs.)

_ = SearchResultsDisplay.from_estimator(halving, params=["learning_rate", "history__size"])

# %%
# The final model
# ---------------
# It has the best parameters, and the number of epochs is chosen by early stopping again.
# The held-out rows are each user's latest, and they are informative: ``refit=True``, the
# default, trains once more, on all rows, for the best number of epochs. The candidates of a
# search do without it, as they are only compared with each other. The curves show the first
# training.

final = clone(model).set_params(**search.best_params_)
final.set_params(**{**halving.best_params_, "max_iter": 15}, refit=True)
final.fit(train)
_ = TrainingCurveDisplay.from_estimator(final)

# %%
# The test rows, once
# -------------------
# Nothing above has used the test rows, and nothing is chosen by this result. The score
# is not comparable with the scores of the searches, which were the best of several on
# their own fold.

popular = PopularRecommender(user_column="user_id", item_column="item_id").fit(train)
pd.DataFrame(
    {"most popular": scoring(popular, test), "two towers": scoring(final, test)}
).T.round(3)
