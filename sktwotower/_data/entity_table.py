"""Side tables of users and items."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from sktwotower._data.column_names import with_index
from sktwotower._data.known_ids import refuse_mixed
from sktwotower._data.table_ids import (
    refuse_unnamed_features,
    refuse_written_index,
    takes_all_columns,
)
from sktwotower._data.vocabulary import Vocabulary
from sktwotower.utils._columns import (
    Column,
    as_pandas,
    id_array,
    is_frame,
    refuse_repeated_names,
    where_first,
)
from sktwotower.utils._forms import refuse_lazy
from sktwotower.utils._spelling import did_you_mean


class EntityTable:
    """A side table of users or items that is shared by clones.

    Use it in a grid search with a large table, to choose some columns as features, or if
    the id column has another name than in X; otherwise a plain frame will do. A plain
    frame is a parameter that every ``clone`` copies, once for each candidate and fold of
    a search. An ``EntityTable`` is not copied, and is checked only once.

    Parameters
    ----------
    frame : DataFrame
        One row per entity. It is not copied; do not change it afterwards.
    id_column : str
        Name of the id column, or of the index if it holds the ids. Ids must be unique and
        not missing.
    features : str or list of str, default=None
        Names of the feature columns; None: all columns except the id column, and ``fit``
        refuses one that looks like a written index, such as ``Unnamed: 0``. The column
        of a single name, not in a list, is passed to the encoder as a Series, which text
        vectorizers and transformers of your own need. Transformers of scikit-learn that
        take a table get a frame of one column.

    Raises
    ------
    TypeError
        If ``frame`` is not a data frame.
    ValueError
        If a column does not exist, or ids are missing or repeated.

    See Also
    --------
    TwoTowerRecommender : Takes tables as ``user_table`` and ``item_table``.
    sktwotower.preprocessing.FeatureEncoder : Default encoder of their features.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktwotower import EntityTable
    >>> films = pd.DataFrame({"film": [10, 20], "genres": ["Comedy", "Drama|War"]})
    >>> EntityTable(films, "film")
    EntityTable(2 rows, id_column='film', features=['genres'])
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        id_column: Column,
        features: str | Sequence[str] | None = None,
    ) -> None:
        refuse_lazy(frame, where="The frame of an EntityTable")
        if not is_frame(frame):
            raise TypeError(
                f"An EntityTable holds a data frame; got {type(frame).__name__}."
            )
        self.frame = frame
        self.id_column = id_column
        self.features = features
        self._frame = with_index(as_pandas(frame), [id_column])
        refuse_repeated_names(self._frame, where="The table")
        names = list(self._frame.columns)
        wanted = [features] if isinstance(features, str) else features
        if wanted is None:
            wanted = [name for name in names if name != id_column]
        for name in [id_column, *wanted]:
            if name not in names:
                raise ValueError(
                    f"The table has no column {name!r}; its columns are {names}."
                    f"{did_you_mean(name, names)}"
                )
        self._wanted = list(wanted)
        ids = id_array(self._frame[id_column], what="id", where="The table")
        repeated = pd.Series(ids).duplicated().to_numpy()
        if repeated.any():
            rows, first = where_first(repeated)
            raise ValueError(
                f"The table has {rows} with a duplicate id in column {id_column!r} "
                f"{first}; keep one row for each id, for example with drop_duplicates."
            )
        refuse_mixed(ids, where=f"Column {id_column!r} of the table", what="id")
        self._vocabulary = Vocabulary(ids)
        self._is_guess = False

    def __sklearn_clone__(self) -> EntityTable:
        return self

    def __repr__(self) -> str:
        return (
            f"EntityTable({len(self._frame)} rows, id_column={self.id_column!r}, "
            f"features={self._wanted!r})"
        )

    @property
    def ids(self) -> np.ndarray:
        """Ids of the rows, in the order of the frame."""
        return self._vocabulary.ids

    @property
    def feature_rows(self) -> pd.DataFrame | pd.Series:
        """The features of the rows, in the order of the frame."""
        features = self._wanted[0] if isinstance(self.features, str) else self._wanted
        return self._frame[features].reset_index(drop=True)


def as_table(
    table: Any, *, parameter: str, id_column: Column, names: Sequence[str] | None
) -> EntityTable | None:
    """The table of a parameter.

    The id column of a plain frame is the one of the same name as in X, in the index or not,
    else the first.

    Parameters
    ----------
    table : DataFrame, EntityTable or None
        Value of the parameter.
    parameter : str
        Its name, for messages.
    id_column : str or int
        Name, or position, of the id column of X.
    names : list of str or None
        Column names of X; None if it has none.
    """
    if table is None or isinstance(table, EntityTable):
        return table
    refuse_lazy(table, where=parameter)
    if not is_frame(table):
        raise TypeError(
            f"{parameter} must be a DataFrame, an EntityTable or None; got "
            f"{type(table).__name__}."
        )
    wanted: Column | None = id_column
    if isinstance(id_column, Integral):
        wanted = names[int(id_column)] if names else None
    columns = list(with_index(as_pandas(table), [wanted]).columns)
    if not columns:
        raise ValueError(f"{parameter} has no column, and so no ids.")
    chosen: Column = columns[0]
    if wanted is not None and wanted in columns:
        chosen = wanted
    else:
        refuse_written_index(chosen, columns, wanted, parameter=parameter)
    try:
        made = EntityTable(table, chosen)
    except ValueError as error:
        hint = ""
        if chosen != wanted and isinstance(wanted, str):
            hint = (
                f" It has no id column {wanted!r} as X has, so its first column was taken "
                "for the ids; name another with EntityTable(frame, id_column), or call the "
                f"index {wanted!r} if it has them."
            )
        raise ValueError(f"{parameter}: {error}{hint}") from error
    made._is_guess = chosen != wanted
    return made


def refuse_index_among_features(
    table: EntityTable, encoder: Any, *, parameter: str
) -> None:
    """Raise ValueError if an encoder would read an index that nobody chose as a feature."""
    if table.features is None and takes_all_columns(encoder):
        refuse_unnamed_features(
            table._wanted,
            where=parameter,
            name_them="name all features with EntityTable(frame, id_column, features)",
        )


def guessed_frame(table: EntityTable) -> pd.DataFrame | None:
    """The frame of a table whose first column was taken for the ids; None for others."""
    return table._frame if table._is_guess else None
