"""A fitted tower as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from sktwotower._data.column_names import refuse_row
from sktwotower._data.known_ids import refuse_ids_in_index, warn_of_unknown
from sktwotower._data.queries import refuse_values_by_id
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower.utils._columns import as_pandas, id_array


class TowerTransformer(TransformerMixin, BaseEstimator):
    """A fitted tower: transforms ids, or rows of features, to embeddings.

    Use it to give two-tower embeddings to the Pipeline of a second-stage ranker. Take it
    from a fitted recommender: ``model.user_tower_`` or ``model.item_tower_``. Like
    scikit-learn's ``FrozenEstimator`` it stays fitted: ``fit`` does nothing, and a clone
    has the same embeddings.

    Parameters
    ----------
    embedder : EntityEmbedder
        The users or the items of a fitted model.

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

    def __init__(self, embedder: EntityEmbedder) -> None:
        self.embedder = embedder

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []  # embeddings are float32
        return tags

    def __repr__(self) -> str:
        return f"TowerTransformer({self.embedder!r})"

    def fit(self, X: Any = None, y: Any = None) -> TowerTransformer:
        """Do nothing; the tower is fitted.

        Parameters
        ----------
        X, y : ignored
            For the interface of Pipelines.

        Returns
        -------
        self : TowerTransformer
            Unchanged.
        """
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed ids, or rows of features.

        Parameters
        ----------
        X : array-like of shape (n,) or (n, 1), or frame
            Ids; or rows with an id, with features, or with both. Features of a frame
            replace those of training. An unknown id without features gets the vector of
            the unknown entity.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
            The embeddings.
        """
        embedder = self.embedder
        name, vocabulary = embedder.name, embedder.state.vocabulary
        ids, features = as_pandas(X), None
        refuse_row(ids, embedder.columns.names, where="X", side=name)
        if isinstance(ids, pd.DataFrame):
            frame = ids
            ids, features = embedder.columns.read(frame, name, where="X")
            if ids is None and features is None and frame.shape[1] == 1:
                ids = frame.iloc[:, 0]
            elif ids is None and features is None:
                raise ValueError(
                    f"The {embedder.name} tower finds neither ids nor features in X; its "
                    f"columns are {list(frame.columns)}, ids are in one of "
                    f"{list(embedder.columns.ids)} and features are "
                    f"{embedder.columns.features}."
                )
            elif ids is None:
                refuse_ids_in_index(
                    frame, embedder.columns.ids, vocabulary, where="X", side=name
                )
                return embedder.vectors(np.zeros(len(frame), dtype=np.int32), features)
        elif isinstance(ids, pd.Series) or (
            isinstance(ids, list) and "tuple" in vocabulary.kinds
        ):
            pass  # one id each
        else:
            ids = np.asarray(ids, dtype=None if hasattr(ids, "dtype") else object)
            if ids.ndim == 2:
                if ids.shape[1] != 1:
                    raise ValueError(
                        f"The {embedder.name} tower embeds one column of ids, or a frame "
                        f"with features; X is an array with {ids.shape[1]} columns."
                    )
                ids = ids[:, 0]
        given, ids = ids, id_array(ids, what=f"{name} id")
        codes = vocabulary.codes(ids)
        if isinstance(given, pd.Series):
            refuse_values_by_id(
                given, codes, embedder.columns.ids, vocabulary, where="X", side=name
            )
        warn_of_unknown(ids, codes, vocabulary, side=name, subject=f"{name} ids of X")
        return embedder.vectors(codes, features)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the embedding's dimensions.

        Parameters
        ----------
        input_features : ignored
            For the interface of Pipelines.

        Returns
        -------
        ndarray of shape (embedding_dim,), object
            ``user_embedding0`` and so on.
        """
        side = self.embedder.state
        dim = side.embeddings.shape[1]
        return np.array([f"{side.name}_embedding{i}" for i in range(dim)], dtype=object)
