"""What the columns of X mean, and what is refused of X as a table."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sktwotower._data.interactions import read_interactions
from sktwotower._data.roles import ColumnRoles, as_interactions


def frame(**columns):
    return pd.DataFrame({"user": [1, 1, 2], "item": ["a", "b", "a"], **columns})


def roles_of(X, **roles):
    """The roles of a fit of an estimator called Owner."""
    rows = as_interactions(X, owner="Owner")
    return ColumnRoles.of_fit(
        rows, owner="Owner", **{"user_column": 0, "item_column": 1, **roles}
    )


def test_names_of_the_columns_of_fit():
    assert roles_of(frame()).feature_names.tolist() == ["user", "item"]
    assert roles_of(np.ones((4, 2))).feature_names is None
    assert roles_of(frame()).name_of(1) == roles_of(frame()).name_of("item") == "item"
    assert roles_of(np.ones((4, 2))).name_of(1) is None


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (pd.DataFrame({"user": [1]}), ValueError, "at least two columns"),
        (np.ones((3, 1)), ValueError, "at least two columns"),
        (frame()[:0], ValueError, r"0 sample\(s\)"),
        (np.ones((0, 2)), ValueError, r"0 sample\(s\)"),
        (np.ones(3), ValueError, "X must be rows.*got a 1-D ndarray. Reshape your data"),
        (sp.csr_matrix(np.ones((3, 2))), TypeError, "Sparse"),
    ],
)
def test_tables_that_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        roles_of(X)


def test_a_later_frame_needs_only_the_columns_that_are_used():
    roles = roles_of(frame(extra=[1, 2, 3]), user_column="user", item_column="item")
    later = frame(other=[0, 0, 0])[["other", "item", "user"]]
    rows = read_interactions(roles.check(later), roles=roles)
    assert rows.items.tolist() == ["a", "b", "a"]
    with pytest.raises(ValueError, match=r"X lacks the column 'item'.*Owner was fitted"):
        read_interactions(roles.check(later[["user", "other"]]), roles=roles)
    with pytest.raises(ValueError, match="2 features, but Owner is expecting 3 features"):
        with pytest.warns(UserWarning, match="feature names.*Owner"):
            roles.check(np.ones((1, 2)))


def test_positions_mean_the_columns_of_fit():
    roles = roles_of(frame())
    rows = read_interactions(frame()[["item", "user"]], roles=roles)
    assert rows.users.tolist() == [1, 1, 2]


def test_frames_with_integer_names_are_read_by_position():
    """They must have the columns of ``fit``."""
    X = frame(t=[1, 2, 3])
    X.columns = [0, 1, 2]
    roles = roles_of(X, item_column=2)
    assert read_interactions(X, roles=roles).items.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="2 features, but Owner is expecting 3"):
        roles.check(X[[0, 1]])


def test_other_data_frames():
    polars = pytest.importorskip("polars")
    X = as_interactions(polars.from_pandas(frame()), owner="Owner")
    assert isinstance(X, pd.DataFrame)
    assert read_interactions(X, roles=ColumnRoles()).items.tolist() == ["a", "b", "a"]


def test_roles_that_are_refused():
    with pytest.raises(ValueError, match="user_column.*item_column"):
        roles_of(frame(), user_column="item")
    with pytest.raises(ValueError, match="item"):
        roles_of(frame().set_axis(["item", "item"], axis=1))
