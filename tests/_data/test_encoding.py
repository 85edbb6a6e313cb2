"""What encoders are given, what they may return, and which are refused."""

import tempfile
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import (
    RFE,
    SelectFromModel,
    SelectKBest,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Lasso
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    StandardScaler,
    TargetEncoder,
)

from sktwotower import EntityTable, TwoTowerRecommender, load
from sktwotower._data.encoding import as_features
from sktwotower._data.feature_frames import value_codes
from sktwotower.pipeline import Pipeline
from sktwotower.preprocessing import FeatureEncoder, MultiHotEncoder
from tests.helpers import needs_pandas_3, same_embeddings

RNG = np.random.default_rng(0)
X = pd.DataFrame({"user": RNG.integers(0, 9, 80), "item": RNG.integers(0, 12, 80)})
X["tone"] = np.where(X["user"] % 2, "a soft tone", "a harsh tone")
ITEMS = pd.DataFrame(
    {
        "item": range(12),
        "genre": list("abc") * 4,
        "price": np.arange(12.0) % 5,
        "text": ["the red fox", "a blue hat", "a red hat"] * 4,
        "gap": [1.0, np.nan, 2.0] * 4,
    }
)


def make(**parameters):
    defaults = dict(
        user_column="user",
        item_column="item",
        embedding_dim=4,
        max_iter=2,
        random_state=0,
    )
    return TwoTowerRecommender(**defaults | parameters)


def table(*names):
    return EntityTable(ITEMS, "item", features=list(names))


TEXT = EntityTable(ITEMS, "item", features="text")
PRICE = EntityTable(ITEMS, "item", features="price")


class Lengths(TransformerMixin, BaseEstimator):
    """Takes a sequence of texts, as encoders of sentences do."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        assert isinstance(X, pd.Series)
        return np.array([[len(text), text.count("a")] for text in X], dtype=float)


# --- what an encoder is given --------------------------------------------------------


@pytest.mark.parametrize(
    "encoder",
    [
        Lengths(),
        make_pipeline(Lengths(), StandardScaler()),
        make_union(TfidfVectorizer(), CountVectorizer()),
        make_union(Lengths(), make_pipeline(TfidfVectorizer())),
        make_pipeline(
            make_union(TfidfVectorizer(), Lengths()), StandardScaler(with_mean=False)
        ),
        FunctionTransformer(lambda X: X.str.len().to_numpy()[:, None]),
        FrozenEstimator(TfidfVectorizer().fit(ITEMS["text"])),
        FrozenEstimator(Lengths()),
        OneHotEncoder(handle_unknown="ignore"),
        FeatureEncoder(),
        MultiHotEncoder(separator=" "),
        make_union(OneHotEncoder(handle_unknown="ignore"), FeatureEncoder()),
        make_column_transformer((TfidfVectorizer(), "text")),
    ],
    ids=lambda encoder: type(encoder).__name__,
)
def test_one_column_by_a_single_name(encoder):
    model = make(item_table=TEXT, item_encoder=encoder, id_dropout=0.1).fit(X)
    new = pd.DataFrame({"item": [99, 98], "text": ["a red fox", "hat"]})
    ids, scores = model.recommend([1, 2], candidates=new, n_recommendations=2)
    assert set(ids[0]) == {99, 98} and np.isfinite(scores).all()
    model.partial_fit(X)


@pytest.mark.parametrize("encoder", [None, MultiHotEncoder(), FeatureEncoder()])
def test_an_encoder_of_a_single_name_learns_more_rows(encoder):
    model = make(item_table=TEXT, item_encoder=encoder).fit(X)
    more = pd.DataFrame({"item": range(12, 16), "text": ["new", "newer"] * 2})
    items = EntityTable(pd.concat([ITEMS, more]), "item", features="text")
    model.set_params(item_table=items).partial_fit(X)
    names = model.item_encoder_.get_feature_names_out()
    assert names[-2:].tolist() == ["text_new", "text_newer"]


def test_one_column_of_X_by_a_single_name():
    model = make(user_features="tone", user_encoder=Lengths()).fit(X)
    one, other = model.recommend(pd.DataFrame({"tone": ["a soft tone", "loud"]}))[1]
    assert not np.allclose(one, other)


class OwnScaler(StandardScaler):
    """A transformer of tables that scikit-learn's tags say nothing of."""

    def fit(self, X, y=None):
        return super().fit(X)


def test_own_transformers_of_tables_need_a_list_of_names():
    make(item_table=table("price"), item_encoder=OwnScaler()).fit(X)
    with pytest.raises(ValueError, match=r"single name 'price' .*features=\['price'\]"):
        make(item_table=PRICE, item_encoder=OwnScaler()).fit(X)


def test_columns_and_tables_in_one_union_are_refused():
    union = make_union(TfidfVectorizer(), OneHotEncoder())
    message = "OneHotEncoder takes a table and TfidfVectorizer a single column; .*ColumnTr"
    for features in (TEXT, table("text")):
        with pytest.raises(ValueError, match=message):
            make(item_table=features, item_encoder=union).fit(X)
    with pytest.raises(
        ValueError, match="CountVectorizer encodes a single column.*'price'"
    ):
        union = make_union(CountVectorizer(), Lengths())
        make(item_table=table("text", "price"), item_encoder=union).fit(X)


def test_dicts_are_for_a_dict_vectorizer():
    tags = [{"a": 1.0, "b": 2.0}, {"c": "x"}]
    dicts = EntityTable(ITEMS.assign(tags=tags * 6), "item", features="tags")
    make(item_table=dicts, item_encoder=DictVectorizer()).fit(X)
    rows = X.assign(tags=np.resize(tags, 80))
    model = make(user_features="tags", user_encoder=DictVectorizer()).fit(rows)
    assert model.user_encoder_.feature_names_ == ["a", "b", "c=x"]
    for wrong in (make(user_features=["tags"]), make(item_features=["tags"])):
        with pytest.raises(TypeError, match="'tags'.*'dict'.*json_normalize"):
            wrong.fit(rows)


@pytest.mark.parametrize("transform", ["pandas", "polars"])
def test_encoders_with_frames_as_output(transform):
    pytest.importorskip(transform)
    dense = FeatureEncoder(sparse_output=False)
    model = make(item_table=table("genre", "price"), item_encoder=dense).fit(X)
    framed = FeatureEncoder(sparse_output=False).set_output(transform=transform)
    assert same_embeddings(
        model, make(item_table=table("genre", "price"), item_encoder=framed).fit(X)
    )
    assert same_embeddings(model, make(item_table=table("genre", "price")).fit(X))
    sparse = FeatureEncoder().set_output(transform=transform)
    with pytest.raises(ValueError, match="sparse_output=False in FeatureEncoder"):
        make(item_table=table("genre"), item_encoder=sparse).fit(X)


def test_an_encoder_in_front_of_the_model():
    front = ColumnTransformer(
        [("tone", FeatureEncoder(sparse_output=False), ["tone"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    names = ["tone_a harsh tone", "tone_a soft tone"]
    model = Pipeline([("front", front), ("model", make(user_features=names))]).fit(X)
    assert list(model[-1].user_encoder_.kinds_) == names
    assert model.recommend(X)[0].shape[0] == len(X)


# --- which are refused, and which are never fitted -----------------------------------


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        (TargetEncoder(), "TargetEncoder"),
        (SelectKBest(k=1), "SelectKBest"),
        (LinearDiscriminantAnalysis(), "LinearDiscriminantAnalysis"),
        pytest.param(PLSRegression(), "PLSRegression", marks=needs_pandas_3),
        (RFE(Lasso()), "RFE"),
        (SelectFromModel(Lasso()), "SelectFromModel"),
        (SequentialFeatureSelector(Lasso()), "SequentialFeatureSelector"),
        (make_pipeline(StandardScaler(), SelectKBest()), "SelectKBest"),
        (make_union(StandardScaler(), TargetEncoder()), "TargetEncoder"),
        (make_column_transformer((TargetEncoder(), ["price"])), "TargetEncoder"),
        (ColumnTransformer([], remainder=TargetEncoder()), "TargetEncoder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("side", ["user", "item"])
def test_encoders_that_need_a_target_are_refused(side, encoder, name):
    rows = X.assign(price=1.0, size=X["user"] * 2.0)
    model = make(**{f"{side}_features": ["price", "size"], f"{side}_encoder": encoder})
    message = f"^{side}_encoder cannot have a {name}, which learns from a target y.*Frozen"
    with pytest.raises(ValueError, match=message):
        model.fit(rows)


def test_selection_without_a_target_works():
    model = make(item_table=table("price"), item_encoder=VarianceThreshold()).fit(X)
    assert list(model.item_encoder_.get_support()) == [True]


def test_frozen_encoders_are_never_fitted():
    features = ["genre", "price"]
    target = TargetEncoder(target_type="continuous").fit(ITEMS[["genre"]], ITEMS["price"])
    own = FeatureEncoder().fit(ITEMS.head(6)[features])
    names = own.get_feature_names_out().tolist()
    more = ITEMS.assign(genre=list("xyz") * 4, item=range(20, 32))
    later = X.assign(item=X["item"] + 20)
    for encoder in (
        FrozenEstimator(own),
        make_column_transformer((FrozenEstimator(target), ["genre"])),
        make_pipeline(FrozenEstimator(own), StandardScaler(with_mean=False)),
    ):
        model = make(item_table=table(*features), item_encoder=encoder).fit(X)
        n_columns = model.item_encoder_.transform(ITEMS[features]).shape[1]
        both = pd.concat([ITEMS, more], ignore_index=True)
        model.set_params(item_table=EntityTable(both, "item", features=features))
        model.partial_fit(later)
        assert model.item_encoder_.transform(more[features]).shape[1] == n_columns
    assert own.get_feature_names_out().tolist() == names
    frozen = make(item_table=table(*features), item_encoder=FrozenEstimator(own)).fit(X)
    assert frozen.item_encoder_.estimator is own
    assert same_embeddings(
        frozen, make(item_table=table(*features), item_encoder=FrozenEstimator(own)).fit(X)
    )


@pytest.mark.parametrize("names", [["genre", "prise"], "prise"])
@pytest.mark.parametrize("wrap", [lambda step: step, make_pipeline, make_union])
def test_a_misspelt_column_of_an_encoder(names, wrap):
    encoder = make_column_transformer((OneHotEncoder(), names))
    message = r"^item_encoder names .*\['prise'\].* 'price', .*Did you mean 'price'\?$"
    with pytest.raises(ValueError, match=message):
        make(item_table=ITEMS, item_encoder=wrap(encoder)).fit(X)


def test_a_fitted_encoder_may_drop_a_column_that_is_not_there():
    encoder = make_column_transformer((OneHotEncoder(), ["genre"]), ("drop", ["text"]))
    frozen = FrozenEstimator(encoder.fit(ITEMS))
    table = ITEMS[["item", "genre"]]
    model = make(item_table=table, item_encoder=frozen).fit(X)
    assert model.item_encoder_.transform(table).shape == (12, 3)


@pytest.mark.parametrize("side", ["user", "item"])
def test_an_encoder_with_nothing_to_encode_is_an_error(side):
    message = rf"{side}_encoder=FeatureEncoder\(\) has nothing to encode: {side}_table"
    with pytest.raises(ValueError, match=message):
        make(**{f"{side}_encoder": FeatureEncoder()}).fit(X)
    bare = pd.DataFrame({side: range(12)})
    with pytest.raises(ValueError, match=message):
        make(**{f"{side}_encoder": FeatureEncoder(), f"{side}_table": bare}).fit(X)
    with pytest.raises(ValueError, match=message):
        make(**{f"{side}_encoder": FeatureEncoder()}).partial_fit(X)


# --- what an encoder returns ---------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda X: np.ones(len(X)), r"item_table returned output of shape \(12,\) for 12"),
        (lambda X: np.ones((1, 3)), r"shape \(1, 3\) for 12 rows.*features='...'"),
        (lambda X: np.ones((len(X), 2, 2)), r"shape \(12, 2, 2\)"),
        (
            lambda X: X.astype(str).to_numpy() + "x",
            "not float32 numbers.*could not convert",
        ),
        (lambda X: X.to_numpy(object).astype(int).astype(object) + 10**400, "too large"),
        (lambda X: X.to_numpy() / 0, r"item_table returned 12 values that are NaN or inf"),
    ],
)
def test_wrong_output_is_refused(returned, message):
    encoder = FunctionTransformer(returned)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        make(item_table=table("price"), item_encoder=encoder).fit(X)


@pytest.mark.parametrize("value", [1e30, -1e300, 2.0**63, 1e13])
def test_large_output_is_clipped_with_a_warning(value):
    matrix = np.array([[0.5, 1.0], [value, 2.0], [1.0, 0.0]])
    with pytest.warns(
        UserWarning, match=r"of items returned 1 values beyond 1e\+12 .*row 1"
    ):
        clipped = as_features(matrix, "items", 3)
    expected = np.clip(matrix, -1e12, 1e12).astype(np.float32)
    np.testing.assert_array_equal(clipped.toarray(), expected)
    matrix[1, 0] = 1e12
    as_features(matrix, "items", 3)  # a warning would be an error


# --- extreme features ----------------------------------------------------------------

EXTREMES = [1e30, 1e38, 1e300, -1e308, Decimal("1e400"), 2**63]
EXTREMES += [pytest.param(10**400, marks=needs_pandas_3)]


@pytest.mark.parametrize("value", EXTREMES, ids=lambda value: str(value)[:6])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"hidden_layer_sizes": None}, {"normalize": False}, {"item_id_embedding": False}],
    ids=str,
)
def test_extreme_features_of_a_query_never_make_a_zero_vector(value, parameters):
    items = ITEMS[["item", "price"]].assign(vector=[[p, 0.5] for p in ITEMS["price"]])
    model = make(item_table=items, **parameters).fit(X)
    rows = pd.DataFrame({"item": [1000, 1001], "price": [value, 1.0]})
    rows["vector"] = [[0.0, 1.0], [value, 1.0]]
    vectors = model.item_tower_.transform(rows)
    assert np.isfinite(vectors).all() and (np.linalg.norm(vectors, axis=1) > 0.1).all()
    scaled = make(item_table=PRICE, item_encoder=StandardScaler(), **parameters).fit(X)
    if abs(value) < 10**308:
        with pytest.warns(UserWarning, match="queries returned 1 values beyond"):
            (vector, _) = scaled.item_tower_.transform(rows[["item", "price"]])
        assert np.isfinite(vector).all() and np.linalg.norm(vector) > 0.1
    elif isinstance(value, int):
        with pytest.raises(
            ValueError, match=r"columns \['price'\] hold numbers that are too"
        ):
            scaled.item_tower_.transform(rows[["item", "price"]])


@pytest.mark.parametrize("value", EXTREMES, ids=lambda value: str(value)[:6])
def test_extreme_features_of_fit_never_make_a_zero_vector(value):
    prices = pd.Series([*ITEMS["price"][:-1], value], dtype=object)
    vectors = pd.Series([[price, 0.5] for price in prices])
    items = ITEMS[["item"]].assign(price=prices, vector=vectors)
    model = make(item_table=items, item_id_embedding=False)
    with pytest.warns(UserWarning, match="'price' has 6 different values, of which only 2"):
        model.fit(X)
    lengths = np.linalg.norm(model.item_embeddings_, axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    rows = X.assign(price=1.0).astype({"price": object})
    rows.loc[rows["user"] == 3, "price"] = value
    model = make(user_features=["price"], popularity_prior=None).fit(rows)
    np.testing.assert_allclose(np.linalg.norm(model.user_embeddings_, axis=1), 1, rtol=1e-5)
    assert np.isfinite(model.predict(rows)).all()


# --- rows that lack columns ----------------------------------------------------------


def test_incomplete_rows_are_not_blamed_for_columns_that_are_dropped():
    encoder = make_column_transformer((OneHotEncoder(), ["genre"]))
    model = make(item_table=ITEMS, item_encoder=encoder, id_dropout=0.1).fit(X)
    model.recommend([1], candidates=pd.DataFrame({"item": [99], "genre": ["a"]}))
    with pytest.raises(ValueError, match="Found unknown categories") as caught:
        model.recommend([1], candidates=pd.DataFrame({"item": [99], "genre": ["NEW"]}))
    assert "price" not in str(caught.value)


def test_incomplete_rows_are_blamed_for_what_is_needed_and_missing():
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["genre"]),
        (TfidfVectorizer(), "text"),
        (StandardScaler(), ["price"]),
    )
    complete = ITEMS.drop(columns="gap")
    model = make(item_table=complete, item_encoder=encoder, id_dropout=0.1).fit(X)
    with pytest.raises(ValueError, match=r"cannot encode rows without \['text'\], which"):
        model.recommend(
            [1], candidates=pd.DataFrame({"item": [9], "price": [1.0]}).assign(item=99)
        )
    model.recommend(
        [1], candidates=pd.DataFrame({"item": [99], "text": ["red"], "price": [2.0]})
    )
    # Known items have their values from training.
    model.recommend([1], candidates=pd.DataFrame({"item": [1], "price": [2.0]}))


# --- what is printed, and equal values -----------------------------------------------


def test_verbose_prints_what_each_column_became(capsys):
    encoder = ColumnTransformer(
        [
            (
                "words",
                make_pipeline(TfidfVectorizer(), StandardScaler(with_mean=False)),
                "text",
            ),
            ("price", "passthrough", ["price"]),
            ("unused", "drop", ["gap"]),
        ],
        remainder=FeatureEncoder(),
    )
    model = make(item_table=ITEMS, item_encoder=encoder, user_features=["tone"], verbose=1)
    model.fit(X)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if " feature " in line] == [
        "user feature tone: category, 2 columns",
        "item feature words: TfidfVectorizer + StandardScaler, 5 columns",
        "item feature price: FunctionTransformer, 1 column",
        "item feature remainder genre: category, 3 columns",
    ]
    model.partial_fit(X)
    assert " feature " not in capsys.readouterr().out
    make(item_table=TEXT, item_encoder=CountVectorizer(), verbose=1).fit(X)
    assert "item feature features: CountVectorizer, 5 columns" in capsys.readouterr().out


def test_kinds_are_those_of_encoders_of_this_package(capsys):
    class Other(CountVectorizer):
        kinds_ = 3

    frozen = FrozenEstimator(FeatureEncoder().fit(X[["tone"]]))
    make(
        item_table=TEXT,
        item_encoder=Other(),
        user_features=["tone"],
        user_encoder=frozen,
        verbose=1,
    ).fit(X)
    printed = capsys.readouterr().out
    assert "user feature tone: category, 2 columns" in printed
    assert "item feature features: Other, 5 columns" in printed


def test_a_fit_warns_once_of_each_column():
    titles = [f"title {i}" for i in range(12)]
    items = ITEMS[["item", "price"]].assign(title=titles)
    users = pd.DataFrame({"user": range(9), "name": [f"name {i}" for i in range(9)]})
    model = make(item_table=items, user_table=users, early_stopping=True, max_iter=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X)
    assert sorted(str(w.message).split()[1] for w in caught) == ["'name'", "'title'"]
    assert {w.filename for w in caught} == {__file__}
    model = make(item_table=items)
    with pytest.warns(UserWarning, match="'title'"):
        model.fit(X)
    model.partial_fit(X)  # a warning would be an error
    model.recommend([1], candidates=items.assign(item=range(50, 62)))


def test_equal_values_of_any_type_have_equal_codes():
    pa = pytest.importorskip("pyarrow")
    lists = pd.array(
        [["a"], ["b"], ["a"], None], dtype=pd.ArrowDtype(pa.list_(pa.string()))
    )
    dicts = [{"a": [1], "b": 2}, {"b": 1}, {"b": 2, "a": [1]}, None]
    for values in (lists, dicts):
        assert value_codes(pd.Series(values)).tolist() == [0, 1, 0, 2]


@needs_pandas_3
def test_lone_surrogates_are_stored():
    text = pd.Series(["\ud800", "b", "c\udfff"] * 4, dtype=object)
    model = make(item_table=ITEMS[["item"]].assign(text=text)).fit(X)
    pytest.importorskip("skops.io")
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder + "/model")
        loaded = load(folder + "/model")
    assert loaded.item_encoder_.get_feature_names_out()[1] == "text_c\udfff"
    np.testing.assert_array_equal(loaded.recommend([1])[1], model.recommend([1])[1])
