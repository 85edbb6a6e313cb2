"""A fitted tower as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from sktwotower._entities import Vocabulary
from sktwotower.utils._columns import as_pandas, id_array


class TowerTransformer(TransformerMixin, BaseEstimator):
    """Ids in, embeddings out: one side of a fitted recommender for a Pipeline.

    This is how two-tower embeddings enter the Pipeline of a second-stage ranker. Like
    scikit-learn's ``FrozenEstimator`` it comes fitted and stays so: ``fit`` does nothing,
    and ``clone`` returns it as it is. Not made directly, but taken from a recommender:
    ``model.user_tower_`` and ``model.item_tower_``.

    Parameters
    ----------
    side : {"user", "item"}
        Whose ids it takes.
    vocabulary : Vocabulary
        Which ids are known.
    embeddings : ndarray of shape (n, embedding_dim)
        Their vectors.
    unknown : ndarray of shape (embedding_dim,)
        The vector of every other id.

    Examples
    --------
    >>> from sktwotower import TwoTowerRecommender
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"]]
    >>> model = TwoTowerRecommender(embedding_dim=2, random_state=0).fit(X)
    >>> model.item_tower_.transform(["milk", "tea", "rum"]).shape
    (3, 2)
    >>> model.item_tower_.get_feature_names_out()
    array(['item_embedding0', 'item_embedding1'], dtype=object)
    """

    def __init__(
        self, side: str, vocabulary: Vocabulary, embeddings: np.ndarray, unknown: np.ndarray
    ) -> None:
        self.side = side
        self.vocabulary = vocabulary
        self.embeddings = embeddings
        self.unknown = unknown

    def __sklearn_clone__(self) -> TowerTransformer:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __repr__(self) -> str:
        n, dim = self.embeddings.shape
        return f"TowerTransformer({self.side!r}, {n} ids, embedding_dim={dim})"

    def fit(self, X: Any = None, y: Any = None) -> TowerTransformer:
        """Do nothing; the tower is fitted.

        Parameters
        ----------
        X, y : ignored
            Here for the sake of Pipelines.

        Returns
        -------
        self : TowerTransformer
            As it was.
        """
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed ids.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1)
            Ids; a frame has a single column. Unknown ones get the unknown id's vector.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
            Their embeddings.
        """
        ids = as_pandas(X)
        if not isinstance(ids, pd.DataFrame | pd.Series):
            ids = np.asarray(ids, dtype=None if hasattr(ids, "dtype") else object)
        if ids.ndim == 2:
            if ids.shape[1] != 1:
                raise ValueError(
                    f"The {self.side} tower embeds one column of ids; X has "
                    f"{ids.shape[1]} columns."
                )
            ids = ids.iloc[:, 0] if isinstance(ids, pd.DataFrame) else ids[:, 0]
        codes = self.vocabulary.codes(id_array(ids, what=f"{self.side} id"))
        return take_vectors(self.embeddings, self.unknown, codes)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the embedding's dimensions.

        Parameters
        ----------
        input_features : ignored
            Here for the sake of Pipelines.

        Returns
        -------
        ndarray of shape (embedding_dim,), object
            ``user_embedding0`` and so on.
        """
        dim = self.embeddings.shape[1]
        return np.array([f"{self.side}_embedding{i}" for i in range(dim)], dtype=object)


def take_vectors(
    embeddings: np.ndarray, unknown: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    """Vectors of codes (n, embedding_dim); code 0 has the unknown one."""
    vectors: np.ndarray = embeddings[codes - 1]  # code 0 takes the last row, replaced below
    vectors[codes == 0] = unknown
    return vectors
