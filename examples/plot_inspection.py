"""
What a model has learnt, in pictures
====================================

This example draws every picture of :mod:`sktwotower.inspection` for a model of films.
The pictures show whether training has settled, whether the ranking is better than a
reference, which items are recommended and why, the embeddings of the films, and the results
of a search.

The data is MovieLens ``ml-latest-small``, which comes with the package. It is for
non-commercial use; see :func:`~sktwotower.datasets.load_movielens_small`.
"""

from sklearn.model_selection import GridSearchCV

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import PopularRecommender
from sktwotower.datasets import load_movielens_small
from sktwotower.inspection import (
    EmbeddingDisplay,
    ExplanationDisplay,
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
# In a notebook, a model shows its encoders and, once fitted, its sizes. Click on a name
# for more.

model.fit(train)

# %%
# Has training settled?
# ---------------------
# The loss keeps falling. The validation metric, on each user's latest rows, shows when
# to stop. For a model that was fitted without validation, only the loss is drawn.

_ = TrainingCurveDisplay.from_estimator(model)

# %%
# Is it better, and where in the list?
# ------------------------------------
# Both models rank the catalogue once for each user of the test rows. The bands show how
# the means would vary with other users.

models = {"most popular": popular, "two towers": model}
_ = RankingCurveDisplay.from_estimators(models, test, metric="ndcg", k=50)

# %%
# Another metric, at a few values of k only:

_ = RankingCurveDisplay.from_estimators(models, test, metric="recall", k=[1, 5, 10, 20, 50])

# %%
# Does it only recommend popular items?
# -------------------------------------
# A curve above the dashed line means that a model favours popular films more than users
# do. Films beyond the point where a curve reaches 100 % are not recommended at all.

_ = PopularityBiasDisplay.from_estimators(models, train)

# %%
# The two towers favour popular films: most of what they recommend is among the most
# popular tenth, which has 59 % of the ratings. With ``popularity_weight``, ``recommend``
# changes the weight of popularity in the score, without another training. This model has
# the weight 1, so that -1 ranks by taste alone. The bars show tenths of the films:

ratings = train["item_id"].value_counts()
shares = {}
for weight in (0, -0.5, -1):
    lists = model.recommend(
        train["user_id"].unique(), popularity_weight=weight, as_frame=True
    )
    found = len(lists.merge(test, on=["user_id", "item_id"])) / len(lists)
    print(f"popularity_weight={weight}: {found:.1%} of the lists is in the test rows")
    counts = lists["item_id"].value_counts(normalize=True)
    shares[f"popularity_weight={weight}"] = counts.reindex(ratings.index, fill_value=0)
display = PopularityBiasDisplay(ratings / len(train), shares, n_recommendations=10)
_ = display.plot(kind="bar")

# %%
# By taste alone, popular films are recommended about as often as users watch them, but
# fewer of the recommended films are in the test rows, because what users watch next is
# popular, too. Half of the weight lies between. To change the weight of the model itself,
# set ``popularity_prior``. :doc:`/user_guide/diversity` says more.

# %%
# Why this film?
# --------------
# The best film for a user, and what adds to its score. The parts of the user add up to the
# score, and so do those of the film. The films that the user saw before divide the part of
# the history.

user = test["user_id"].iloc[0]
film = model.recommend([user], n_recommendations=1)[0][0, 0]
titles = data.item_table.set_index("item_id")["title"]
_ = ExplanationDisplay.from_estimator(model, user, film, labels=titles, n_parts=6)

# %%
# Embeddings of the films
# -----------------------
# The embeddings are projected to two dimensions. A feature of the item table sets the
# colours. For a film with several genres, the first one sets the colour.

# sphinx_gallery_thumbnail_number = 7
_ = EmbeddingDisplay.from_estimator(model, color_by="year")

# %%

_ = EmbeddingDisplay.from_estimator(model, color_by="genres")

# %%
# Results of a search
# -------------------
# A small search with a cheap model, on films with many ratings. Two parameters make a
# map.

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
# With one parameter, each point is the best result over the other parameter. The bars
# are the deviation over the splits; this search has a single split.

_ = SearchResultsDisplay.from_estimator(search, params="temperature")
