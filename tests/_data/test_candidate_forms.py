"""Pairs of users and candidates with features."""

from copy import copy

import numpy as np
import pandas as pd
import pytest

from sktwotower._data.candidate_forms import CandidateReader
from sktwotower._data.queries import FrameColumns, Query
from sktwotower._data.roles import ColumnRoles
from sktwotower._data.vocabulary import Vocabulary

READER = CandidateReader(
    query=Query(np.array([0, 1]), np.array([1, 2])),
    side="item",
    asked="user",
    vocabulary=Vocabulary([7]),
    roles=ColumnRoles("user", "item", names=["user", "item"]),
    columns=FrameColumns(["item"], ["price", "tags"]),
    asked_columns=FrameColumns(["user"], ["tag"]),
)
PAIRS = pd.DataFrame({"user": [0, 1], "item": [7, 7], "price": 1.0})


def described(*tags):
    return PAIRS.assign(tags=pd.Series(tags, dtype=object))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros(2000), np.arange(2000) == 1000),  # whose text is abbreviated
        ("1", 1),
        ([1, 2], [1, 3]),
        (None, 0.0),
    ],
    ids=["arrays", "a number and its text", "lists", "missing"],
)
def test_features_of_an_item_are_compared_by_value(one, other):
    with pytest.raises(ValueError, match=r"rows of item 7 with different features \(row 1"):
        READER.read(described(one, other))
    assert READER.read(described(one, copy(one))).ids.tolist() == [7, 7]


def test_misspelt_features_of_pairs_are_refused():
    pairs = described("a", "a")
    with pytest.raises(ValueError, match="lacks the column 'tags' and has a column 'Tags'"):
        READER.read(pairs.rename(columns={"tags": "Tags"}))
    # The users' feature "tag" is known, as are other columns of X.
    assert READER.read(pairs.rename(columns={"tags": "tag"})).features.shape == (2, 1)
    assert READER.read(pairs.assign(note="")).features.columns.tolist() == ["price", "tags"]
