"""A search as one object: what queries rank, what they leave out, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from sktwotower._search.faiss_index import FaissIndex, approximate_top_k
from sktwotower._search.top_k import DotScores, Scores, draw_k, top_k


@dataclass(frozen=True, eq=False)
class Sampling:
    """Draw answers instead of taking the best ones.

    Attributes
    ----------
    temperature : float
        Scores are divided by it.
    generator : numpy.random.Generator
        Draws.
    """

    temperature: float
    generator: np.random.Generator


@dataclass(frozen=True, eq=False)
class Search:
    """Finds the best candidates of queries: exactly, approximately, or by a draw.

    Attributes
    ----------
    scores : DotScores
        Scores of shape (n_queries, n_candidates).
    exclude, allowed : csr_matrix of shape (n_queries, n_candidates) or None
        Pairs that must not be returned, and the only ones that may be; None: no limit.
    sampling : Sampling or None
        How to draw; None: take the best.
    index : FaissIndex or None
        An index over all candidates. It is for plain scores that are not drawn from.
    """

    scores: DotScores
    exclude: sp.csr_matrix | None = None
    allowed: sp.csr_matrix | None = None
    sampling: Sampling | None = None
    index: FaissIndex | None = None

    def best(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns and scores of k candidates of each query, as of `top_k`."""
        if self.index is not None:
            return approximate_top_k(self.index, self.scores, k, self.exclude)
        return self._exact(self.scores, k, self.exclude)

    def best_of_others(
        self, scores: Scores, k: int, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same, exactly, by other scores and without columns that are chosen.

        Parameters
        ----------
        scores : Scores
            Scores of the same shape.
        k : int
            Length of the answers.
        chosen : ndarray of shape (n_queries, n_chosen)
            Columns that must not be returned; -1 is padding.
        """
        rows, places = np.nonzero(chosen >= 0)
        ones = np.ones(len(rows), dtype=np.float32)
        pairs = sp.csr_matrix((ones, (rows, chosen[rows, places])), shape=scores.shape)
        exclude = pairs if self.exclude is None else self.exclude + pairs
        return self._exact(scores, k, exclude)

    def take(self, rows: np.ndarray | slice) -> Search:
        """The search of some of the queries."""
        return replace(
            self,
            scores=self.scores.take(rows),
            exclude=None if self.exclude is None else self.exclude[rows],
            allowed=None if self.allowed is None else self.allowed[rows],
        )

    def _exact(
        self, scores: Scores, k: int, exclude: sp.csr_matrix | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.sampling is None:
            return top_k(scores, k, exclude=exclude, allowed=self.allowed)
        return draw_k(
            scores,
            k,
            self.sampling.temperature,
            self.sampling.generator,
            exclude=exclude,
            allowed=self.allowed,
        )
