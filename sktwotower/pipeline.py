"""scikit-learn's Pipeline with the queries of a recommender in its last step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import pipeline as sklearn_pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.column_names import refuse_row
from sktwotower._data.pair_forms import chosen, has_lists, ungrouped
from sktwotower._data.roles import SideName
from sktwotower._data.source_columns import (
    lacking_columns,
    source_columns,
    transformers_with_columns,
)
from sktwotower.base import RecommenderMixin
from sktwotower.utils._columns import as_objects, as_pandas, is_frame

__all__ = ["Pipeline", "make_pipeline"]

# The first argument of each query, what it is about, and what answers are.
_QUERIES: dict[str, tuple[str, SideName, SideName]] = {
    "recommend": ("X", "user", "item"),
    "recommend_users": ("item_ids", "item", "user"),
    "similar_items": ("item_ids", "item", "item"),
    "similar_users": ("user_ids", "user", "user"),
    "explain": ("user_ids", "user", "item"),
    "add_items": ("frame", "item", "item"),
}
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
    `similar_items`, `similar_users`, `recommend_users`, `explain`, `add_items` and
    `partial_fit`, if the last step has them. So ``search.best_estimator_.recommend(...)``
    works.

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
    - Frames are checked by the names of their columns before a `ColumnTransformer` leaves
      some out. A frame without ids must not have columns that X did not have, and a
      feature must not be misspelt. Columns of a side table are passed on unchanged.
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

    @available_if(_last_step_has("explain"))
    def explain(self, user_ids: Any, item_ids: Any, **options: Any) -> Any:
        """What each field adds to the scores of pairs: ``explain`` of the last step.

        Parameters
        ----------
        user_ids, item_ids : array-like of shape (n_pairs,), or frame or 2-D array of rows
            Ids are passed on, rows are transformed.
        **options : object
            Arguments of the last step by name: `history`. Frames and 2-D arrays are
            transformed.

        Returns
        -------
        DataFrame
            The answer of the last step.
        """
        return self._forward("explain", user_ids, item_ids=item_ids, **options)

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
        where, asked, answered = _QUERIES[method]
        names = getattr(self, "feature_names_in_", ())
        if method != "add_items":  # which refuses all but frames
            refuse_row(query, names, where=where, side=asked)
        options = {
            name: value
            if name == "candidates"
            and not isinstance(value, _PANDAS)
            and not is_frame(value)
            else self._transform_rows(
                value, name, answered if name in ("candidates", "item_ids") else None
            )
            for name, value in options.items()
        }
        ask = getattr(self.steps[-1][1], method)
        answer = ask(self._transform_rows(query, where, asked), *args, **options)
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

    def _transform_rows(self, value: Any, where: str, side: SideName | None) -> Any:
        """An argument of a query for the last step: rows transformed, others unchanged.

        Rows are users or items, or interactions if ``side`` is None.
        """
        names = getattr(self, "feature_names_in_", ())
        if isinstance(value, list) and value and isinstance(value[0], list | np.ndarray):
            value = as_objects(value, where=where)
        value = ungrouped(value)
        if side is None and isinstance(value, pd.Series) and has_lists(value):
            return value  # lists by id
        value = _with_levels(value, names)
        is_array = isinstance(value, np.ndarray) and value.ndim == 2  # one dimension: ids
        if not (is_array or is_frame(value)) or len(value) == 0:
            return value
        if not is_array:
            return self._transform_frame(value, where, side)
        try:
            return self._transform(value)
        except (ValueError, TypeError, LookupError) as error:
            rows = f"a frame with the columns {list(names)}" if len(names) else "such rows"
            others = "a dict of lists by id" if side is None else "ids in one dimension"
            raise ValueError(
                f"{where} has rows without names of columns, of shape {value.shape}, which "
                f"must be laid out like the X of fit: {error} Give {rows}, or {others}."
            ) from error

    def _transform_frame(self, X: Any, where: str, side: SideName | None) -> Any:
        """A frame of users or items, or of interactions, for the last step."""
        steps, last = self._transformers(), self.steps[-1][1]
        sources, columns = None, None
        if isinstance(last, RecommenderMixin):
            sources = source_columns([step for _, step in steps], last._fitted().roles)
            columns = None if side is None else last._frame_columns(side)
        added, given = pd.DataFrame(), list(X.columns)
        for name, step in steps:
            if sources is not None and step is sources.step:
                frame = as_pandas(X, where=where)
                if side is None or columns is None:
                    sources.refuse_unclear_pairs(frame, where=where)
                else:
                    needs_ids = where in ("candidates", "frame")
                    sources.refuse_unclear_rows(
                        frame, columns, side, where=where, needs_ids=needs_ids
                    )
                    added = sources.of_table(frame, columns)
            try:
                X = self._transform_some(name, X, others=not added.columns.empty)
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"Step {name!r} cannot transform {where}: {error}"
                ) from error
        if not is_frame(X) and (where == "candidates" or not added.columns.empty):
            raise ValueError(
                f"{where} is a frame with the columns {given}. The steps before the "
                "recommender make an array of it, which would be misread without names. "
                "Call set_output(transform='pandas') before fit."
            )
        if added.columns.empty:
            return X
        X = as_pandas(X)
        return pd.concat([X, added.set_axis(X.index)], axis=1)

    def _transformers(self) -> list[tuple[str, Any]]:
        """Names and steps before the last one, without those that pass everything on."""
        return [
            (name, step)
            for name, step in self.steps[:-1]
            if step is not None and not isinstance(step, str)  # "passthrough"
        ]

    def _transform(self, X: Any) -> Any:
        """X, with all its columns, after the steps before the last one."""
        for _, step in self._transformers():
            X = step.transform(X)
        return X

    def _transform_some(self, name: str, X: Any, *, others: bool) -> Any:
        """X after a step, of which a ColumnTransformer may not find all its columns.

        It may find none if the recommender reads ``others``, which are not transformed.
        """
        step = self.named_steps[name]
        lacking = lacking_columns(step, X) if is_frame(X) else []
        if not lacking:
            return step.transform(X)
        X = as_pandas(X)
        part, missing_out = transformers_with_columns(step, X)
        if hasattr(self.steps[-1][1], "feature_names_in_"):
            if not part.transformers_:
                if others:
                    return X[[]]
                raise ValueError(
                    f"The frame has nothing that the step needs; it lacks {lacking}, its "
                    f"columns are {list(X.columns)}."
                )
            output = as_pandas(part.transform(X.reindex(columns=step.feature_names_in_)))
            if is_frame(output):
                return output.drop(columns=missing_out).set_axis(X.index)
        raise ValueError(
            f"The frame lacks {lacking}, and the step gives an array, which must have all "
            "columns. Give them, or call set_output(transform='pandas') before fit."
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
