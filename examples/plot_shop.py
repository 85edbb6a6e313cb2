"""
A shop: from purchases to a recommender in service
==================================================

It is 10 November 2010. An online shop for gifts wants to write to its customers of the last
months, with articles that they are likely to order. This tutorial goes the whole way: a
baseline first, then two towers, features, the order in time, articles that nobody has
bought yet, figures for the boss, reasons for a customer, and a model that serves.

The purchases are real and come with the package; see
:func:`~sktwotower.datasets.load_online_retail`. All figures below are printed by the cells.
Pictures and saved models need ``pip install 'sktwotower[plot,save]'``. Each model of two
towers trains for some twenty seconds; with ``verbose=1`` it says how long it still takes.
"""

import tempfile
import time

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer

import sktwotower
from sktwotower import EntityTable, TwoTowerRecommender
from sktwotower.baselines import EASERecommender, PopularRecommender
from sktwotower.datasets import load_online_retail
from sktwotower.inspection import ExplanationDisplay, RankingCurveDisplay
from sktwotower.metrics import make_ranking_scorer, ranking_report
from sktwotower.preprocessing import FeatureEncoder

data = load_online_retail()
purchases, articles = data.interactions, data.item_table
purchases.head(3)

# %%
# Articles have a title and a price:

articles.sample(3, random_state=0)

# %%
# Past and future
# ---------------
# A recommender is judged by what happens after it was trained. So time is cut twice. The
# rows before 10 October train, the month after that is for choices, and the month from 10
# November is the test, which no choice looks at.

past = purchases[purchases["time"] >= "2010-08-01"]
october, november = pd.Timestamp("2010-10-10"), pd.Timestamp("2010-11-10")
train = past[past["time"] < october]
validation = past[past["time"].between(october, november, inclusive="left")]
test = past[past["time"] >= november]

repeats = validation.merge(train[["customer_id", "item_id"]].drop_duplicates())
print(f"{len(train):,} rows train, {len(validation):,} are for choices, {len(test):,} test")
print(f"{len(repeats) / len(validation):.0%} of the validation rows repeat a purchase")

# %%
# Customers come back for the same article, so an article that was bought before may be
# recommended again: ``exclude_seen=False``. The metric is NDCG@10 over all articles, the
# mean over customers.

score = make_ranking_scorer(["ndcg@10", "recall@10"], exclude_seen=False)
columns = {"user_column": "customer_id", "item_column": "item_id"}
scores = {}


def try_model(name, model):
    started = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - started
    scores[name] = {**score(model, validation), "seconds": seconds}
    return model


# %%
# A baseline first
# ----------------
# The most popular articles, and EASE, a linear model that is hard to beat. Any other model
# has to be better than these, or it is not worth its trouble.

try_model("most popular", PopularRecommender(**columns))
try_model("EASE", EASERecommender(**columns))
pd.DataFrame(scores).T.round(3)

# %%
# Two towers
# ----------
# With ids alone, and all defaults. A user is then what they have bought:

ids_alone = try_model("two towers", TwoTowerRecommender(**columns, random_state=0))
print(ids_alone.history_)

# %%
# Features: titles and prices
# ---------------------------
# Any scikit-learn transformer encodes features. Here a TF-IDF vectorizer reads the titles,
# and the price is encoded by its type. ``id_dropout`` trains the towers to work without an
# id, too, which new articles will need.

encoder = make_column_transformer(
    (TfidfVectorizer(min_df=5), "title"), (FeatureEncoder(), ["price"])
)
features = {
    "item_table": EntityTable(articles, "item_id"),
    "item_encoder": encoder,
    "id_dropout": 0.1,
}
_ = try_model("with features", TwoTowerRecommender(**columns, **features, random_state=0))

# %%
# The order in time
# -----------------
# With ``timestamp_column``, the model reads the latest purchases in their order in place of
# all of them. This pays where the question is what comes next. A shop is another matter: a
# customer orders many articles at one time, and that is no order. ``fit`` looks whether
# there is one, and ``history_`` tells what it took.

in_time = try_model(
    "with features and time",
    TwoTowerRecommender(**columns, **features, timestamp_column="time", random_state=0),
)
print(in_time.history_)
pd.DataFrame(scores).T.round(3)

# %%
# The table decides. Two towers are ahead of EASE. The features give away little for known
# articles, and with them the model can say something about an article without purchases.
# We go on with features, and without the time.
#
# The test
# --------
# The final models are trained on everything before 10 November.

known = past[past["time"] < november]
popular = PopularRecommender(**columns).fit(known)
ease = EASERecommender(**columns).fit(known)
model = TwoTowerRecommender(**columns, **features, random_state=0).fit(known)
models = {"most popular": popular, "EASE": ease, "two towers": model}
pd.DataFrame({name: score(final, test) for name, final in models.items()}).T.round(3)

# %%
# The same for lists of other lengths:

_ = RankingCurveDisplay.from_estimators(
    models, test, metric="ndcg", k=50, exclude_seen=False
)

# %%
# Slices for the boss
# -------------------
# One mean hides who is served well. A report has a row for each slice, with an interval: by
# how much customers had bought before, and by country.

report = ranking_report(
    model, test, metrics="ndcg@10", by="activity", exclude_seen=False, random_state=0
)
report.round(3)

# %%

country = data.user_table.set_index("customer_id")["country"]
at_home = country.eq("United Kingdom").map({True: "at home", False: "abroad"})
ranking_report(
    model, test, metrics="ndcg@10", by=at_home, exclude_seen=False, random_state=0
).round(3)

# %%
# What a customer would get
# -------------------------
# Articles bought before, and articles that are new to the customer, are two questions. The
# first list may repeat, the second may not.

customer = known["customer_id"].value_counts().index[100]
titles = articles.set_index("item_id")["title"]
again, _ = model.recommend([customer], n_recommendations=5, exclude_seen=False)
new, _ = model.recommend([customer], n_recommendations=5)
pd.DataFrame({"may repeat": titles[again[0]].tolist(), "new": titles[new[0]].tolist()})

# %%
# A list of new articles is often much of the same. ``diversify`` asks for articles that
# differ from those above them:

varied, _ = model.recommend([customer], n_recommendations=5, diversify=0.5)
pd.DataFrame({"new": titles[new[0]].tolist(), "diversified": titles[varied[0]].tolist()})

# %%
# Why this article?
# -----------------
# What each field adds to the score of the first one, and which purchases speak for it:

_ = ExplanationDisplay.from_estimator(model, customer, new[0, 0], labels=titles, n_parts=5)

# %%
# Articles that nobody has bought
# -------------------------------
# Some articles of the test month had no purchase before. The table has their titles and
# prices, so they are in the catalogue. When a customer bought such an article, how many of
# the other articles without purchases did the model rank below it for this customer? By
# chance it would be half of them:

bought = test[~test["item_id"].isin(known["item_id"])]
bought = bought[bought["customer_id"].isin(known["customer_id"])]
bought = bought.drop_duplicates(["customer_id", "item_id"])
vectors = dict(zip(model.user_ids_, model.user_embeddings_, strict=True))
item_vectors = dict(zip(model.item_ids_, model.item_embeddings_, strict=True))
sold = set(known["item_id"])
never_sold = [item for item in articles["item_id"] if item not in sold]
others = np.array([item_vectors[item] for item in never_sold])
beaten = [
    np.sum(others @ vectors[user] < item_vectors[item] @ vectors[user]) / (len(others) - 1)
    for user, item in zip(bought["customer_id"], bought["item_id"], strict=True)
]
print(f"{len(beaten)} purchases of {bought['item_id'].nunique()} new articles")
print(f"on average they beat {np.mean(beaten):.0%} of the articles without purchases")

# %%
# An article that is not even in the table is added by ``add_items``, without training:

lantern = pd.DataFrame(
    {"item_id": ["NEW-1"], "title": ["RED METAL LANTERN WITH HEART"], "price": [2.5]}
)
model.add_items(lantern)
like_it, _ = model.similar_items(["NEW-1"], n_recommendations=5)
titles[like_it[0]].tolist()

# %%
# Save and serve
# --------------
# ``save`` writes a folder without pickle. Another process loads it, and answers for known
# customers, and for a visitor with two articles in the basket. The first answer takes
# longest:

with tempfile.TemporaryDirectory() as folder:
    model.save(folder)
    served = sktwotower.load(folder)

visitor = -1  # an id that no customer has
basket = {visitor: ["85123A", "22423"]}
for _ in range(2):
    started = time.perf_counter()
    offers, _ = served.recommend([visitor], n_recommendations=5, history=basket)
    print(f"{1000 * (time.perf_counter() - started):.0f} ms")
print("in the basket:", ", ".join(titles[basket[visitor]]))
titles[offers[0]].tolist()

# %%
# Where to go from here: :doc:`/user_guide/serving` has a web service and batches,
# :doc:`/user_guide/growing` trains on the purchases of each new day, and
# :doc:`/user_guide/which_settings` says what to tune first.
