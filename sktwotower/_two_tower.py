"""The estimator: its parameters, ``fit``, ``partial_fit`` and ``add_items``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from sktwotower._data.encoding import Encoder
from sktwotower._data.interactions import Interactions
from sktwotower._data.roles import SIDES
from sktwotower._embedding_recommender import EmbeddingRecommenderMixin
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.optim import DECOUPLED, SCHEDULES
from sktwotower._nn.threads import settled_n_threads
from sktwotower._nn.towers import ACTIVATIONS
from sktwotower._serving.diagram import visual_block
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._serving.evaluation_source import StateEvaluation
from sktwotower._training.configuration import Configuration
from sktwotower._training.continuing import continued_by
from sktwotower._training.data import (
    encode,
    read_training_rows,
    read_validation_rows,
    refuse_other_ids,
    rows_that_train,
    with_own_users,
)
from sktwotower._training.early_stopping import Validation, hold_out
from sktwotower._training.fit import Fit
from sktwotower._training.objective import NEGATIVES
from sktwotower._training.seeding import numpy_random_state
from sktwotower._training.state import ModelState
from sktwotower._training.training import Training
from sktwotower.history import PooledHistory, TransformerHistory
from sktwotower.utils import _column_store as column_store
from sktwotower.utils._columns import is_dataset, is_frame
from sktwotower.utils._forms import refuse_lazy
from sktwotower.utils._notebook import bar_in_notebook
from sktwotower.utils._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    VisualBlock,
    fit_context,
    with_callbacks,
)
from sktwotower.utils._warnings import warn


def _setting(name: str, doc: str) -> property:
    """An attribute that has what a parameter was in the last training."""

    def get(model: TwoTowerRecommender) -> Any:
        return getattr(model._fitted().settings, name)

    return property(get, doc=doc)


class TwoTowerRecommender(CallbackSupportMixin, EmbeddingRecommenderMixin, BaseEstimator):
    """A two-tower (dual-encoder) recommender.

    One network turns a user (id and features) into a vector, another turns an item into
    a vector. Their dot product is the score. Training pulls the vectors of a user and an
    item of the same interaction together, against other items: by default by a softmax
    over the items of the batch, corrected for how often each item is in a batch [1]_.
    ``recommend`` ranks the whole catalogue.

    ``fit`` takes interactions, one in each row. Features are columns of X
    (``user_features``, ``item_features``), columns of side tables (``user_table``,
    ``item_table``), or both. Any scikit-learn transformer encodes them. A tower has one
    vector for each field: the vector of field ``f`` of entity ``e`` is the sum over the
    field's columns ``c`` of ``value[e, c] * E[c]``, with a learned vector ``E[c]`` for
    each encoded column. The vectors of the fields are concatenated, go through the layers,
    and are scaled to unit length.

    Parameters
    ----------
    user_column : str or int, default=0
        Column of X with the user ids: a name, or a position. Ids are anything hashable.
    item_column : str or int, default=1
        Column of X with the item ids.
    timestamp_column : str or int, default=None
        Column of X with numbers or datetimes that order the interactions. Give it if the
        question is what a user does next: nothing else gains as much. With it, early
        stopping holds out the latest rows of each user instead of random ones, the history
        of a row has earlier interactions only, and features in X are served as they were in
        the latest row. Later times, such as those of ``history``, must be of the same kind
        and unit; datetimes without a zone are taken as UTC.
    user_features, item_features : str, int, list, slice, mask or callable, default=None
        Feature columns of X, as :class:`~sklearn.compose.ColumnTransformer` takes columns:
        names, positions, a slice, a boolean mask, or a ``make_column_selector``, which
        never selects the ids. A user's features may change from row to row: training uses
        those of the row, serving the latest ones. An item has its latest features in all
        rows, because it is a candidate of many rows at once. A single name gives the
        encoder a 1-D column.
    user_table, item_table : DataFrame or EntityTable, default=None
        Features of the users and items, one row for each id, in addition to those in X. In
        a plain :class:`pandas.DataFrame` the ids are in the column, or the index, that has
        the name of the id column of X, or else in the first column; all other columns are
        features. Features help most where items have few rows. ``clone``, and so every
        search, copies a frame: wrap a large one in :class:`EntityTable`, which is shared.
    user_encoder, item_encoder : transformer, default=None
        Encodes the features; None: a :class:`~sktwotower.preprocessing.FeatureEncoder`,
        which is the one to start with. Titles need a ``TfidfVectorizer``. Each transformer
        of a ``ColumnTransformer`` is a field, any other transformer is one field. A text
        vectorizer takes a table with a single feature. Transformers that need a target y
        are refused; a ``FrozenEstimator`` is used as it is. An encoder without features to
        encode is an error.
    user_id_embedding : bool or "auto", default="auto"
        Whether the id of the user is a field. Without it users are described by their
        history and features alone, and a new user with the same ones has the same
        recommendations. ``"auto"``: False with a bag or a transformer as ``history``, else
        True.
    item_id_embedding : bool, default=True
        Whether the id of the item is a field. Without it items are described by their
        features alone, and items of the table without interactions are in the catalogue.
        Try ``id_dropout`` first: it keeps what an id says of an item with many rows.
    id_dropout : float, default=0.0
        Share of the ids that are replaced by the unknown id in training, on both sides, in
        [0, 1) [7]_. It trains the tower without ids: items that only the table has are then
        in the catalogue, and new users and items are placed by their features. Try 0.1 if
        new items come every day: on first purchases of a shop it costs 1 % of NDCG@10, and
        0.3 costs 4 %. It needs features, or for users a history.
    history : PooledHistory, TransformerHistory, "auto" or None, default="auto"
        The user's past as a field of the user tower: an object of
        :mod:`sktwotower.history`, whose parameters searches reach as ``history__size`` and
        so on. None: there is no such field. ``"auto"``: ``PooledHistory(size=20)`` if
        ``timestamp_column`` orders the rows of a user, or ``TransformerHistory()`` if they
        also come one or two at a time, on average, and there are at least 1,000 users and
        at most 1,000,000 rows. Without an order, ``PooledHistory(size=None, dropout=0.5,
        tied=True)``, or None where that does not go: most users have one positive, y has
        rows of 0 or less, there is no item id, or the loss is no softmax. A column in which
        most rows of a user have one time is no order; it is then left out of this choice
        alone. On MovieLens 100k by time, the history raises NDCG@10 from .198 to .273. Vary
        its ``size`` first, without an order its ``dropout``. With a *bag*, which is a
        ``PooledHistory`` with ``dropout``, and with a *transformer*, which is a
        ``TransformerHistory``, a user is nothing but items. They change what ``"auto"`` is
        elsewhere: the settings belong together.
    popularity_prior : float, "auto" or None, default="auto"
        Weight of an item's popularity in the score: the cosine models taste, a bias models
        popularity. The item embedding gets one more entry, ``log(n + 1)`` for ``n``
        positives minus the mean over items, and the user embedding gets ``temperature *
        popularity_prior``. Training uses the weight 1. When serving, 0 ranks items by taste
        alone, and more than 1 favours popular items; ``popularity_weight`` of
        :meth:`recommend` changes it without a fit. Items without training rows have the
        mean. None: there is no such entry. ``"auto"``: with ``loss="softmax"`` and a
        history, 1; with a bag, ``1 + (n_items + 300) / n_positives``, because taste is less
        certain where an item, or all of X, has few rows; otherwise, or with a learned
        temperature, None.
    embedding_dim : int or "auto", default="auto"
        Width of the embeddings, and of the vector of every field. The entry of
        ``popularity_prior`` comes on top. Half of it costs some quality with many items.
        Memory grows in proportion to it. ``"auto"``: with a bag, 256 up to 50,000 items and
        128 beyond; with a transformer, 64 up to 2,500 items and 128 beyond; else 64.
    hidden_layer_sizes : array-like of int, int, "auto" or None, default="auto"
        Hidden layers of each tower. ``()``: one linear map from the fields to the
        embedding, which is hard to beat without many features; with them try ``(128,)``.
        Each layer adds a matrix product to a step. None: no layer, the embedding is the sum
        of the fields' vectors. Use None with a single field and a higher ``learning_rate``.
        ``"auto"``: None with a bag or a transformer, else ``()``.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Activation of hidden layers; without them it has no effect.
    batch_norm : bool, default=False
        Normalise over the batch before each activation. The embedding of a training row
        then depends on the other rows of its batch. Without hidden layers it has no effect.
    dropout : float, default=0.0
        Share of the inputs of the output layer (and between hidden layers) that is dropped
        in training, in [0, 1). Try 0.1 to 0.3 if the validation metric falls while the loss
        still does; near 1 hardly anything is learned.
    normalize : bool, default=True
        Scale embeddings to unit length, so that the score is a cosine. Without it the
        vectors of popular items may grow long, and the temperature has to be near 1.
    loss : {"softmax", "cross_entropy", "max_margin", "bpr"}, default="softmax"
        Start with ``"softmax"``, which ranks best: it picks the positive out of many
        candidates. The other losses compare pairs: ``"bpr"`` [3]_ ranks a positive above
        its negatives, ``"max_margin"`` above them by ``margin``, and ``"cross_entropy"``
        classifies positives and negatives, or the labels of y where y has rows of 0 or
        less. See :doc:`/user_guide/which_objective`.
    negatives : {"auto", "in_batch", "mixed", "full", "random", "unconsumed", "popular"}, \
            default="auto"
        What a positive is ranked against; keep ``"auto"`` at first.

        - ``"in_batch"``: the other items of the batch; in batches of whole users (see
          ``history``), the items that are left out of their histories. Rare items are
          seldom negatives;
        - ``"mixed"``: the items of the batch, and uniform draws [4]_;
        - ``"full"``: every item that has a training row, at a cost that grows with them;
        - ``"random"``: uniform draws;
        - ``"popular"``: draws in proportion to (number of rows) ** 0.75;
        - ``"unconsumed"``: uniform draws from the items without an interaction of the user.

        ``loss="softmax"`` takes all but ``"unconsumed"``, and the rows of a batch share its
        candidates; the other losses take the last three. ``"auto"`` for the softmax is
        ``"full"`` up to ``batch_size`` items and ``"in_batch"`` beyond; with a bag or a
        transformer, ``"full"`` up to 8192 items and ``"mixed"`` beyond. For
        ``"cross_entropy"`` it is the labels where y has some (labels say nothing about
        items that a user was never shown: to recommend, name a sampler), and
        ``"unconsumed"`` for all else. ``verbose`` prints the choice.
    n_negatives : int or "auto", default="auto"
        Number of draws: for a batch with ``loss="softmax"``, for each row otherwise. More
        draws cost time; for a batch they gain little, for a row a few more than one help.
        It has no effect where nothing is drawn. ``"auto"``: 8 for a row; for a batch,
        ``batch_size``, or 2048 with a bag or a transformer; at most the number of items.
    temperature : float, "learned" or "auto", default="auto"
        Scores are divided by it in every loss. Small values make the nearest negatives
        count most; large values make all count alike. Tune it first, from 0.05 to 0.3: it
        costs no time. ``"learned"`` starts at 0.12 (at 1 without ``normalize``) and trains
        its logarithm, between 0.01 and 10. A learned temperature tends to fall as long as
        training goes on, and to overfit if there are few rows. ``"auto"``: 0.12, or 1
        without ``normalize``; 0.1 with a history; with a bag or a transformer, ``1 /
        log(n_items)`` between 0.05 and 0.25, so that a perfect match outweighs all other
        items together.
    sampling_correction : {"auto", "logq", "refined"} or None, default="auto"
        ``"logq"`` subtracts the logarithm of each candidate's probability of being a
        candidate from its score; a negative that is drawn for a row gets a weight inverse
        to its probability. ``"refined"`` does not correct the positive, which is always a
        candidate [5]_ (softmax only). None penalises popular items for being sampled often,
        and loses 6 % of NDCG@10 with in-batch negatives on MovieLens 100k. With
        ``negatives="full"`` nothing is sampled, and all three are the same. ``"auto"``:
        ``"refined"`` with a bag, else ``"logq"``.
    mask_known_positives : bool, default=True
        Whether the other items that a user has in the training data are left out of the
        user's negatives, as they are left out of recommendations later. False ranks a
        positive against them, too, and saves 12 bytes of memory a row.
    margin : float, default=1.0
        Margin of ``loss="max_margin"``, in units of score / temperature. With 0 a pair in
        the right order is not trained further; larger values push it further apart.
    ssl_pattern : {"rfm", "rfm-complementary", "cfm"} or None, default=None
        Self-supervision of the item tower [6]_, in addition to the softmax. Items are drawn
        uniformly, and two views of each, with different fields masked, are pulled together
        against the other items. ``"rfm"`` masks a random half of the fields for each view,
        ``"rfm-complementary"`` a half and the other half, ``"cfm"`` the half that shares
        most information with a random field and the other half. The id is a field; a masked
        id is the unknown id. Try it for items with few rows. On MovieLens 100k, where
        ranked items have many, an epoch takes 1.5 to 1.7 times as long, and NDCG@10 is 2 to
        4 % lower.
    ssl_weight : float, default=0.2
        Weight of the self-supervised loss; the softmax has weight 1. 0: there is no such
        loss.
    optimizer : {"adamw", "adam", "adagrad", "sgd"}, default="adamw"
        Keep ``"adamw"``, on which the other defaults rest. ``"adamw"`` and ``"sgd"``
        (without momentum) decouple the weight decay from the gradient. ``"sgd"`` and
        ``"adagrad"`` need a higher learning rate; ``"sgd"`` learns well only without
        ``normalize``, at a temperature near 1.
    learning_rate : float or "auto", default="auto"
        Step size at the start. If the loss jumps, try a tenth of it; with too small a value
        ``max_iter`` epochs are not enough. Use ``early_stopping`` with a value of your own.
        ``"auto"``: 1e-2 with a bag, else 5e-3.
    lr_schedule : {"linear", "cosine", "constant", "exponential"}, default="linear"
        ``"linear"`` and ``"cosine"`` bring the learning rate to zero over ``max_iter``
        epochs, ``"constant"`` leaves it, and ``"exponential"`` multiplies it by 0.96 after
        each epoch.
    warmup_fraction : float, default=0.0
        Share of all steps over which the learning rate first rises from zero, in [0, 1).
        Try 0.1 if the loss jumps in the first epochs.
    weight_decay : float or "auto", default="auto"
        Decay of the embedding tables, not of layers. With ``"adamw"`` and ``"sgd"`` each
        step shrinks them by ``learning_rate * weight_decay``. Rows that are seldom seen
        stay near zero, so that features dominate for rare ids. ``"auto"`` starts at ``4 /
        n_batches`` a step, for ``n_batches`` steps an epoch, and falls with the learning
        rate; it is never more than 0.03. The right value depends on the number of steps
        between two updates of a row, so a fixed value would have to follow the size of
        the data. With ``"adam"`` and ``"adagrad"`` it is an L2 penalty, whose gradient
        ``weight_decay * table`` is scaled like any other. ``"auto"`` is 0 for all but
        ``"adamw"``, and with a bag or a transformer.
    epsilon : float, default=1e-8
        Added to the denominator of the adaptive optimizers, that is, all but ``"sgd"``.
        Larger values shorten the steps of weights with small gradients.
    max_grad_norm : float or None, default=None
        Longest gradient of a step; longer ones are scaled down to this norm. It keeps the
        loss finite, but does not make a wrong ``learning_rate`` right.
    batch_size : int or "auto", default="auto"
        Rows of a batch, at most; the batches of an epoch are of equal size. A larger one
        costs less a row, and has fewer steps: raise ``learning_rate``, too. With
        ``negatives="in_batch"`` it has more candidates. With a transformer a batch has
        whole sequences. ``"auto"``: 512; with a bag or a transformer, 2048, or up to 65,536
        if an epoch would have more than 500 batches.
    max_iter : int or "auto", default="auto"
        Epochs, at most; the time grows in proportion. Prefer ``early_stopping`` to a number
        by hand. ``"auto"``: with a bag, as many as make 200 batches and ``500 * n_items /
        n_positives``, between 10 and 40; else 15.
    average : bool, default=True
        Serve, and validate, a running average of the weights after each epoch instead of
        the last ones [2]_. It costs one copy of the weights.
    early_stopping : bool, default=False
        Hold out a share of X, rank it after each epoch against the whole catalogue, stop
        when the metric no longer rises, and go back to the best epoch. Use it for unusual
        data, and with another ``learning_rate``. With ``refit`` it doubles the time.
        Held-out rows count as seen, so they are not recommended later. Each user and each
        item keeps at least one training row.
    validation_fraction : float, default=0.1
        Share of the rows that early stopping holds out, in (0, 1): the latest of each user
        with ``timestamp_column``, else random ones. A small share makes the best epoch a
        matter of chance, a large one leaves few rows to learn from.
    refit : bool, default=True
        Whether early stopping finally trains a new model on all rows, for as many epochs
        as were best; the mean of the scores of an epoch and its two neighbours decides.
        This takes about as long as the first training, and the held-out rows matter, most
        of all the latest ones. ``validation_scores_``, ``loss_curve_`` and ``n_iter_`` are
        those of the first training. False: the model is the first one, as it was after its
        best epoch. It has no effect with ``X_val``.
    n_iter_no_change : int, default=5
        Epochs without progress after which early stopping stops. 1 stops at the first dip;
        each more costs an epoch.
    tol : float, default=1e-4
        Progress is a rise of the validation score by more than this. 0: any rise.
    validation_metric : str or list of str, default="ndcg@10"
        The metric of the validation, best the one that you report: a name that
        :func:`~sktwotower.metrics.make_ranking_scorer` takes. Of a list the first metric
        decides on the best epoch and when to stop, and the others are only recorded.
        Metrics of rows, such as ``"roc_gauc"``, need ``X_val`` with rows of both classes.
    warm_start : bool, default=False
        Whether ``fit`` starts from the present weights: known ids keep their rows, new ids
        start from the unknown one. The model forgets the interactions from before; to add
        to them, use :meth:`partial_fit`.
    device : str or torch.device, default="auto"
        Where to train: a :class:`torch.device` or its name; ``"auto"`` takes an accelerator
        if there is one. A fitted estimator is on the CPU.
    random_state : int, RandomState instance or None, default=None
        Draws initial weights, batches and held-out rows. On a CPU the same number gives
        bit-equal embeddings. The global generators of torch and NumPy do not change.
    verbose : bool, int or "auto", default="auto"
        Start with 1, which prints what each feature became (its kind, or its transformer,
        and its number of columns), what each ``"auto"`` stands for and why, and a line for
        each epoch: loss, validation metrics, time, and the time that the epochs up to
        ``max_iter`` will take; early stopping may need less, and its refit comes on top. 0
        prints nothing. ``"auto"`` is 0, but ``fit`` shows scikit-learn's progress bar in a
        notebook if scikit-learn is 1.9 or newer and rich and ipywidgets are installed. It
        shows none in a thread, in a search, a Pipeline or a function of scikit-learn that
        fits copies of the model, in a study of Optuna, or where a progress bar is among the
        callbacks.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids: those of X in the order of their appearance, then those of the tables.
    seen_ : csr_matrix of shape (n_users, n_items), bool
        Pairs of the training data, of all calls of ``partial_fit``. Row ``r`` belongs to
        ``user_ids_[r]``, column ``c`` to ``item_ids_[c]``.
    user_embeddings_, item_embeddings_ : ndarray of shape (n, embedding_dim), float32
        Row ``r`` belongs to ``user_ids_[r]``, ``item_ids_[r]``. There is one more column
        with ``popularity_prior``.
    user_encoder_, item_encoder_ : fitted transformer or None
        Encodes the features; None without features.
    user_tower_, item_tower_ : TowerTransformer
        Fitted transformers from ids to embeddings, for other Pipelines.
    n_iter_ : int
        Number of epochs.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float, dict of str to list of float, or None
        ``validation_metric`` after each epoch: a list for one name, a dict of lists by name
        for a list of names. None without validation.
    best_validation_score_ : float or None
        The highest value of the metric, or of the first of several; None without
        validation.
    temperature_ : float
        The temperature of the loss, learned or not.
    history_ : PooledHistory, TransformerHistory or None
        The history that the user tower reads.
    user_id_embedding_, embedding_dim_, hidden_layer_sizes_, learning_rate_, batch_size_, \
            max_iter_, negatives_, n_negatives_, sampling_correction_, \
            popularity_prior_, weight_decay_
        The parameters of these names in the last training, with ``"auto"`` resolved.
        ``negatives_`` is ``"labels"`` where the labels of y are the only negatives.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names, if all are strings.

    See Also
    --------
    EntityTable : A side table that clones share.
    sktwotower.metrics.make_ranking_scorer : Scorers for searches and cross-validation.
    sktwotower.baselines.EASERecommender : A strong reference without features.

    References
    ----------
    .. [1] Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
       Recommendations", RecSys 2019.
    .. [2] Shamir & Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", ICML
       2013: the polynomial-decay average with eta = 3.
    .. [3] Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI
       2009.
    .. [4] Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks in
       Recommendations", WWW 2020 companion.
    .. [5] Khrylchenko et al., "Correcting the LogQ Correction: Revisiting Sampled Softmax
       for Large-Scale Retrieval", RecSys 2025.
    .. [6] Yao et al., "Self-supervised Learning for Large-scale Item Recommendations",
       CIKM 2021.
    .. [7] Volkovs, Yu & Poutanen, "DropoutNet: Addressing Cold Start in Recommender
       Systems", NeurIPS 2017.

    Examples
    --------
    >>> from sktwotower import TwoTowerRecommender
    >>> from sktwotower.datasets import make_interactions
    >>> data = make_interactions(n_users=50, n_items=30, n_interactions=600,
    ...                          random_state=0)
    >>> model = TwoTowerRecommender(
    ...     user_column="user_id", item_column="item_id",
    ...     user_table=data.user_table, item_table=data.item_table,
    ...     random_state=0,
    ... ).fit(data.interactions)
    >>> item_ids, scores = model.recommend([0, 1], n_recommendations=3)
    >>> item_ids.shape
    (2, 3)
    >>> model.recommend([0], n_recommendations=2, as_frame=True).columns.tolist()
    ['user_id', 'item_id', 'score', 'rank']
    """

    _parameter_constraints: dict = {
        "user_column": [str, Integral],
        "item_column": [str, Integral],
        "timestamp_column": [str, Integral, None],
        "user_features": [str, Integral, "array-like", slice, callable, None],
        "item_features": [str, Integral, "array-like", slice, callable, None],
        "user_table": "no_validation",
        "item_table": "no_validation",
        "user_encoder": [HasMethods(["fit", "transform"]), None],
        "item_encoder": [HasMethods(["fit", "transform"]), None],
        "user_id_embedding": ["boolean", StrOptions({"auto"})],
        "item_id_embedding": ["boolean"],
        "id_dropout": [Interval(Real, 0, 1, closed="left")],
        "history": "no_validation",  # Configuration says more of a wrong one
        "popularity_prior": [
            Interval(Real, 0, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "embedding_dim": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "batch_norm": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "normalize": ["boolean"],
        "loss": [StrOptions(set(NEGATIVES))],
        "negatives": [StrOptions({"auto"}.union(*NEGATIVES.values()))],
        "n_negatives": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "temperature": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"auto", "learned"}),
        ],
        "sampling_correction": [StrOptions({"auto", "logq", "refined"}), None],
        "mask_known_positives": ["boolean"],
        "margin": [Interval(Real, 0, None, closed="left")],
        "ssl_pattern": [StrOptions({"rfm", "rfm-complementary", "cfm"}), None],
        "ssl_weight": [Interval(Real, 0, None, closed="left")],
        "optimizer": [StrOptions(set(DECOUPLED))],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "lr_schedule": [StrOptions(set(SCHEDULES))],
        "warmup_fraction": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_iter": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "average": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "validation_metric": [str, list, tuple],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose", StrOptions({"auto"})],
    }

    def __init__(
        self,
        *,
        user_column: str | int = 0,
        item_column: str | int = 1,
        timestamp_column: str | int | None = None,
        user_features: Any = None,
        item_features: Any = None,
        user_table: Any = None,
        item_table: Any = None,
        user_encoder: BaseEstimator | None = None,
        item_encoder: BaseEstimator | None = None,
        user_id_embedding: bool | str = "auto",
        item_id_embedding: bool = True,
        id_dropout: float = 0.0,
        history: PooledHistory | TransformerHistory | str | None = "auto",
        popularity_prior: float | str | None = "auto",
        embedding_dim: int | str = "auto",
        hidden_layer_sizes: Sequence[int] | int | str | None = "auto",
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        normalize: bool = True,
        loss: str = "softmax",
        negatives: str = "auto",
        n_negatives: int | str = "auto",
        temperature: float | str = "auto",
        sampling_correction: str | None = "auto",
        mask_known_positives: bool = True,
        margin: float = 1.0,
        ssl_pattern: str | None = None,
        ssl_weight: float = 0.2,
        optimizer: str = "adamw",
        learning_rate: float | str = "auto",
        lr_schedule: str = "linear",
        warmup_fraction: float = 0.0,
        weight_decay: float | str = "auto",
        epsilon: float = 1e-8,
        max_grad_norm: float | None = None,
        batch_size: int | str = "auto",
        max_iter: int | str = "auto",
        average: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        refit: bool = True,
        n_iter_no_change: int = 5,
        tol: float = 1e-4,
        validation_metric: str | Sequence[str] = "ndcg@10",
        warm_start: bool = False,
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int | str = "auto",
    ) -> None:
        self.user_column = user_column
        self.item_column = item_column
        self.timestamp_column = timestamp_column
        self.user_features = user_features
        self.item_features = item_features
        self.user_table = user_table
        self.item_table = item_table
        self.user_encoder = user_encoder
        self.item_encoder = item_encoder
        self.user_id_embedding = user_id_embedding
        self.item_id_embedding = item_id_embedding
        self.id_dropout = id_dropout
        self.history = history
        self.popularity_prior = popularity_prior
        self.embedding_dim = embedding_dim
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.normalize = normalize
        self.loss = loss
        self.negatives = negatives
        self.n_negatives = n_negatives
        self.temperature = temperature
        self.sampling_correction = sampling_correction
        self.mask_known_positives = mask_known_positives
        self.margin = margin
        self.ssl_pattern = ssl_pattern
        self.ssl_weight = ssl_weight
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.warmup_fraction = warmup_fraction
        self.weight_decay = weight_decay
        self.epsilon = epsilon
        self.max_grad_norm = max_grad_norm
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.validation_metric = validation_metric
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> TwoTowerRecommender:
        """Learn from interactions.

        The fitted model is replaced at the end. A fit that is refused, diverges or is
        interrupted leaves the estimator as it was before: fitted or not. Until then the
        earlier model stays in memory, and other threads are answered from it, so delete it
        before you fit again on large data. To keep a model when you interrupt a long fit,
        set a callback that keeps the model of each epoch; see
        :ref:`keep_an_interrupted_fit`. With ``warm_start``, a change of a parameter that
        the fitted towers depend on is refused; :doc:`/user_guide/growing` has a list.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns), path, or Dataset
            Interactions: a user id and an item id in each row. Columns without a role are
            ignored. A path leads to a Parquet file, or to a directory of Parquet files.
            Files, a ``pyarrow.dataset.Dataset`` and a ``numpy.memmap`` are read in blocks,
            so they may be larger than memory; several processes read files together, and
            each has the model of its users (:ref:`several_processes`). With more than
            2**24 rows of any kind, the columns that the model keeps are mapped from
            temporary files, and an epoch is shuffled in windows instead of as a whole.
        y : array-like of shape (n_samples,) or str, default=None
            A row is a positive if its y is above 0; None: all rows are. The other rows are
            explicit negatives, and count as seen. ``loss="cross_entropy"`` learns them as
            labels. For the other losses each positive has one of its user's explicit
            negatives, drawn by weight, as a further negative. If X is a path or a Dataset,
            y is the name of a column.
        sample_weight : array-like of shape (n_samples,) or str, default=None
            Weights of the rows in the loss, also of explicit negatives; rows of weight 0
            are dropped. If X is a path or a Dataset, the name of a column.
        X_val, y_val : like X and y, default=None
            Interactions to validate each epoch on, instead of a held-out share of X. Pairs
            that are also in X are dropped, with a warning if they are more than 1 %. Use
            them in a direct call only: scikit-learn's searches would cut them to the fold.

        Returns
        -------
        self : TwoTowerRecommender
            Fitted.

        Raises
        ------
        ValueError
            For invalid input (the message says what is wrong, in which rows and how many),
            or if the loss becomes NaN.
        FileNotFoundError
            If there is nothing at a path.
        ImportError
            If X is a path and pyarrow is not installed.
        """
        configuration = self._configuration()
        ranks = Ranks.current()
        before = None
        if self.warm_start and self._is_fitted():
            before = continued_by(self._state, ranks)
        roles, interactions = read_training_rows(
            X, y, sample_weight, configuration, before, ranks=ranks
        )
        random_state = numpy_random_state(self.random_state, configuration.device)
        # First of all, so that a refit is the fit without early stopping of as many epochs.
        seed = random_state.randint(np.iinfo(np.int32).max)
        train_rows = rows_that_train(interactions, configuration.objective)
        held_out, refit_rows = None, None
        if y_val is not None and X_val is None:
            raise ValueError("y_val is given without X_val.")
        if X_val is not None:
            held_out = read_validation_rows(X_val, y_val, roles, ranks)
        elif configuration.stopping.early_stopping:
            rows = _held_out_rows(interactions, configuration, random_state)
            held_out = interactions.take(rows)
            # Each entity keeps a row, so that all codes stay as they are.
            if configuration.stopping.refit:
                refit_rows = train_rows
            train_rows = train_rows & ~rows
        data = encode(interactions, train_rows, roles, configuration, before)
        del interactions  # ids have codes from here on
        if held_out is not None and X_val is not None:
            known = {name: data.side(name).entities.vocabulary for name in SIDES}
            refuse_other_ids(held_out, roles, known, "X_val")
        training = Training(configuration, data, before, seed=seed)
        validation = None
        if held_out is not None:
            held_out = with_own_users(held_out, data.user.entities, ranks)
            validation = Validation(
                held_out.expanded(),
                StateEvaluation,
                configuration.stopping,
                held_out=X_val is None,
            )
        self._state = self._run_epochs(
            Fit(training, train_rows, validation),
            training.n_epochs,
            refit_rows=refit_rows,
            task=_callback_task(self, X, y, sample_weight),
        )
        return self

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        n_epochs: int = 1,
    ) -> TwoTowerRecommender:
        """Continue training with further interactions; the first call is a ``fit``.

        New users and items get rows in the tables of ids, which start from the unknown id.
        New categories of a :class:`~sktwotower.preprocessing.FeatureEncoder` get columns;
        other encoders stay as they are. The tables are read again, so they may have more
        rows than before (``set_params``). The optimizer keeps its memory, and the logQ
        correction continues from its estimate of how often each item is in a batch. Each
        call goes through ``lr_schedule`` once. Parameters that are ``"auto"`` stay what the
        first call made of them, but for ``negatives``, ``n_negatives`` and
        ``weight_decay``, which follow the number of all rows so far.

        Rows from before are replayed among the rows of X, with weight 1, so that the model
        does not forget: all of them, or a random sample of nine times the rows of X if
        there are more. With ``weight_decay=0`` the id vectors of users and items without a
        row in X do not change at all; quality is then lower. Their embeddings may change
        nevertheless, because the layers are shared.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns), path, or Dataset
            New interactions, with the columns of the X of ``fit``.
        y, sample_weight : array-like of shape (n_samples,) or str, default=None
            As in ``fit``.
        n_epochs : int, default=1
            Number of epochs over X and the replayed rows.

        Returns
        -------
        self : TwoTowerRecommender
            Fitted.

        Raises
        ------
        ValueError
            As ``fit`` does, and if a parameter has changed that the fitted towers depend
            on; the model is then what it was before. ``early_stopping`` has no effect, and
            callbacks are not called.
        RuntimeError
            If another thread has changed the model meanwhile; its model stays.
        """
        self._validate_params()  # scikit-learn does it in the first call only
        if not isinstance(n_epochs, Integral) or n_epochs is True or n_epochs < 1:
            raise ValueError(
                f"n_epochs must be an integer of at least 1; got {n_epochs!r}."
            )
        n_epochs = int(n_epochs)
        configuration = self._configuration()
        ranks = Ranks.current()
        current = self._state if self._is_fitted() else None
        before = None if current is None else continued_by(current, ranks)
        roles, interactions = read_training_rows(
            X, y, sample_weight, configuration, before, continues=True, ranks=ranks
        )
        random_state = numpy_random_state(self.random_state, configuration.device)
        train_rows = rows_that_train(interactions, configuration.objective)
        seed = random_state.randint(np.iinfo(np.int32).max)
        data = encode(
            interactions, train_rows, roles, configuration, before, continues=True
        )
        del interactions  # ids have codes from here on
        training = Training(
            configuration, data, before, seed=seed, n_epochs=n_epochs, continues=True
        )
        fit = Fit(
            training,
            train_rows,
            loss_curve=() if before is None else before.log.loss_curve,
        )
        fit.continue_for(n_epochs)
        self._replace_state(current, fit.finish())
        return self

    @property
    def user_encoder_(self) -> Encoder | None:
        """Encodes the features of users; None without features."""
        return self._fitted().user.entities.encoder

    @property
    def item_encoder_(self) -> Encoder | None:
        """Encodes the features of items; None without features."""
        return self._fitted().item.entities.encoder

    @property
    def history_(self) -> PooledHistory | TransformerHistory | None:
        """The history that the user tower reads."""
        history = self._fitted().settings.history
        return None if history is None else history.as_parameter()

    user_id_embedding_ = _setting(
        "user_id_embedding", "Whether the id is a field of the user tower."
    )
    embedding_dim_ = _setting("embedding_dim", "Width of the embeddings.")
    hidden_layer_sizes_ = _setting(
        "hidden_layer_sizes", "Hidden layers of each tower; None: no layer."
    )
    learning_rate_ = _setting("learning_rate", "Step size at the start.")
    max_iter_ = _setting("max_iter", "Epochs of ``fit``, at most.")
    batch_size_ = _setting("batch_size", "Rows of a batch, at most.")
    negatives_ = _setting("negatives", "What positives were ranked against.")
    n_negatives_ = _setting("n_negatives", "Draws for a batch, or for a row.")
    sampling_correction_ = _setting(
        "sampling_correction", "What corrected for how often an item is a candidate."
    )
    popularity_prior_ = _setting("popularity_prior", "Weight of popularity in the score.")
    weight_decay_ = _setting("weight_decay", "Decay of the embedding tables.")

    @property
    def n_iter_(self) -> int:
        """Number of epochs."""
        return len(self._fitted().log.loss_curve)

    @property
    def loss_curve_(self) -> list[float]:
        """Mean training loss of each epoch."""
        return list(self._fitted().log.loss_curve)

    @property
    def validation_scores_(self) -> list[float] | dict[str, list[float]] | None:
        """``validation_metric`` after each epoch; None without validation."""
        log = self._fitted().log
        if log.validation_metric is None:
            return None
        if isinstance(log.validation_metric, str):
            return list(log.validation_scores[0])
        return dict(
            zip(log.validation_metric, map(list, log.validation_scores), strict=True)
        )

    @property
    def best_validation_score_(self) -> float | None:
        """The highest value of the deciding metric; None without validation."""
        return self._fitted().log.best_validation_score

    def _is_fitted(self) -> bool:
        return self.__sklearn_is_fitted__()

    def _configuration(self) -> Configuration:
        """The parameters, checked and resolved, at the start of a training."""
        settled_n_threads()
        return Configuration.of(self.get_params(deep=False), owner=type(self).__name__)

    def _run_epochs(
        self,
        fit: Fit,
        n_epochs: int,
        *,
        refit_rows: np.ndarray | None,
        task: dict[str, Any],
    ) -> ModelState:
        """Train until an epoch, a callback or the validation metric says stop."""
        with bar_in_notebook(self, wanted=self.verbose == "auto"):
            fit_task = self._init_callback_context(max_subtasks=n_epochs)
        fit_task.call_on_fit_task_begin(**task)
        for epoch in range(1, n_epochs + 1):
            epoch_task = fit_task.subcontext(task_name="epoch")
            epoch_task.call_on_fit_task_begin(**task)
            patience_is_over = fit.next_epoch(epoch, n_epochs)
            stop = epoch_task.call_on_fit_task_end(
                **task,
                reconstruction_attributes=partial(_reconstruction, fit.snapshot),
            )
            if stop or patience_is_over:
                break
        state = fit.finish(refit_rows)
        fit_task.call_on_fit_task_end(
            **task, reconstruction_attributes=partial(_reconstruction, lambda: state)
        )
        return state

    def add_items(self, frame: Any) -> TwoTowerRecommender:
        """Add items to the catalogue by their features, without training.

        Parameters
        ----------
        frame : DataFrame
            One row for each item: its id, and any of the feature columns. The features of
            an item that is known are updated, with a warning.

        Returns
        -------
        self : TwoTowerRecommender
            With the new items.

        Raises
        ------
        ValueError
            If ids are missing or repeated, or if there is no feature to place items by.
        """
        state = self._fitted()
        refuse_lazy(frame, where="frame")
        if not is_frame(frame):
            raise TypeError(
                f"add_items takes a frame with item ids and features; got "
                f"{type(frame).__name__}."
            )
        items = EntityEmbedder.of(state, "item")
        ids, features = items.rows_to_add(frame, "frame")
        entities = state.item.entities
        if not entities.fields:
            raise ValueError(
                "The model has no item features to place new items by: fit it with "
                "item_table or item_features."
            )
        if features is None:
            raise ValueError(
                "There is nothing to place the items by: frame has none of the item "
                f"features that were trained, which are {entities.columns}."
            )
        n_known = int((entities.vocabulary.codes(ids) > 0).sum())
        if n_known:
            warn(
                f"{n_known} of the {len(ids)} items are known already; their features are "
                "updated."
            )
        if not state.item.trains_cold_path and n_known < len(ids):
            warn(
                "The path without an id is not trained (id_dropout=0): the new items are "
                "recommended only when candidates names them."
            )
        self._replace_state(state, state.with_items(items.with_entities(ids, features)))
        return self

    def save(
        self,
        path: str | os.PathLike,
        *,
        metrics: Mapping[str, float] | pd.DataFrame | None = None,
        optimizer: bool = True,
    ) -> None:
        """Write the fitted model to a directory, without pickle.

        Read it with :func:`sktwotower.load`, also in another process or on another machine.
        It holds the parameters, the tables, the weights and the training interactions,
        that is, ids, features and interactions of users, too. An existing model at the
        path is replaced in one step: a reader gets the old model or the new one, even if
        the save is killed. What is written is read back before that. Callbacks, metadata
        requests and indexes of ``build_index`` are not stored. ``MODEL_CARD.md`` among the
        files describes the model: data, features, sizes, parameters, training and metrics.
        If several processes have read files together, all of them call it (:ref:`shards`).

        Needs ``pip install 'sktwotower[save]'``. See :doc:`/user_guide/saving`.

        Parameters
        ----------
        path : str or path-like
            A directory: a new one, an empty one, or one with a saved model. ``~`` is the
            home directory.
        metrics : dict of str to float, or DataFrame, default=None
            What you measured, for the model card: numbers by name, such as a scorer of
            several metrics returns, or a frame, such as
            :func:`~sktwotower.metrics.ranking_report` returns. ``load`` does not read it.
        optimizer : bool, default=True
            Whether to store the optimizer's memory for ``partial_fit``; with ``"adamw"`` it
            is twice the size of the weights. Without it a later ``partial_fit`` starts with
            a new optimizer.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If there is something else at the path, such as the manifest of another
            package, or a link to nothing; or if the processes that have the other shards
            of the model are not there.
        TypeError
            If an id, a feature, a parameter or an encoder cannot be stored, or would not
            come back as it is, or if a metric is no number.
        OSError
            If the disk is full. After any error, what was at the path is still there.
        ImportError
            If a package of the extra is not installed.

        Examples
        --------
        >>> import tempfile
        >>> import sktwotower
        >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"]]
        >>> model = sktwotower.TwoTowerRecommender(random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     model.save(directory)
        ...     loaded = sktwotower.load(directory)
        >>> bool((loaded.item_embeddings_ == model.item_embeddings_).all())
        True
        """
        from sktwotower._persistence.saving import save_model  # it loads models, too

        save_model(self, path, metrics=metrics, optimizer=optimizer)

    def export_onnx(self, path: str | os.PathLike, *, k: int = 100) -> None:
        """Write ONNX graphs that serve the model without torch and scikit-learn.

        The directory has a graph for each tower, and one that finds the ``k`` best items of
        the catalogue and holds the items' vectors. It also has ids, vectors, histories and
        encoded features of all known users and items, and a ``README.md`` that describes
        inputs and outputs. Encoders are not included: ``contract.json`` lists the encoded
        columns that a tower takes.

        Scores equal those of ``recommend`` up to rounding, so the order is the same for
        scores that differ by more than 1e-6. Equal scores keep the catalogue's order.

        Needs ``pip install 'sktwotower[onnx]'``. See :doc:`/user_guide/serving`.

        Parameters
        ----------
        path : str or path-like
            A directory: a new or an empty one; ``~`` is the home directory. If the export
            fails, nothing is left in it.
        k : int, default=100
            Number of items in an answer, at most the size of the catalogue.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If there is something at the path, or ``k`` is not a number of items.
        TypeError
            If an id cannot be written as JSON.
        ImportError
            If onnx is not installed.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sktwotower import TwoTowerRecommender
        >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"]]
        >>> model = TwoTowerRecommender(random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     model.export_onnx(directory, k=2)
        ...     sorted(file.name for file in Path(directory).glob("*.onnx"))
        ['item_tower.onnx', 'top_k.onnx', 'user_tower.onnx']
        """
        from sktwotower._onnx.export import export  # few fits are exported

        export(self._fitted(), path, k=k)

    def _sk_visual_block_(self) -> VisualBlock:
        """The diagram for a notebook."""
        params = self.get_params(deep=False)
        return visual_block(params, self._state if self._is_fitted() else None)


def _held_out_rows(
    interactions: Interactions,
    configuration: Configuration,
    random_state: np.random.RandomState,
) -> np.ndarray:
    """The rows that early stopping validates on."""
    fraction = configuration.stopping.validation_fraction
    rows, share = hold_out(interactions, fraction, random_state), interactions.share
    if not share.any(rows.any()):
        n = int(share.sum(np.array(len(interactions))))
        raise ValueError(
            f"early_stopping=True, but validation_fraction={fraction} of {n} rows leaves "
            "none to validate on that a user and an item could spare; raise it, or set "
            "early_stopping=False."
        )
    return rows


def _callback_task(
    estimator: TwoTowerRecommender,
    X: Any,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None,
) -> dict[str, Any]:
    """What callbacks are told of a task."""
    labels = y
    if y is None and not is_dataset(X):  # ScoringMonitor skips y=None
        labels = column_store.full(len(X), 1.0, np.float64)
    task: dict[str, Any] = {"estimator": estimator, "X": X, "y": labels}
    if sample_weight is not None:
        task["metadata"] = {"sample_weight": sample_weight}
    return task


def _reconstruction(state: Callable[[], ModelState]) -> dict[str, Any]:
    """What a callback's copy of the estimator gets."""
    return {"_state": state()}
