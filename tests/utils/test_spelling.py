"""Names that are misspelt, and what was meant."""

import pandas as pd
import pytest

from sktwotower import TwoTowerRecommender
from sktwotower.model_selection import train_test_split_interactions
from sktwotower.utils._spelling import close_name


@pytest.mark.parametrize(
    ("name", "options", "close"),
    [
        ("userId", ["item", "user_id"], "user_id"),
        ("User ID", ["user_id"], "user_id"),
        ("genres", ["genre", "title"], "genre"),
        ("wage", ["age"], None),
        ("subtitle", ["title"], None),
        ("item_cat_1", ["item_cat_0"], None),
        ("x10", ["x1"], None),
        (3, ["3"], None),
        ("3", [3], None),
    ],
)
def test_names_that_are_close(name, options, close):
    assert close_name(name, options) == close


@pytest.mark.parametrize("name", ["customer_id", "customer id", "CustomerID"])
def test_a_misspelt_column_of_X(name):
    X = pd.DataFrame({"Customer ID": ["a", "b"], "Article": ["x", "y"], "Day": [1, 2]})
    model = TwoTowerRecommender(user_column=name, item_column="Article")
    message = (
        rf"user_column='{name}' is not a column of X; .* Did you mean 'Customer ID'\?$"
    )
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    with pytest.raises(ValueError, match=message):
        train_test_split_interactions(X, user_column=name, timestamp_column="Day")
