"""A Pipeline that recommends: scikit-learn's, with the queries of its last step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import pipeline as sklearn_pipeline
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sktwotower.utils._columns import as_objects, as_pandas, is_frame
from sktwotower.utils._sklearn import column_indices

__all__ = ["Pipeline", "make_pipeline"]


def _last_step_has(name: str) -> Callable[[Any], bool]:
    def check(pipeline: Any) -> bool:
        getattr(pipeline.steps[-1][1], name)  # its AttributeError says what is missing
        return True

    return check


class Pipeline(sklearn_pipeline.Pipeline):
    """scikit-learn's Pipeline that also forwards the queries of a recommender.

    Everything is as in :class:`sklearn.pipeline.Pipeline`. In addition `recommend`,
    `similar_items`, `similar_users`, `recommend_users`, `add_items` and `partial_fit` are
    there if the last step has them, so that ``search.best_estimator_.recommend(...)``
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
        Of a classifier in the last step; a recommender has none.
    n_features_in_ : int
        Columns of X, as the first step has seen them.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if X has any.

    See Also
    --------
    make_pipeline : The same with names made from the types.

    Notes
    -----
    What a query is given goes through the steps before the last like this:

    - Ids, in one dimension, are handed over as they are.
    - Rows, a frame or a 2-D array, are transformed, whichever argument they are given to:
      users, `history`, `exclude_interactions`. A 2-D array is laid out like the X of
      ``fit``. `candidates` are rows only as a frame, else lists of ids.
    - A frame may lack columns, as a frame of users has none of the items. Of a
      `ColumnTransformer` those transformers are applied that find all their columns, and
      columns that are passed through are passed through one by one; what is left out is
      for the recommender as if the frame had never had it. This needs names, hence
      ``set_output(transform="pandas")``. Any other step demands what it always demands.
    - No rows are handed over as they are.

    Nothing else of the recommender is forwarded; ask the last step, ``pipeline[-1]``.

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
    def recommend(self, X: Any, **options: Any) -> Any:
        """The best items for each user: ``recommend`` of the last step.

        Parameters
        ----------
        X : array-like of shape (n_queries,), or frame or 2-D array of user rows
            Ids are handed over, rows are transformed.
        **options : dict
            To the last step. Frames and 2-D arrays, such as `history` and `candidates`,
            are transformed.

        Returns
        -------
        object
            What the last step returns, such as item ids and scores.
        """
        return self._ask("recommend", X, options)

    @available_if(_last_step_has("similar_items"))
    def similar_items(self, item_ids: Any, **options: Any) -> Any:
        """The items most like these: ``similar_items`` of the last step.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,)
            Handed over as they are; rows are transformed.
        **options : dict
            To the last step. Frames and 2-D arrays are transformed.

        Returns
        -------
        object
            What the last step returns, such as item ids and scores.
        """
        return self._ask("similar_items", item_ids, options)

    @available_if(_last_step_has("similar_users"))
    def similar_users(self, user_ids: Any, **options: Any) -> Any:
        """The users most like these: ``similar_users`` of the last step.

        Parameters
        ----------
        user_ids : array-like of shape (n_queries,)
            Handed over as they are; rows are transformed.
        **options : dict
            To the last step. Frames and 2-D arrays are transformed.

        Returns
        -------
        object
            What the last step returns, such as user ids and scores.
        """
        return self._ask("similar_users", user_ids, options)

    @available_if(_last_step_has("recommend_users"))
    def recommend_users(self, item_ids: Any, **options: Any) -> Any:
        """The best users for each item: ``recommend_users`` of the last step.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,)
            Handed over as they are; rows are transformed.
        **options : dict
            To the last step. Frames and 2-D arrays are transformed.

        Returns
        -------
        object
            What the last step returns, such as user ids and scores.
        """
        return self._ask("recommend_users", item_ids, options)

    @available_if(_last_step_has("add_items"))
    def add_items(self, frame: Any) -> Pipeline:
        """New items in the catalogue: ``add_items`` of the last step, without training.

        Parameters
        ----------
        frame : DataFrame
            Rows of items as they are in the X of ``fit``; transformed.

        Returns
        -------
        self : Pipeline
            With more items.
        """
        self._ask("add_items", frame, {})
        return self

    @available_if(_last_step_has("partial_fit"))
    def partial_fit(self, X: Any, y: ArrayLike | None = None, **params: Any) -> Pipeline:
        """Go on with new rows: ``partial_fit`` of the last step.

        The steps before it stay as ``fit`` has left them: what they give for a row must
        mean the same as before. So a scaler keeps its mean, and a ``OneHotEncoder`` does
        not learn a new category. New user and item ids, which are passed through, are
        learnt.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            New interactions, with all columns of the X of ``fit``.
        y : array-like of shape (n_samples,), default=None
            To the last step.
        **params : dict
            To the last step, without its name in front: ``sample_weight``.

        Returns
        -------
        self : Pipeline
            Trained further.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``; there is nothing to go on from.
        """
        check_is_fitted(self)
        self.steps[-1][1].partial_fit(self._transform(X), y, **params)
        return self

    def _ask(self, method: str, query: Any, options: dict[str, Any]) -> Any:
        check_is_fitted(self)
        options = {
            name: value
            if name == "candidates" and not is_frame(value)
            else self._given(value)
            for name, value in options.items()
        }
        return getattr(self.steps[-1][1], method)(self._given(query), **options)

    def _given(self, value: Any) -> Any:
        """What the last step gets for what a query was given."""
        if isinstance(value, list) and value and isinstance(value[0], list | np.ndarray):
            value = as_objects(value)
        is_rows = is_frame(value) or (
            isinstance(value, np.ndarray) and value.ndim == 2  # one dimension: ids
        )
        if not is_rows or len(value) == 0:
            return value
        return self._transform(value, may_lack=True)

    def _transform(self, X: Any, *, may_lack: bool = False) -> Any:
        for name, step in self.steps[:-1]:
            if step is None or isinstance(step, str):  # "passthrough"
                continue
            lacking = _lacking(step, X) if may_lack and is_frame(X) else []
            if not lacking:
                X = step.transform(X)
                continue
            X = as_pandas(X)
            blocks = list(_blocks(step, X))
            by_name = hasattr(self.steps[-1][1], "feature_names_in_")
            if not by_name or not all(is_frame(block) for block in blocks):
                raise ValueError(
                    f"The frame lacks {lacking}, and step {name!r} gives an array, which "
                    "must have all columns. Give them, or call "
                    "set_output(transform='pandas') before fit."
                )
            if not blocks:
                raise ValueError(
                    f"The frame has nothing that step {name!r} needs; it lacks {lacking}, "
                    f"its columns are {list(X.columns)}."
                )
            X = pd.concat([block.set_axis(X.index) for block in blocks], axis=1)
        return X


def _used(step: ColumnTransformer) -> Iterator[tuple[str, Any, list, bool]]:
    """Transformers that are applied, the names of their columns, whether one is given."""
    known = pd.DataFrame(columns=step.feature_names_in_)
    for key, transformer, wanted in step.transformers_:
        positions = np.atleast_1d(column_indices(known, wanted)).astype(int)
        if len(positions) and not (isinstance(transformer, str) and transformer == "drop"):
            names = step.feature_names_in_[positions].tolist()
            yield key, transformer, names, isinstance(wanted, str | Integral)


def _lacking(step: Any, X: Any) -> list:
    """Columns that a ColumnTransformer needs and a frame does not have."""
    if not isinstance(step, ColumnTransformer) or not hasattr(step, "feature_names_in_"):
        return []
    needed = {name for _, _, names, _ in _used(step) for name in names}
    there = set(as_pandas(X).columns)
    return [name for name in step.feature_names_in_ if name in needed - there]


def _blocks(step: ColumnTransformer, X: pd.DataFrame) -> Iterator[Any]:
    """Outputs of those transformers whose columns are all there."""
    names_out = step.get_feature_names_out()
    for key, transformer, columns, is_single in _used(step):
        names = names_out[step.output_indices_[key]]
        there = np.array([column in X for column in columns])
        # What scikit-learn makes of "passthrough" is a transformer without a function.
        if isinstance(transformer, FunctionTransformer) and transformer.func is None:
            if there.any():
                yield X[np.array(columns)[there]].set_axis(names[there], axis=1)
        elif there.all():
            block = as_pandas(
                transformer.transform(X[columns[0] if is_single else columns])
            )
            yield block.set_axis(names, axis=1) if is_frame(block) else block


def make_pipeline(
    *steps: Any, memory: Any = None, transform_input: Any = None, verbose: bool = False
) -> Pipeline:
    """A :class:`Pipeline` whose steps are named after their types.

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
        Not fitted.

    See Also
    --------
    Pipeline : Where you name the steps.

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
