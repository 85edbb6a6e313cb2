"""
Recommend films by title
========================

A first model on real ratings: hold out what each user watched last, train, compare with
recommending what is popular, look at one user's recommendations, and tune two parameters.

The data is MovieLens ``ml-latest-small``, which comes with the package. It is for
non-commercial use; see :func:`~sktwotower.datasets.load_movielens_small`.
"""

from sklearn.callback import ProgressBar
from sklearn.model_selection import GridSearchCV

from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import PopularRecommender
from sktwotower.datasets import load_movielens_small
from sktwotower.metrics import make_ranking_scorer
from sktwotower.model_selection import LastInteractionsSplit

# %%
# The data
# --------
# One row an interaction: who, what, when. The films' genres are in a table of their own.
# Every rating counts as a positive here: that somebody watched a film says more than how
# many stars it got.

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
# ``EntityTable`` holds the films without copying them for each clone, and picks the
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
# Is it better than recommending what is popular?
# -----------------------------------------------

popular = PopularRecommender(user_column="user_id", item_column="item_id").fit(train)
scorer = make_ranking_scorer(["ndcg@10", "recall@10", "coverage@10"])
print(f"{'':14}  ndcg@10  recall@10  coverage@10")
for name, recommender in {"most popular": popular, "two towers": model}.items():
    scores = scorer(recommender, test)
    print(
        f"{name:14}  {scores['ndcg@10']:7.3f}  {scores['recall@10']:9.3f}"
        f"  {scores['coverage@10']:11.3f}"
    )

# %%
# One user
# --------
# What the user watched last, and ten films that the model proposes.

titles = films.set_index("item_id")["title"]
user = 125
history = train[train["user_id"] == user].sort_values("timestamp")
print(f"User {user} watched last:")
print(titles.loc[history["item_id"].tail(8)].to_string(index=False, header=False))

recommended = model.recommend([user], n_recommendations=10, as_frame=True)
recommended["title"] = recommended["item"].map(titles)
print("\nRecommended:")
print(recommended[["rank", "title", "score"]].round(3).to_string(index=False))

# %%
# And films like one that everybody knows:

similar = model.similar_items([1], n_recommendations=5, as_frame=True)
similar["title"] = similar["item"].map(titles)
print(f"Like {titles[1]}:")
print(similar[["title", "score"]].round(3).to_string(index=False))

# %%
# Tune two parameters
# -------------------
# The same split again, inside the training rows: what is tuned never sees the test rows.

search = GridSearchCV(
    model,
    {"temperature": [0.08, 0.12], "max_iter": [8, 12]},
    scoring=make_ranking_scorer("ndcg@10"),
    cv=by_time,
)
search.fit(train)
for parameters, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    print(f"{score:.4f}  {parameters}")
print(f"on the test rows: {search.score(test):.4f} with {search.best_params_}")
