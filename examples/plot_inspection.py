"""
What a model has learnt, in pictures
====================================

Every picture of :mod:`sktwotower.inspection`, drawn of a model of films: has training
settled, is the ranking better than a reference, what is recommended, where do the films
lie, and what did a search find.

The data is MovieLens ``ml-latest-small``, which comes with the package. It is for
non-commercial use; see :func:`~sktwotower.datasets.load_movielens_small`.
"""

from sklearn.model_selection import GridSearchCV

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import PopularRecommender
from sktwotower.datasets import load_movielens_small
from sktwotower.inspection import (
    EmbeddingDisplay,
    PopularityBiasDisplay,
    RankingCurveDisplay,
    SearchResultsDisplay,
    TrainingCurveDisplay,
)
from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import LastInteractionsSplit

data = load_movielens_small()
by_time = LastInteractionsSplit(
    fraction=0.2, timestamp_column="timestamp", user_column="user_id"
)
train_rows, test_rows = next(by_time.split(data.interactions))
train, test = data.interactions.iloc[train_rows], data.interactions.iloc[test_rows]

columns = {"user_column": "user_id", "item_column": "item_id"}
popular = PopularRecommender(**columns).fit(train)
model = TwoTowerRecommender(
    **columns,
    timestamp_column="timestamp",
    item_table=EntityTable(data.item_table, "item_id", features=["genres", "year"]),
    embedding_dim=32,
    batch_size=1024,
    max_iter=6,
    early_stopping=True,
    random_state=0,
)

# %%
# In a notebook a model shows its encoders and, once fitted, its sizes. Click on a name for
# more.

model.fit(train)

# %%
# Has training settled?
# ---------------------
# The loss falls on and on; the validation metric, of each user's latest rows, says when it
# is enough. A model that was fitted without validation draws the loss alone.

_ = TrainingCurveDisplay.from_estimator(model)

# %%
# Is it better, and where in the list?
# ------------------------------------
# Both models rank the catalogue once for each user of the test rows. The bands tell how
# the means would vary with other users.

models = {"most popular": popular, "two towers": model}
_ = RankingCurveDisplay.from_estimators(models, test, metric="ndcg", k=50)

# %%
# Other metrics, and some k only:

_ = RankingCurveDisplay.from_estimators(models, test, metric="recall", k=[1, 5, 10, 20, 50])

# %%
# Does it only recommend what is popular?
# ---------------------------------------
# A curve above the dashed one favours popular films more than people do. No
# recommendations go to films beyond the point where a curve reaches 100 %.

display = PopularityBiasDisplay.from_estimators(models, train)

# %%
# The same as bars, each of a tenth of the films:

_ = display.plot(kind="bar")

# %%
# Where do the films lie?
# -----------------------
# Two dimensions of many. A feature of the item table has its values as colours; of a film
# with several genres the first counts.

_ = EmbeddingDisplay.from_estimator(model, color_by="year")

# %%

_ = EmbeddingDisplay.from_estimator(model, color_by="genres")

# %%
# What did the search find?
# -------------------------
# A small search with a cheap model, on films with many ratings: two parameters make a map.

often = train.groupby("item_id")["user_id"].transform("size") >= 30
search = GridSearchCV(
    TwoTowerRecommender(
        **columns, embedding_dim=16, batch_size=2048, max_iter=3, random_state=0
    ),
    {"temperature": [0.06, 0.12, 0.24], "learning_rate": [0.01, 0.03]},
    scoring=make_ranking_scorer("ndcg@10"),
    cv=by_time,
    refit=False,
).fit(train[often])
_ = SearchResultsDisplay.from_estimator(search)

# %%
# Over one parameter each point is the best of the other. The bars are the deviation over
# the splits, and this search has a single one.

_ = SearchResultsDisplay.from_estimator(search, params="temperature")
