"""What a query chooses from, and what it leaves out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from sktwotower._data.candidate_forms import GivenCandidates
from sktwotower._data.known_ids import warn_of_unknown
from sktwotower._data.queries import Query, read_pairs
from sktwotower._data.roles import OTHER, ColumnRoles, SideName
from sktwotower._data.vocabulary import Vocabulary
from sktwotower._search.candidate_sets import CandidateSet, seen_pairs
from sktwotower.utils._forms import is_empty


def known_candidates(
    candidates: GivenCandidates | None,
    side: SideName,
    *,
    vocabulary: Vocabulary,
    catalogue: np.ndarray,
) -> CandidateSet:
    """What queries choose from, of known users or items.

    Parameters
    ----------
    candidates : GivenCandidates or None
        What the caller names. None: the catalogue.
    side : {"user", "item"}
        What the candidates are.
    vocabulary : Vocabulary
        Known ids; unknown ones are dropped, with a warning.
    catalogue : ndarray
        Codes to choose from without candidates, ascending.
    """
    if candidates is None:
        return CandidateSet(catalogue)
    codes = vocabulary.codes(candidates.ids)
    warn_of_unknown(
        candidates.ids,
        codes,
        vocabulary,
        side=side,
        subject="candidates",
        then="are left out",
    )
    chosen = CandidateSet(np.unique(codes[codes > 0]))
    return with_groups(chosen, candidates, chosen.columns(codes))


def with_groups(
    chosen: CandidateSet, candidates: GivenCandidates, columns: np.ndarray
) -> CandidateSet:
    """The set with what each query may choose; ``columns`` (n,) are those of the ids."""
    if candidates.groups is None or candidates.group_of_query is None:
        return chosen
    of_query = candidates.group_of_query
    n_groups = int(of_query.max(initial=-1)) + 1
    allowed = chosen.pairs(candidates.groups, columns, n_groups)
    return replace(chosen, allowed=allowed[of_query])


def excluded_pairs(
    query: Query,
    candidates: CandidateSet,
    side: SideName,
    *,
    seen: sp.csr_matrix | None,
    exclude_interactions: Any,
    roles: ColumnRoles,
    vocabulary: Vocabulary,
) -> sp.csr_matrix | None:
    """Pairs of queries and candidates that are left out, (n_queries, n_candidates).

    Parameters
    ----------
    query : Query
        Users or items.
    candidates : CandidateSet
        What they choose from: items or users.
    side : {"user", "item"}
        What the query asks about.
    seen : csr_matrix of shape (n_users, n_items) or None
        Pairs of training; None: they stay in.
    exclude_interactions : frame, 2-D array, dict or Series, or None
        Further pairs: rows laid out like the X of ``fit``, or lists of ids by the id of
        what the query asks about.
    roles : ColumnRoles
        Its columns.
    vocabulary : Vocabulary
        Known ids of the candidates' side.
    """
    exclude = None
    if seen is not None:
        by_query = seen if side == "user" else seen.T
        exclude = seen_pairs(by_query, query.codes, candidates)
    if exclude_interactions is None or is_empty(exclude_interactions):
        return exclude
    numbers, asked, others = read_pairs(exclude_interactions, query, side, roles=roles)
    columns = candidates.columns_of_ids(others, vocabulary)
    warn_of_unknown(
        others,
        np.maximum(vocabulary.codes(others), columns + 1),  # a frame may have new ids
        vocabulary,
        side=OTHER[side],
        subject=f"{OTHER[side]} ids of exclude_interactions",
        then="exclude nothing",
    )
    n_distinct = int(numbers.max(initial=-1)) + 1
    further = candidates.pairs(asked, columns, n_distinct)[numbers]
    return further if exclude is None else exclude + further


def pairs_with_itself(
    query: Query, candidates: CandidateSet, vocabulary: Vocabulary
) -> sp.csr_matrix:
    """Pairs of queries and candidates that are the same user or item.

    Parameters
    ----------
    query : Query
        Users or items.
    candidates : CandidateSet
        Of the same side.
    vocabulary : Vocabulary
        Known ids of the side.
    """
    columns = candidates.columns(query.codes)
    if query.has_ids and candidates.ids is not None:  # unknown ids may be among them
        columns = candidates.columns_of_ids(query.ids, vocabulary)
    return candidates.pairs(np.arange(len(query)), columns, len(query))
