"""One side of a fitted model: whoever is asked for, as vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.entities import Entities
from sktwotower._data.histories import PastItems
from sktwotower._nn.towers import Tower
from sktwotower._search.top_k import DotScores
from sktwotower.utils._columns import Column


@dataclass(frozen=True, eq=False)
class EntityEmbedder:
    """One side of a fitted model.

    Attributes
    ----------
    name : {"user", "item"}
        Which.
    id_names : tuple of str or int
        Columns of a frame that have its ids, the first that is there.
    entities : Entities
        Who is known, and with which features.
    tower : Tower
        Embeds what is not.
    embeddings : ndarray of shape (n, embedding_dim)
        Row ``r`` belongs to code ``r + 1``.
    unknown : ndarray of shape (embedding_dim,)
        The vector of code 0.
    past : PastItems or None
        With a history field.
    """

    name: str
    id_names: tuple[Column, ...]
    entities: Entities
    tower: Tower
    embeddings: np.ndarray
    unknown: np.ndarray
    past: PastItems | None = None

    def read(self, frame: pd.DataFrame) -> tuple[pd.Series | None, pd.DataFrame | None]:
        """The ids and the features that a frame has; None without any."""
        ids = next((frame[name] for name in self.id_names if name in frame.columns), None)
        names = [name for name in self.entities.columns if name in frame.columns]
        given = frame[names].reset_index(drop=True) if names else None
        return ids, given

    def vectors(
        self,
        codes: np.ndarray,
        given: pd.DataFrame | None = None,
        windows: Any = None,
    ) -> np.ndarray:
        """Embeddings of codes, (n, embedding_dim), float32.

        Parameters
        ----------
        codes : ndarray of shape (n,)
            0 for who is not known.
        given : DataFrame of n rows, optional
            Some of the features, in place of those of training.
        windows : optional
            Histories in place of those of training, as `windows_of_queries` has them.
        """
        if given is None and windows is None:
            vectors: np.ndarray = self.embeddings[codes - 1]  # code 0 takes the last row,
            vectors[codes == 0] = self.unknown  # and is replaced
            return vectors
        rows = self.entities.take(codes, given).rows(
            with_id=self.tower.id_table is not None
        )
        if self.past is None:
            return self.tower.embed(rows).numpy()
        return self.tower.embed(self.past.rows(rows, codes, windows)).numpy()

    def scores(self, queries: np.ndarray, codes: np.ndarray) -> DotScores:
        """Scores of vectors (n_queries, dim) for known entities, by ascending codes."""
        if len(codes) and codes[-1] - codes[0] == len(codes) - 1:  # no need of a copy
            return DotScores(queries, self.embeddings[codes[0] - 1 : codes[-1]])
        return DotScores(queries, self.embeddings, codes - 1)
