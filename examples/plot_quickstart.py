"""
Recommend films by title
========================

A first model on real ratings. The example holds out the last films of each user, trains
a model, compares it with recommending the most popular films, shows the recommendations
of one user, and tunes two parameters.

The data is MovieLens ``ml-latest-small``, which comes with the package. It is for
non-commercial use; see :func:`~sktwotower.datasets.load_movielens_small`.
"""

from sklearn.callback import ProgressBar
from sklearn.model_selection import GridSearchCV

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import PopularRecommender
from sktwotower.datasets import load_movielens_small
from sktwotower.inspection import RankingCurveDisplay
from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import LastInteractionsSplit

# %%
# The data
# --------
# There is one row per interaction: the user, the item and the time. The genres of the
# films are in a separate table. Every rating counts as a positive here: that a user
# watched a film says more than the number of stars.

data = load_movielens_small()
interactions, films = data.interactions, data.item_table
print(interactions.head(3).to_string(index=False))
print(films.head(3).to_string(index=False))

# %%
# Hold out the last fifth of each user's rows
# -------------------------------------------

by_time = LastInteractionsSplit(
    fraction=0.2, timestamp_column="timestamp", user_column="user_id"
)
train_rows, test_rows = next(by_time.split(interactions))
train, test = interactions.iloc[train_rows], interactions.iloc[test_rows]
print(f"{len(train):,} rows to train on, {len(test):,} to find")

# %%
# Train
# -----
# ``EntityTable`` holds the films without copying them for each clone, and selects the
# columns that are features. scikit-learn's ``ProgressBar`` shows the epochs.

model = TwoTowerRecommender(
    user_column="user_id",
    item_column="item_id",
    item_table=EntityTable(films, "item_id", features=["genres", "year"]),
    random_state=0,
)
model.set_callbacks(ProgressBar())
model.fit(train)
model.set_callbacks()
first, *_, last = model.loss_curve_
print(f"{model.n_iter_} epochs, loss {first:.2f} -> {last:.2f}")

# %%
# Is it better than recommending popular films?
# ---------------------------------------------

popular = PopularRecommender(user_column="user_id", item_column="item_id").fit(train)
scorer = make_ranking_scorer(["ndcg@10", "recall@10", "coverage@10"])
models = {"most popular": popular, "two towers": model}
print(f"{'':14}  ndcg@10  recall@10  coverage@10")
for name, recommender in models.items():
    scores = scorer(recommender, test)
    print(
        f"{name:14}  {scores['ndcg@10']:7.3f}  {scores['recall@10']:9.3f}"
        f"  {scores['coverage@10']:11.3f}"
    )

# %%
# The same for lists of other lengths:

_ = RankingCurveDisplay.from_estimators(models, test, metric="recall", k=50)

# %%
# One user
# --------
# The last films of the user, and ten films that the model recommends.

titles = films.set_index("item_id")["title"]
user = 125
history = train[train["user_id"] == user].sort_values("timestamp")
print(f"User {user} watched last:")
print(titles.loc[history["item_id"].tail(8)].to_string(index=False, header=False))

recommended = model.recommend([user], n_recommendations=10, as_frame=True)
recommended["title"] = recommended["item_id"].map(titles)
print("\nRecommended:")
print(recommended[["rank", "title", "score"]].round(3).to_string(index=False))

# %%
# Films that are similar to a well-known one:

similar = model.similar_items([1], n_recommendations=5, as_frame=True)
similar["title"] = similar["item_id"].map(titles)
print(f"Like {titles[1]}:")
print(similar[["title", "score"]].round(3).to_string(index=False))

# %%
# Tune two parameters
# -------------------
# The defaults follow the data: here they are 40 epochs and vectors of 256 numbers. What do
# fewer of both cost? The same splitter is used again, inside the training rows, so the
# search never uses the test rows. The progress bar shows the search, its candidates and
# their epochs.

search = GridSearchCV(
    model,
    {"embedding_dim": [64, 128], "max_iter": [5, 10]},
    scoring=make_ranking_scorer("ndcg@10"),
    cv=by_time,
)
search.set_callbacks(ProgressBar())
search.fit(train)
results = search.cv_results_
for parameters, score, seconds in zip(
    results["params"], results["mean_test_score"], results["mean_fit_time"], strict=True
):
    print(f"{score:.4f}  {seconds:5.1f} s  {parameters}")
print(f"on the test rows: {search.score(test):.4f} with {search.best_params_}")
