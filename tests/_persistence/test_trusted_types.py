"""Encoders of scikit-learn load again without ``trusted=``, and bad positions do not."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA, LatentDirichletAllocation, TruncatedSVD
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfVectorizer,
)
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from sktwotower._persistence.manifest import StoredFiles
from sktwotower._persistence.objects import read_objects, write_objects
from sktwotower.preprocessing import FeatureEncoder, MultiHotEncoder

pytest.importorskip("skops.io")

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "x": RNG.gamma(1, size=50),
        "z": RNG.gamma(1, size=50),
        "category": RNG.choice(list("abc"), 50),
        "typed": pd.Categorical(RNG.choice(list("xy"), 50)),
        "flag": RNG.random(50) < 0.5,
        "date": pd.date_range("2020", periods=50),
    }
)
NUMBERS = FRAME[["x", "z"]]
TEXTS = pd.Series(["the red fox", "a blue hat"] * 25)
LISTS = pd.Series([["a"], ["b", "c"]] * 25)
SELECTED = make_column_transformer(
    (StandardScaler(), make_column_selector(dtype_include=np.number)),
    (OneHotEncoder(), make_column_selector(dtype_include=pd.CategoricalDtype)),
    (FeatureEncoder(), make_column_selector("date|flag")),
)

# Before scikit-learn 1.7 there is one way to compute quantiles.
QUANTILES = {"quantile_method": "averaged_inverted_cdf"}
if "quantile_method" not in KBinsDiscretizer().get_params():
    QUANTILES = {}
ENCODERS = [
    *(
        (encoder, NUMBERS)
        for encoder in [
            StandardScaler().set_output(transform="pandas"),
            MinMaxScaler(),
            MaxAbsScaler(),
            RobustScaler(),
            Normalizer(),
            PowerTransformer(),
            QuantileTransformer(n_quantiles=5),
            KBinsDiscretizer(4, **QUANTILES),
            KBinsDiscretizer(4, strategy="uniform", dtype=np.float32),
            SplineTransformer(),
            SplineTransformer(n_knots=3, degree=2, extrapolation="periodic"),
            make_pipeline(SimpleImputer(add_indicator=True), SplineTransformer()),
            PolynomialFeatures(),
            FunctionTransformer(np.log1p),
            FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 1}),
            FunctionTransformer(np.nan_to_num),
            IterativeImputer(),
            KNNImputer(),
            MissingIndicator(features="all"),
            VarianceThreshold(),
            PCA(1, random_state=np.random.RandomState(0)),
            RBFSampler(n_components=3),
            Nystroem(n_components=3),
            GaussianRandomProjection(2),
            SparseRandomProjection(2, dense_output=True),
        ]
    ),
    (FunctionTransformer(pd.to_numeric), FRAME["x"]),
    (OneHotEncoder(min_frequency=2, dtype=np.float32), FRAME[["category"]]),
    (OneHotEncoder(handle_unknown="infrequent_if_exist"), FRAME[["flag", "typed"]]),
    (OneHotEncoder(), FRAME[["date"]]),
    (
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
        FRAME[["category", "typed"]],
    ),
    (TfidfVectorizer(strip_accents="unicode", stop_words="english"), TEXTS),
    (HashingVectorizer(n_features=16), TEXTS),
    (FeatureHasher(16, input_type="string"), LISTS),
    (DictVectorizer(), [{"a": 1}, {"b": "x"}]),
    (make_pipeline(TfidfVectorizer(), TruncatedSVD(2)), TEXTS),
    (make_pipeline(CountVectorizer(), LatentDirichletAllocation(2)), TEXTS),
    (make_union(TfidfVectorizer(), CountVectorizer()), TEXTS),
    (FeatureEncoder(sparse_output=False), FRAME.assign(lists=LISTS)),
    (MultiHotEncoder(), LISTS.to_frame("lists")),
    (FrozenEstimator(FeatureEncoder().fit(FRAME)), FRAME),
    (SELECTED, FRAME),
    (ColumnTransformer([("x", StandardScaler(), slice(0, 1))]), FRAME),
]


def stored(encoder, folder):
    write_objects(folder / "objects.skops", {"encoder": encoder})
    files = StoredFiles(folder, frozenset({"objects.skops"}), 2**20)
    return read_objects("objects.skops", files, [])["encoder"]


@pytest.mark.filterwarnings("ignore:Instantiating CategoricalDtype")  # scikit-learn 1.6
@pytest.mark.parametrize(
    ("encoder", "X"), ENCODERS, ids=[type(encoder).__name__ for encoder, _ in ENCODERS]
)
def test_encoders_load_again(encoder, X, tmp_path):
    encoder.fit(X, None)
    one, other = (e.transform(X) for e in (encoder, stored(encoder, tmp_path)))
    if sp.issparse(one):
        one, other = one.toarray(), other.toarray()
    np.testing.assert_array_equal(one, other)


def test_splines_and_matrices_that_point_outside_are_refused(tmp_path):
    encoder = SplineTransformer().fit(NUMBERS)
    encoder.bsplines_[0].k = 1000
    with pytest.raises(
        ValueError, match="objects.skops .*cannot be read: ValueError: Need"
    ):
        stored(make_pipeline(encoder), tmp_path)
    encoder = SparseRandomProjection(2, density=0.9, random_state=0).fit(NUMBERS)
    encoder.components_.indices[0] = 10**6
    with pytest.raises(ValueError, match="objects.skops .*cannot be read: ValueError"):
        stored({"nested": [encoder]}, tmp_path)


def test_trees_of_neighbours_are_not_trusted(tmp_path):
    from sklearn.neighbors import KNeighborsTransformer

    with pytest.raises(ValueError, match="KDTree"):
        stored(KNeighborsTransformer().fit(NUMBERS), tmp_path)
