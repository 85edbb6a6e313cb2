"""scikit-learn's Pipeline with the queries of a recommender in its last step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import pipeline as sklearn_pipeline
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.pair_forms import chosen, ungrouped
from sktwotower.utils._columns import as_objects, as_pandas, is_frame
from sktwotower.utils._sklearn import column_indices

__all__ = ["Pipeline", "make_pipeline"]

# Other forms of rows than frames and arrays.
_PANDAS = (
    pd.Series,
    pd.MultiIndex,
    pd.api.typing.DataFrameGroupBy,
    pd.api.typing.SeriesGroupBy,
)


def _last_step_has(name: str) -> Callable[[sklearn_pipeline.Pipeline], bool]:
    def check(pipeline: sklearn_pipeline.Pipeline) -> bool:
        getattr(pipeline.steps[-1][1], name)  # its AttributeError says what is missing
        return True

    return check


class Pipeline(sklearn_pipeline.Pipeline):
    """scikit-learn's Pipeline that also forwards the queries of a recommender.

    It is a :class:`sklearn.pipeline.Pipeline` with the methods `recommend`,
    `similar_items`, `similar_users`, `recommend_users`, `add_items` and `partial_fit`, if
    the last step has them. So ``search.best_estimator_.recommend(...)`` works.

    Parameters
    ----------
    steps : list of tuples
        ``(name, estimator)`` pairs; the last one is the recommender.
    transform_input : list of str, default=None
        As in scikit-learn.
    memory : str or object with the joblib.Memory interface, default=None
        As in scikit-learn.
    verbose : bool, default=False
        As in scikit-learn.

    Attributes
    ----------
    named_steps : Bunch
        The steps by name.
    classes_ : ndarray
        Classes of a classifier in the last step; a recommender has none.
    n_features_in_ : int
        Number of columns of X in the first step.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Names of the columns of X in the first step, if X has names.

    See Also
    --------
    make_pipeline : Names the steps after their types.

    Notes
    -----
    The steps before the last one treat the arguments of a query as follows:

    - Ids, in one dimension, are passed on unchanged.
    - Rows, which are a frame or a 2-D array, are transformed, in each argument: users,
      `history`, `exclude_interactions`. A 2-D array is laid out like the X of ``fit``.
      `candidates` are rows if they are a frame, and lists of ids otherwise.
    - A level of a frame's index that is called like a column of X is one.
    - A frame may lack columns: a frame of users has no columns of items. A
      `ColumnTransformer` then applies the transformers that find all their columns, and
      passes through the columns that are there. The recommender treats the rest as missing
      from the frame. This needs names, so call ``set_output(transform="pandas")``. All
      other steps need all their columns.
    - A frame or array without rows is passed on unchanged.

    With ``as_frame=True`` the columns of ids are called as in the X of the first step.

    Use the last step, ``pipeline[-1]``, for all other methods and attributes.

    Examples
    --------
    >>> from sklearn.compose import make_column_transformer
    >>> from sktwotower.baselines import PopularRecommender
    >>> from sktwotower.pipeline import Pipeline
    >>> X = [["ann", 3, "tea"], ["bob", 1, "tea"], ["bob", 2, "milk"]]
    >>> ids = make_column_transformer(("passthrough", [0, 2]))
    >>> pipeline = Pipeline([("ids", ids), ("popular", PopularRecommender())]).fit(X)
    >>> pipeline.recommend(["ann", "cid"], n_recommendations=1)[0].tolist()
    [['milk'], ['tea']]
    """

    @available_if(_last_step_has("recommend"))
    def recommend(self, X: Any, *args: Any, **options: Any) -> Any:
        """The best items for each user: ``recommend`` of the last step.

        Parameters
        ----------
        X : array-like of shape (n_queries,), or frame or 2-D array of user rows
            Ids are passed on, rows are transformed.
        *args, **options : object
            Arguments of the last step: `n_recommendations`, and the others by name.
            Frames and 2-D arrays, such as `history`, are transformed.

        Returns
        -------
        object
            The answer of the last step: item ids and scores, or a frame.
        """
        return self._forward("recommend", X, *args, **options)

    @available_if(_last_step_has("similar_items"))
    def similar_items(self, item_ids: Any, *args: Any, **options: Any) -> Any:
        """The items most like these: ``similar_items`` of the last step.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,), or frame or 2-D array of rows
            Ids are passed on, rows are transformed.
        *args, **options : object
            Arguments of the last step: `n_recommendations`, and the others by name.
            Frames and 2-D arrays are transformed.

        Returns
        -------
        object
            The answer of the last step: item ids and scores, or a frame.
        """
        return self._forward("similar_items", item_ids, *args, **options)

    @available_if(_last_step_has("similar_users"))
    def similar_users(self, user_ids: Any, *args: Any, **options: Any) -> Any:
        """The users most like these: ``similar_users`` of the last step.

        Parameters
        ----------
        user_ids : array-like of shape (n_queries,), or frame or 2-D array of rows
            Ids are passed on, rows are transformed.
        *args, **options : object
            Arguments of the last step: `n_recommendations`, and the others by name.
            Frames and 2-D arrays are transformed.

        Returns
        -------
        object
            The answer of the last step: user ids and scores, or a frame.
        """
        return self._forward("similar_users", user_ids, *args, **options)

    @available_if(_last_step_has("recommend_users"))
    def recommend_users(self, item_ids: Any, *args: Any, **options: Any) -> Any:
        """The best users for each item: ``recommend_users`` of the last step.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,), or frame or 2-D array of rows
            Ids are passed on, rows are transformed.
        *args, **options : object
            Arguments of the last step: `n_recommendations`, and the others by name.
            Frames and 2-D arrays are transformed.

        Returns
        -------
        object
            The answer of the last step: user ids and scores, or a frame.
        """
        return self._forward("recommend_users", item_ids, *args, **options)

    @available_if(_last_step_has("add_items"))
    def add_items(self, frame: Any) -> Pipeline:
        """Add items to the catalogue without training: ``add_items`` of the last step.

        Parameters
        ----------
        frame : DataFrame
            Rows of items with the columns that they have in the X of ``fit``.

        Returns
        -------
        self : Pipeline
            The same pipeline, with more items.
        """
        self._forward("add_items", frame)
        return self

    @available_if(_last_step_has("partial_fit"))
    def partial_fit(self, X: Any, y: ArrayLike | None = None, **params: Any) -> Pipeline:
        """Train on new rows: ``partial_fit`` of the last step.

        The steps before it are not fitted again, so that their output keeps its meaning. A
        scaler keeps its mean, and a ``OneHotEncoder`` does not learn a new category. New
        user and item ids, which are passed through, are learnt.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            New interactions, with all columns of the X of ``fit``.
        y : array-like of shape (n_samples,), default=None
            Targets for the last step.
        **params : dict
            Arguments of the last step, without its name as a prefix: ``sample_weight``.

        Returns
        -------
        self : Pipeline
            The same pipeline, trained further.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        check_is_fitted(self)
        self.steps[-1][1].partial_fit(self._transform(X), y, **params)
        return self

    def _forward(self, method: str, query: Any, *args: Any, **options: Any) -> Any:
        check_is_fitted(self)
        options = {
            name: value
            if name == "candidates"
            and not isinstance(value, _PANDAS)
            and not is_frame(value)
            else self._transform_rows(value)
            for name, value in options.items()
        }
        ask = getattr(self.steps[-1][1], method)
        answer = ask(self._transform_rows(query), *args, **options)
        return self._renamed(answer) if isinstance(answer, pd.DataFrame) else answer

    def _renamed(self, answer: pd.DataFrame) -> pd.DataFrame:
        """A frame with the columns of X by their names before the first step."""
        known = set(getattr(self, "feature_names_in_", ()))

        def name(column: str) -> str:
            short = column  # a ColumnTransformer puts the name of a transformer before
            while short not in known and "__" in short:
                short = short.partition("__")[2]
            return short if short in known else column

        return answer.rename(columns={column: name(column) for column in map(str, answer)})

    def _transform_rows(self, value: Any) -> Any:
        """An argument of a query for the last step: rows transformed, others unchanged."""
        if isinstance(value, list) and value and isinstance(value[0], list | np.ndarray):
            value = as_objects(value)
        value = _with_levels(ungrouped(value), getattr(self, "feature_names_in_", ()))
        is_rows = is_frame(value) or (
            isinstance(value, np.ndarray) and value.ndim == 2  # one dimension: ids
        )
        if not is_rows or len(value) == 0:
            return value
        return self._transform(value, may_lack=True)

    def _transform(self, X: Any, *, may_lack: bool = False) -> Any:
        """X after the steps before the last; X may lack columns in a query."""
        for name, step in self.steps[:-1]:
            if step is None or isinstance(step, str):  # "passthrough"
                continue
            lacking = _lacking(step, X) if may_lack and is_frame(X) else []
            X = self._transform_some(name, X, lacking) if lacking else step.transform(X)
        return X

    def _transform_some(self, name: str, X: Any, lacking: list[str]) -> pd.DataFrame:
        """X after a ColumnTransformer that does not find all its columns."""
        X = as_pandas(X)
        step, missing_out = _some_transformers(self.named_steps[name], X)
        if hasattr(self.steps[-1][1], "feature_names_in_"):
            if not step.transformers_:
                raise ValueError(
                    f"The frame has nothing that step {name!r} needs; it lacks {lacking}, "
                    f"its columns are {list(X.columns)}."
                )
            output = as_pandas(step.transform(X.reindex(columns=step.feature_names_in_)))
            if is_frame(output):
                return output.drop(columns=missing_out).set_axis(X.index)
        raise ValueError(
            f"The frame lacks {lacking}, and step {name!r} gives an array, which must have "
            "all columns. Give them, or call set_output(transform='pandas') before fit."
        )


def _with_levels(value: Any, names: Sequence[str]) -> Any:
    """A frame or Series of pandas with the levels of its index that X has as columns.

    A Series becomes a frame if X has it as a column, too, or if it has several levels. Of a
    mask with several levels, only what is True stays.
    """
    if not isinstance(value, pd.DataFrame | pd.Series):
        return value
    columns = value.columns if isinstance(value, pd.DataFrame) else [value.name]
    levels = [
        level for level in value.index.names if level in names and level not in columns
    ]
    if not levels:
        return value
    if isinstance(value, pd.Series) and len(levels) > 1:
        value = chosen(value)
    if isinstance(value, pd.DataFrame) or value.name in names:
        return value.reset_index(level=levels)
    return value.index.to_frame(index=False)[levels] if len(levels) > 1 else value


def _columns_of_transformers(step: ColumnTransformer) -> dict[str, list[str]]:
    """Names of the input columns of each transformer that has an output."""
    names = step.feature_names_in_
    frame = pd.DataFrame(columns=names)
    columns = {
        key: names[np.atleast_1d(column_indices(frame, columns)).astype(int)].tolist()
        for key, transformer, columns in step.transformers_
        if not (isinstance(transformer, str) and transformer == "drop")
    }
    return {key: names for key, names in columns.items() if names}


def _lacking(step: Any, X: Any) -> list[str]:
    """Columns that a ColumnTransformer needs and a frame does not have."""
    if not isinstance(step, ColumnTransformer) or not hasattr(step, "feature_names_in_"):
        return []
    needed = {name for names in _columns_of_transformers(step).values() for name in names}
    lacking = needed - set(as_pandas(X).columns)
    return [name for name in step.feature_names_in_ if name in lacking]


def _some_transformers(
    step: ColumnTransformer, X: pd.DataFrame
) -> tuple[ColumnTransformer, list[str]]:
    """The transformers of a ColumnTransformer that a frame has the columns for.

    A transformer that passes columns through is one of them if any column is there. The
    second result is the list of output columns that it then has for missing columns.
    """
    part = copy(step)
    part.transformers_, missing_out = [], []
    columns, names_out = _columns_of_transformers(step), step.get_feature_names_out()
    for key, transformer, selection in step.transformers_:
        is_there = np.array([name in X for name in columns.get(key, ())], dtype=bool)
        # scikit-learn replaces "passthrough" by a transformer without a function.
        passes = isinstance(transformer, FunctionTransformer) and transformer.func is None
        if is_there.any() and (passes or is_there.all()):
            part.transformers_.append((key, transformer, selection))
        if is_there.any() and passes:
            missing_out += names_out[step.output_indices_[key]][~is_there].tolist()
    return part, missing_out


def make_pipeline(
    *steps: Any, memory: Any = None, transform_input: Any = None, verbose: bool = False
) -> Pipeline:
    """Make a :class:`Pipeline` whose steps are named after their types.

    Parameters
    ----------
    *steps : estimators
        The last one is the recommender.
    memory : str or object with the joblib.Memory interface, default=None
        As in scikit-learn.
    transform_input : list of str, default=None
        As in scikit-learn.
    verbose : bool, default=False
        As in scikit-learn.

    Returns
    -------
    pipeline : Pipeline
        The pipeline, not fitted.

    See Also
    --------
    Pipeline : Takes steps with names of your choice.

    Examples
    --------
    >>> from sklearn.compose import make_column_transformer
    >>> from sktwotower.baselines import PopularRecommender
    >>> from sktwotower.pipeline import make_pipeline
    >>> pipeline = make_pipeline(
    ...     make_column_transformer(("passthrough", ["user", "item"])),
    ...     PopularRecommender(),
    ... )
    >>> list(pipeline.named_steps)
    ['columntransformer', 'popularrecommender']
    """
    named = sklearn_pipeline.make_pipeline(*steps).steps
    return Pipeline(named, memory=memory, transform_input=transform_input, verbose=verbose)
