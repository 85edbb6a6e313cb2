"""Ids and codes, side tables, and encoded features as fields."""

import pickle
import uuid
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sktwotower import EntityTable
from sktwotower._data.encoding import as_features, dense_fields, encoder_input, field_slices
from sktwotower._data.entities import Entities
from sktwotower._data.entity_building import build_entities
from sktwotower._data.entity_table import as_table
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._nn.towers import Tower
from sktwotower.preprocessing import FeatureEncoder

# --- Vocabulary ----------------------------------------------------------------------


@given(st.lists(st.integers(-5, 5) | st.text(max_size=2), max_size=20))
@settings(max_examples=50, deadline=None)
def test_codes_number_ids_in_order_of_appearance(ids):
    array = np.empty(len(ids), dtype=object)
    array[:] = ids
    vocabulary = Vocabulary(array)
    distinct = list(dict.fromkeys(ids))
    assert vocabulary.ids.tolist() == distinct
    assert len(vocabulary) == len(distinct)
    assert vocabulary.codes(array).tolist() == [distinct.index(i) + 1 for i in ids]
    assert vocabulary.codes(array).dtype == np.int32


def test_unknown_is_zero():
    vocabulary = Vocabulary(np.array([10, 20]))
    assert vocabulary.codes(np.array([20, 30, 10, -1])).tolist() == [2, 0, 1, 0]
    assert vocabulary.codes(np.array(["10", "x"], dtype=object)).tolist() == [0, 0]
    assert vocabulary.codes(np.array([10.0, 10.5])).tolist() == [1, 0]
    assert vocabulary.codes(np.array([uuid.UUID(int=1)])).tolist() == [0]
    assert vocabulary.codes(np.array([], dtype=object)).tolist() == []
    assert Vocabulary().codes(np.array([1])).tolist() == [0]


def test_signed_and_unsigned_integers_are_the_same_ids():
    vocabulary = Vocabulary(np.array([1, 2], dtype=np.uint64))
    assert vocabulary.codes(np.array([2, -1, 1])).tolist() == [2, 0, 1]


def test_large_integers_are_not_rounded():
    vocabulary = Vocabulary(np.array([2**53, 2**53 + 1]))
    assert vocabulary.codes(np.array([2**53 + 1, 2**53, 2**53 + 2])).tolist() == [2, 1, 0]
    big = Vocabulary(np.array([2**63 + 1, 2**63 + 2], dtype=np.uint64))
    assert big.codes(np.array([2**63 + 2], dtype=np.uint64)).tolist() == [2]


def test_datetimes_of_another_unit_are_the_same_ids():
    days = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[ns]")
    vocabulary = Vocabulary(days)
    assert vocabulary.codes(days.astype("datetime64[s]")[::-1]).tolist() == [2, 1]


def test_extend_appends():
    first = Vocabulary(np.array([5, 3]))
    longer = first.extend(np.array([4, 3, 4, 9]))
    assert longer.ids.tolist() == [5, 3, 4, 9]
    assert first.ids.tolist() == [5, 3]  # unchanged
    assert longer.codes(np.array([5, 3, 4, 9])).tolist() == [1, 2, 3, 4]
    mixed = first.extend(np.array(["a"], dtype=object))
    assert mixed.ids.tolist() == [5, 3, "a"]
    assert mixed.codes(np.array(["a", 3, "b"], dtype=object)).tolist() == [3, 2, 0]
    assert mixed.codes(np.array([3, 5])).tolist() == [2, 1]


def test_tuples_are_ids():
    ids = np.empty(2, dtype=object)
    ids[:] = [(1, "x"), (2, "x")]
    vocabulary = Vocabulary(ids)
    assert vocabulary.codes(ids).tolist() == [1, 2]


# --- EntityTable ---------------------------------------------------------------------

FILMS = pd.DataFrame(
    {
        "film": [30, 10, 20],
        "genre": ["a", "b", "a"],
        "year": [1990.0, np.nan, 2000.0],
        "title": ["red sky", "blue sky", "red sea"],
    }
)


def test_table_knows_its_ids_and_features():
    table = EntityTable(FILMS.set_index(np.array([5, 5, 5])), "film")
    assert table.ids.tolist() == [30, 10, 20]
    assert table.feature_rows.columns.tolist() == ["genre", "year", "title"]
    assert table.feature_rows["title"].tolist() == ["red sky", "blue sky", "red sea"]
    assert table.feature_rows.index.tolist() == [0, 1, 2]


def test_table_with_chosen_features():
    rows = EntityTable(FILMS, "film", features=["title", "film"]).feature_rows
    assert rows.columns.tolist() == ["title", "film"]
    text = EntityTable(FILMS, "film", features="title").feature_rows
    assert isinstance(text, pd.Series)
    assert text.tolist() == ["red sky", "blue sky", "red sea"]


def test_table_is_shared_by_clones_and_not_copied():
    table = EntityTable(FILMS, "film")
    assert clone(table) is table
    assert table.frame is FILMS
    assert pickle.loads(pickle.dumps(table)).ids.tolist() == [30, 10, 20]
    assert len(repr(table)) < 200
    assert "3 rows" in repr(table)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EntityTable([1, 2], "film"), TypeError, "data frame; got list"),
        (
            lambda: EntityTable(FILMS, "movie"),
            ValueError,
            r"no column 'movie'; its columns are \['film'",
        ),
        (
            lambda: EntityTable(FILMS, "film", features=["gener"]),
            ValueError,
            "no column 'gener'",
        ),
        (
            lambda: EntityTable(FILMS.set_axis(["film", "a", "b", "film"], axis=1), "film"),
            ValueError,
            "film",
        ),
        (
            lambda: EntityTable(FILMS.assign(film=[1, 2, 1]), "film"),
            ValueError,
            r"1 row with a duplicate id in column 'film' \(first at row 2\)",
        ),
        (
            lambda: EntityTable(FILMS.assign(film=[1, np.nan, np.nan]), "film"),
            ValueError,
            r"The table has 2 rows with a missing id .*first at row 1",
        ),
    ],
)
def test_bad_tables(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_plain_frames_find_their_ids():
    def ids_of(frame, **options):
        options = {"id_column": 1, "names": ["user", "film"]} | options
        return as_table(frame, parameter="item_table", **options).ids.tolist()

    assert ids_of(FILMS) == [30, 10, 20]
    assert ids_of(FILMS[["title", "film"]]) == [30, 10, 20]  # by the name in X
    assert ids_of(FILMS, id_column="film") == [30, 10, 20]
    assert ids_of(FILMS, names=None) == [30, 10, 20]  # X is an array: the first column
    assert ids_of(FILMS.rename(columns={"film": "id"})) == [30, 10, 20]
    assert as_table(None, parameter="item_table", id_column=0, names=None) is None
    table = EntityTable(FILMS, "film")
    assert as_table(table, parameter="item_table", id_column=0, names=None) is table


def test_bad_plain_frames_name_the_parameter():
    def table(frame):
        return as_table(
            frame, parameter="item_table", id_column="film", names=["u", "film"]
        )

    with pytest.raises(ValueError, match="item_table.*1 row with a duplicate id"):
        table(FILMS.assign(film=[1, 1, 2]))
    with pytest.raises(TypeError, match="item_table must be a DataFrame"):
        table({"film": [1, 2]})
    # Without a column of that name, the first column has the ids.
    with pytest.raises(ValueError, match="item_table.*'genre'"):
        table(FILMS.drop(columns="film"))


# --- encoded features ----------------------------------------------------------------


ONE_HOT = OneHotEncoder()


def build(ids, trained=None, table=FILMS, encoder=ONE_HOT, **options):
    ids = np.asarray(ids)
    trained = np.ones(len(ids), bool) if trained is None else np.asarray(trained)
    if table is not None and not isinstance(table, EntityTable):
        table = EntityTable(table, "film", **options)
    entities, *_ = build_entities(ids, trained, table, encoder, parameter="item_table")
    return entities, entities.encoder


def test_entities_without_a_table():
    entities, encoder = build([7, 5, 7], table=None, encoder=None)
    assert encoder is None
    assert entities.vocabulary.ids.tolist() == [7, 5]
    assert entities.id_codes.tolist() == [0, 1, 2]
    rows = entities.rows(with_id=True)
    assert (len(rows), rows.n_ids, rows.n_fields) == (3, 3, 1)


def test_training_ids_come_first_and_features_follow_them():
    entities, encoder = build([20, 10, 20], features=["genre"])
    assert entities.vocabulary.ids.tolist() == [20, 10, 30]
    assert entities.id_codes.tolist() == [0, 1, 2, 0]  # 30 has no training row
    assert entities.features.toarray().tolist() == [[0, 0], [1, 0], [0, 1], [1, 0]]
    assert entities.fields == {"features": slice(0, 2)}
    assert encoder.categories_[0].tolist() == ["a", "b"]
    assert len(entities) == 3


def test_rows_that_do_not_train_leave_the_id_unknown():
    entities, _ = build([20, 10, 30, 10], trained=[True, False, True, False])
    assert entities.vocabulary.ids.tolist() == [20, 10, 30]
    assert entities.id_codes.tolist() == [0, 1, 0, 2]
    assert entities.rows(with_id=True).n_ids == 3


def test_ids_that_the_table_lacks_have_empty_rows():
    with pytest.warns(UserWarning, match="item_table lacks 1 of the 2 ids"):
        entities, _ = build([99, 10], features=["genre"])
    assert entities.features.toarray().tolist() == [[0, 0], [0, 0], [0, 1], [1, 0], [1, 0]]


def test_the_encoder_is_cloned_and_the_table_untouched():
    before = FILMS.copy()
    encoder = OneHotEncoder()
    _, fitted = build([10], encoder=encoder)
    assert fitted is not encoder
    assert not hasattr(encoder, "categories_")
    pd.testing.assert_frame_equal(FILMS, before)


def test_column_transformer_gives_fields():
    encoder = ColumnTransformer(
        [
            ("genre", OneHotEncoder(), ["genre"]),
            ("words", CountVectorizer(), "title"),
            ("nothing", "drop", ["year"]),
        ]
    )
    entities, _ = build([10, 20, 30], encoder=encoder)
    assert entities.fields == {"genre": slice(0, 2), "words": slice(2, 6)}
    assert entities.rows(with_id=True).n_fields == 3


def test_pipeline_gives_the_fields_of_its_last_step():
    encoder = make_pipeline(
        FunctionTransformer(lambda frame: frame[["genre", "year"]]), FeatureEncoder()
    )
    entities, _ = build([10, 20, 30], encoder=encoder)
    assert list(entities.fields) == ["genre", "year"]


def test_text_vectorizer_takes_one_column():
    by_name, _ = build([10, 20, 30], encoder=TfidfVectorizer(), features="title")
    only, _ = build([10, 20, 30], encoder=TfidfVectorizer(), features=["title"])
    inside, _ = build(
        [10, 20, 30], encoder=make_pipeline(TfidfVectorizer()), features="title"
    )
    expected = TfidfVectorizer().fit_transform(["blue sky", "red sea", "red sky"])
    for entities in (by_name, only, inside):
        np.testing.assert_allclose(
            entities.features[1:].toarray(), expected.toarray(), rtol=1e-6
        )
    with pytest.raises(ValueError, match="TfidfVectorizer encodes a single column"):
        build([10, 20, 30], encoder=TfidfVectorizer())


class OnlyFitAndTransform(BaseEstimator):
    """As few methods as the parameter constraint allows."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X[["year"]].fillna(0), dtype=float)


def test_an_encoder_needs_only_fit_and_transform():
    entities, _ = build([10, 20, 30], encoder=OnlyFitAndTransform())
    assert entities.features[:, 0].toarray().ravel().tolist() == [0, 0, 2000, 1990]


class Constant(TransformerMixin, BaseEstimator):
    """Returns its parameter for any input."""

    def __init__(self, answer=None):
        self.answer = answer

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return self.answer


@pytest.mark.parametrize(
    "encoded",
    [
        np.eye(3),
        np.eye(3, dtype=int),
        sp.csr_matrix(np.eye(3)),
        sp.csc_array(np.eye(3)),
        sp.coo_array(np.eye(3)),
        pd.DataFrame(np.eye(3)),
        np.eye(3, dtype=bool),
    ],
    ids=lambda encoded: type(encoded).__name__,
)
def test_encoders_may_return_any_matrix(encoded):
    matrix = as_features(encoded, "item_table", 3)
    assert matrix.dtype == np.float32
    assert matrix.format == "csr"
    assert (matrix.toarray() == np.eye(3)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_numbers_from_an_encoder_name_the_row_of_the_table(bad):
    """Row numbers are those of the table, not of the training data."""
    films = FILMS.assign(year=[bad, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"item_table.*1 value.*row 0\)"):
        build([20, 10, 30], table=films, encoder=StandardScalerOfYear())


class StandardScalerOfYear(TransformerMixin, BaseEstimator):
    """Returns a column as it is."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X[["year"]].to_numpy()


def test_infinite_features_name_the_column_and_the_row_of_the_table():
    films = FILMS.assign(year=[np.inf, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"'year' has 1 infinite value \(first at row 0\)"):
        build([20, 10, 30], table=films, encoder=FeatureEncoder())


def test_fields_of_no_column_are_no_fields():
    encoder = Constant()
    encoder.output_indices_ = {"a": slice(0, 0), "b": slice(0, 2), "remainder": slice(0, 0)}
    assert field_slices(encoder, sp.csr_matrix((1, 2))) == {"b": slice(0, 2)}
    assert field_slices(Constant(), sp.csr_matrix((1, 0))) == {}


def test_a_table_without_features():
    entities, encoder = build([10, 20], table=FILMS[["film"]], encoder=None)
    assert encoder is None
    assert entities.fields == {}
    assert entities.vocabulary.ids.tolist() == [10, 20, 30]


def test_only_text_vectorizers_take_a_column():
    frame = FILMS[["genre"]]
    assert encoder_input(OneHotEncoder(), frame) is frame
    assert isinstance(encoder_input(CountVectorizer(), frame), pd.Series)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 20), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_rows_hold_the_encoded_matrix(seed, widths):
    """Sparse and dense fields: a tower reads X_f @ E_f of each field, whatever its kind."""
    rng = np.random.RandomState(seed)
    blocks = [
        sp.random(5, width, rng.choice([0.1, 0.5, 1.0]), random_state=rng, format="csr")
        for width in widths
    ]
    ends = np.cumsum(widths).tolist()
    fields = {
        f"f{i}": slice(end - width, end)
        for i, (width, end) in enumerate(zip(widths, ends, strict=True))
    }
    matrix = sp.hstack(blocks, format="csr", dtype=np.float32)
    entities = Entities(
        Vocabulary(np.arange(4)),
        np.arange(5, dtype=np.int32),
        matrix,
        fields,
        dense_fields(matrix, fields),
    )
    rows = entities.rows(with_id=True)
    tower = Tower(
        rows,
        embedding_dim=3,
        hidden_layer_sizes=(),
        activation="relu",
        batch_norm=False,
        dropout=0.0,
        normalize=False,
        generator=torch.Generator().manual_seed(0),
    )
    found = tower.fields(rows.take(torch.tensor([4, 0, 2, 2]))).detach().numpy()
    assert found.shape == (4, 1 + len(widths), 3)
    assert rows.n_columns + sum(block.shape[1] for block in rows.dense) == sum(widths)
    is_dense = [
        width >= 16 and block.nnz >= 0.5 * 5 * width
        for width, block in zip(widths, blocks, strict=True)
    ]
    assert len(rows.dense) == sum(is_dense)
    tables = tower.column_table.detach().numpy() if tower.column_table is not None else None
    start, dense = 0, iter(tower.dense_tables)
    expected_sparse, expected_dense = [], []
    for block, is_one in zip(blocks, is_dense, strict=True):
        taken = block.toarray().astype(np.float32)[[4, 0, 2, 2]]
        if is_one:
            expected_dense.append(taken @ next(dense).detach().numpy())
        else:
            stop = start + block.shape[1]
            expected_sparse.append(taken @ tables[start:stop])
            start = stop
    expected = np.stack(expected_sparse + expected_dense, axis=1)
    np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-4, atol=1e-5)


def test_rows_without_the_id():
    entities, _ = build([10, 20, 30], features=["genre"])
    rows = entities.rows(with_id=False)
    assert rows.id_codes is None
    assert rows.n_fields == 1


def test_scaled_numbers_have_no_missing_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entities, _ = build([10, 20, 30], encoder=StandardScaler(), features=["film"])
    np.testing.assert_allclose(entities.features[1:].toarray().sum(), 0, atol=1e-6)
