"""The purchases of an online shop, inside the package."""

from __future__ import annotations

import gzip
import io
from importlib import resources

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from sktwotower.datasets._arrays import table_to_array


def load_online_retail(*, as_frame: bool = True) -> Bunch:
    """Load the purchases of an online shop that come with the package.

    The set has 393,612 purchases of 4,006 articles by 4,285 customers, from 1 December
    2009 to 9 December 2010, with titles, prices and countries [1]_. The shop sells gifts,
    and many of its customers are wholesalers. Nothing is downloaded. Use it where a
    purchase has no rating, and where people come back for the same article: 30 % of the
    rows are repeats of an earlier pair of customer and article.

    **Licence**: Creative Commons Attribution 4.0 (CC BY 4.0). The attribution, and what
    was changed since publication, are in the ``README.txt`` beside the data, whose text
    is also in ``DESCR``.

    Parameters
    ----------
    as_frame : bool, default=True
        Whether the tables are data frames, or arrays as described below.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes.

        interactions : DataFrame of shape (393612, 4)
            ``customer_id`` (int64), ``item_id`` (strings such as ``"85123A"``), ``time``
            (datetime64[s], to the minute, the shop's local time) and ``quantity`` (int64,
            at least 1). A row is a customer, an article and a minute. The rows are in
            order of time, then of customer and item. With ``as_frame=False`` an object
            array; the time is in seconds since 1970.
        item_table : DataFrame of shape (4006, 3)
            ``item_id``; ``title``; ``price`` (float64), the median price of a piece in
            pounds. With ``as_frame=False`` an object array.
        user_table : DataFrame of shape (4285, 2)
            ``customer_id``; ``country``, which is ``"United Kingdom"`` for 92 % of the
            customers. With ``as_frame=False`` an object array.
        interaction_columns, item_columns, user_columns : list of str
            The column names of the tables.
        DESCR : str
            A short description and the text of the README.

    See Also
    --------
    load_movielens_small : Ratings of films, without repeats.
    make_interactions : Synthetic interactions with a known ground truth.

    References
    ----------
    .. [1] Daqing Chen. 2019. "Online Retail II". UCI Machine Learning Repository.
       https://doi.org/10.24432/C5CG6D

    Examples
    --------
    >>> from sktwotower.datasets import load_online_retail
    >>> data = load_online_retail()
    >>> data.interactions.shape
    (393612, 4)
    >>> data.item_table.set_index("item_id").loc["85123A", "title"]
    'WHITE HANGING HEART T-LIGHT HOLDER'

    The share of rows that repeat an earlier pair of customer and article:

    >>> data.interactions.duplicated(["customer_id", "item_id"]).mean().round(2)
    np.float64(0.3)
    """
    folder = resources.files("sktwotower.datasets") / "data" / "online-retail"

    def read_table(name: str) -> pd.DataFrame:
        content = gzip.decompress((folder / name).read_bytes())
        text = {"item_id": str, "title": str, "country": str}
        return pd.read_csv(io.BytesIO(content), keep_default_na=False, dtype=text)

    items, users = read_table("items.csv.gz"), read_table("customers.csv.gz")
    with np.load(io.BytesIO((folder / "purchases.npz").read_bytes())) as purchases:
        # A customer and an item are stored as row numbers of their tables.
        interactions = pd.DataFrame(
            {
                "customer_id": users["customer_id"].to_numpy()[purchases["customer"]],
                "item_id": items["item_id"].array.take(purchases["item"]),
                "time": purchases["minute"].astype("datetime64[m]").astype("M8[s]"),
                "quantity": purchases["quantity"].astype(np.int64),
            }
        )
    readme = (folder / "README.txt").read_text(encoding="utf-8")
    return Bunch(
        interactions=interactions if as_frame else table_to_array(interactions),
        user_table=users if as_frame else table_to_array(users),
        item_table=items if as_frame else table_to_array(items),
        interaction_columns=list(interactions.columns),
        user_columns=list(users.columns),
        item_columns=list(items.columns),
        DESCR=(
            "Online Retail II, 2009-10: 393,612 purchases of 4,006 articles by 4,285 "
            f"customers.\nLicensed under CC BY 4.0.\n\n{readme}"
        ),
    )
