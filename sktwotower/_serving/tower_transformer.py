"""A fitted tower as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from sktwotower._serving.embedders import EntityEmbedder
from sktwotower.utils._columns import as_pandas, id_array


class TowerTransformer(TransformerMixin, BaseEstimator):
    """Ids or rows in, embeddings out: one side of a fitted recommender for a Pipeline.

    This is how two-tower embeddings enter the Pipeline of a second-stage ranker. Like
    scikit-learn's ``FrozenEstimator`` it comes fitted and stays so: ``fit`` does nothing,
    and ``clone`` returns it as it is. Not made directly, but taken from a recommender:
    ``model.user_tower_`` and ``model.item_tower_``.

    Parameters
    ----------
    side : EntityEmbedder
        Users or items of a fitted model.

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

    def __init__(self, side: EntityEmbedder) -> None:
        self.side = side

    def __sklearn_clone__(self) -> TowerTransformer:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __repr__(self) -> str:
        n, dim = self.side.embeddings.shape
        return f"TowerTransformer({self.side.name!r}, {n} ids, embedding_dim={dim})"

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
        """Embed ids, or rows of features.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1), or frame
            Ids; or rows with an id, with features, or with both: features that a frame
            has take the place of those of training. An unknown id without features gets
            the vector of the unknown one.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
            Their embeddings.
        """
        side = self.side
        ids, given = as_pandas(X), None
        if isinstance(ids, pd.DataFrame):
            frame = ids
            ids, given = side.read(frame)
            if ids is None and given is None and frame.shape[1] == 1:
                ids = frame.iloc[:, 0]
            elif ids is None and given is None:
                raise ValueError(
                    f"The {side.name} tower finds neither ids nor features in X; its "
                    f"columns are {list(frame.columns)}, ids are in one of "
                    f"{list(side.id_names)} and features are {side.entities.columns}."
                )
            elif ids is None:
                return side.vectors(np.zeros(len(frame), dtype=np.int32), given)
        elif not isinstance(ids, pd.Series):
            ids = np.asarray(ids, dtype=None if hasattr(ids, "dtype") else object)
            if ids.ndim == 2:
                if ids.shape[1] != 1:
                    raise ValueError(
                        f"The {side.name} tower embeds one column of ids, or a frame with "
                        f"features; X is an array with {ids.shape[1]} columns."
                    )
                ids = ids[:, 0]
        codes = side.entities.vocabulary.codes(id_array(ids, what=f"{side.name} id"))
        return side.vectors(codes, given)

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
        prefix, dim = f"{self.side.name}_embedding", self.side.embeddings.shape[1]
        return np.array([f"{prefix}{i}" for i in range(dim)], dtype=object)
