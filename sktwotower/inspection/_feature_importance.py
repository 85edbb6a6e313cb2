"""Permutation importance of the fields of both towers, by a ranking metric."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktwotower._data.interactions import read_later
from sktwotower._data.roles import SIDES
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._training.seeding import numpy_random_state
from sktwotower._two_tower import TwoTowerRecommender
from sktwotower.inspection._plotting import check_count, check_two_towers
from sktwotower.inspection._shuffling import HISTORY, ID, Part, ShuffledEvaluation
from sktwotower.metrics._evaluation import evaluate
from sktwotower.metrics._query_rows import varies_within_users
from sktwotower.metrics._registry import OF_ROWS, parse_metric
from sktwotower.metrics._sources import Model, unwrap
from sktwotower.metrics._task import RankingOptions


def feature_importance(
    model: Model,
    X: Any,
    y: ArrayLike | None = None,
    *,
    metric: str = "ndcg@10",
    n_repeats: int = 5,
    random_state: int | np.random.RandomState | None = None,
    sample_weight: ArrayLike | None = None,
    exclude_seen: bool = True,
    per_row: bool | None = None,
) -> pd.DataFrame:
    r"""How much worse the ranking becomes when one field of a tower is shuffled.

    Use it to see which fields of users and items a fitted model relies on. The importance
    of field :math:`f` is the permutation importance [1]_ [2]_

    .. math:: I_f = m - \frac{1}{R} \sum_{r=1}^{R} m_{f, r}

    with :math:`m` the metric over the whole catalogue and :math:`m_{f, r}` the metric after
    the :math:`r`-th of :math:`R` shuffles. A shuffle gives each entity the value of this
    field of another entity and keeps its other fields. Fields are columns of tables and of
    X. Nothing is trained again, and the model does not change. Start with the defaults, on
    rows that were held out.

    Parameters
    ----------
    model : TwoTowerRecommender
        A fitted model, a Pipeline that ends in one, or a fitted search over either.
    X : DataFrame or array-like of shape (n_samples, n_columns)
        Interactions with the columns of the X of ``fit``; use rows that the model was not
        trained on. Their users are ranked for, and their items are relevant. Users have
        their features in X, as a scorer reads them, and items those of training. Features
        that X lacks are those of training.
    y, sample_weight : array-like of shape (n_samples,), default=None
        As a scorer of :func:`~sktwotower.metrics.make_ranking_scorer` takes them.
    metric : str, default="ndcg@10"
        A name as in :func:`~sktwotower.metrics.make_ranking_scorer`.
    n_repeats : int, default=5
        Number of shuffles of each field. Each shuffle ranks the catalogue once for all
        users of X, or for all rows. One is enough for a first look; ``importance_std`` is
        then 0.
    random_state : int, RandomState instance or None, default=None
        Draws the shuffles, which all fields of a side share. None uses a new generator,
        not NumPy's global one.
    exclude_seen : bool, default=True
        As in :func:`~sktwotower.metrics.make_ranking_scorer`: whether seen pairs are left
        out of the rankings, and dropped where they are relevant. Set it to False for
        repeat purchases.
    per_row : bool, default=None
        As in :func:`~sktwotower.metrics.make_ranking_scorer`: whether each row is ranked
        with its own features. None: yes if rows of a user have different features, such as
        the time of day.

    Returns
    -------
    DataFrame of shape (n_fields, 4)
        One row a field, the most important field first, with the columns

        - ``side``: ``"user"`` or ``"item"``;
        - ``field``: ``"id"`` for the id embedding of the side; ``"history"`` for the
          history of users; else the name of the column for a
          :class:`~sktwotower.preprocessing.FeatureEncoder`, the name of the transformer
          for a ``ColumnTransformer``, and ``"features"`` for any other encoder;
        - ``importance_mean``: the mean decrease of the metric. Values below 0 mean that
          the metric rose, by chance or because the model overfits the field;
        - ``importance_std``: the standard deviation over the shuffles. It does not cover
          the variation over users or over fits.

        ``frame.attrs["baseline"]`` is the metric without a shuffle.

    Raises
    ------
    TypeError
        If ``model`` neither is nor ends in a TwoTowerRecommender.
    NotFittedError
        If the model is not fitted.
    ValueError
        If no row is relevant, the metric is unknown, or ``n_repeats`` is below 1.

    See Also
    --------
    sktwotower.metrics.make_ranking_scorer : The metric alone.
    sklearn.inspection.permutation_importance : Shuffles columns of X, not the columns of
        tables, and not histories. Its values for item features in X are 0, because a
        scorer ranks items with their features of training; it warns of that.

    Notes
    -----
    Items are shuffled within the catalogue, and users within the known users that have a
    relevant row in X. Unknown users are ranked with the vector of the unknown user, in all
    rankings. If X has features of users, then all users who are ranked for, or all rows
    with `per_row`, are shuffled. Metrics of rows, such as ``roc_auc``, shuffle the rows
    for a side with features in X. Seen pairs are not shuffled, and are left out of the
    rankings as always.

    The importance describes this model, not the data:

    - Redundant fields share their importance. When one is shuffled, the others replace it,
      so each can look unimportant although all of them together are important.
    - The id is redundant with the features of every entity with many rows. Features that
      matter for cold items may therefore show little importance. Use a model without the
      id embedding, or rows of cold items, to measure it.
    - A shuffle makes combinations of values that do not occur in the data, on which the
      model was not trained.
    - The importance of ids and histories is too large on rows of training, since ids have
      learned these items and histories contain them.

    References
    ----------
    .. [1] Breiman, "Random Forests", Machine Learning 45, 2001.
    .. [2] Fisher, Rudin & Dominici, "All Models are Wrong, but Many are Useful: Learning a
       Variable's Importance by Studying an Entire Class of Prediction Models
       Simultaneously", JMLR 20(177), 2019: the difference of section 3, over sampled
       permutations.

    Examples
    --------
    >>> from sktwotower import TwoTowerRecommender
    >>> from sktwotower.datasets import make_interactions
    >>> from sktwotower.inspection import feature_importance
    >>> data = make_interactions(feature_share=1.0, random_state=0)
    >>> train, test = data.interactions[:3200], data.interactions[3200:]
    >>> model = TwoTowerRecommender(
    ...     user_column="user_id", item_column="item_id",
    ...     user_table=data.user_table, item_table=data.item_table,
    ...     user_id_embedding=False, item_id_embedding=False, random_state=0,
    ... ).fit(train)
    >>> importance = feature_importance(model, test, random_state=0)
    >>> importance.columns.tolist()
    ['side', 'field', 'importance_mean', 'importance_std']
    >>> importance[["side", "field"]].iloc[0].tolist()
    ['item', 'item_cat_0']
    >>> importance.attrs["baseline"] == model.score(test)
    True
    """
    recommender, X = _recommender_of(model, X)
    name, _ = parse_metric(metric)
    check_count("n_repeats", n_repeats)
    rng = numpy_random_state(random_state)
    state = recommender._state
    rows = read_later(X, y, sample_weight, known=state, with_times=True)
    if per_row is None:
        per_row = varies_within_users(rows)
    evaluated = ShuffledEvaluation.of(state, rows, by_row=name in OF_ROWS, per_row=per_row)
    options = RankingOptions(exclude_seen=exclude_seen, per_row=per_row)
    # Embedded like the shuffled ones, in the same batches: where a shuffle changes
    # nothing, not even the rounding differs, and items that are tied stay in order.
    plain = evaluated.with_vectors("user", None).with_vectors("item", None)
    evaluation = evaluate(plain, evaluated.rows, [metric], options)
    evaluation.warn()
    baseline = evaluation.means[metric]
    found = []
    for side in SIDES:
        inputs = evaluated.inputs[side]
        shuffles = [rng.permutation(np.arange(len(inputs))) for _ in range(n_repeats)]
        for field, part in _parts(inputs.embedder):
            scores = []
            for others in shuffles:
                shuffled = plain.with_vectors(side, part, others)
                evaluation = evaluate(shuffled, evaluated.rows, [metric], options)
                scores.append(evaluation.means[metric])
            found.append((side, field, baseline - np.mean(scores), np.std(scores)))
    names = ["side", "field", "importance_mean", "importance_std"]
    frame = pd.DataFrame(found, columns=names).sort_values(
        "importance_mean", ascending=False, kind="stable", ignore_index=True
    )
    frame.attrs["baseline"] = baseline
    return frame


def _recommender_of(model: Model, X: Any) -> tuple[TwoTowerRecommender, Any]:
    """The fitted recommender inside searches and pipelines, and X as it reaches it."""
    last = check_two_towers(model, "feature_importance")
    return last, unwrap(model, X)[1]


def _parts(side: EntityEmbedder) -> list[tuple[str, Part]]:
    """The fields of a side by name, and the part of its input that each one is."""
    parts: list[tuple[str, Part]] = []
    if side.tower.id_table is not None:
        parts.append(("id", ID))
    if side.past is not None:
        parts.append(("history", HISTORY))
    return parts + list(side.state.entities.fields.items())
