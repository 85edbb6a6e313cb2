"""The estimator: parameters, fit, and what is remembered of it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.entities import Entities, add_entities, build_entities
from sktwotower._data.entity_table import EntityTable, as_table
from sktwotower._data.histories import InteractionCodes
from sktwotower._data.interactions import (
    FeatureColumns,
    Interactions,
    Roles,
    check_columns,
    check_X,
    codes_of,
    read_interactions,
)
from sktwotower._data.stored_interactions import StoredInteractions
from sktwotower._embedding_recommender import EmbeddingRecommenderMixin
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.optim import DECOUPLED, SCHEDULES
from sktwotower._nn.resize import rows_stay
from sktwotower._nn.runtime import resolve_device
from sktwotower._nn.towers import ACTIVATIONS, Tower
from sktwotower._persistence.mixin import PersistenceMixin
from sktwotower._serving.diagram import visual_block
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._training.early_stopping import Validation, hold_out
from sktwotower._training.objective import NEGATIVES, ObjectiveSpec
from sktwotower._training.training import Before, Training, TrainingRun
from sktwotower.metrics._registry import parse_metric
from sktwotower.preprocessing import FeatureEncoder
from sktwotower.utils import _memmap as memmap
from sktwotower.utils._columns import as_pandas, is_dataset, is_frame
from sktwotower.utils._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    VisualBlock,
    fit_context,
)


class TwoTowerRecommender(
    PersistenceMixin, CallbackSupportMixin, EmbeddingRecommenderMixin, BaseEstimator
):
    """A two-tower (dual-encoder) recommender.

    One network turns a user (id and features) into a vector, another turns an item into
    a vector; their dot product is the score. Training pulls the vectors of a user and an
    item that the user had together, against other items: by default a softmax over the
    items of the batch, corrected for how often each is there [1]_. ``recommend`` ranks the
    whole catalogue.

    ``fit`` takes interactions, one row each. Features live in columns of X
    (``user_features``, ``item_features``), in side tables (``user_table``,
    ``item_table``), or in both; they are encoded by any scikit-learn transformer, and
    enter a tower field by field: the vector of field ``f`` of entity ``e`` is the sum over
    the field's columns ``c`` of ``value[e, c] * E[c]``, with a learned vector ``E[c]`` for
    each encoded column. The fields' vectors are concatenated, go through the layers, and
    are scaled to unit length.

    Parameters
    ----------
    user_column : str or int, default=0
        Column of X with the user ids: a name, or a position. Ids are anything hashable.
    item_column : str or int, default=1
        Column of X with the item ids.
    timestamp_column : str or int, default=None
        Column of X with numbers or datetimes that order the interactions. Early stopping
        then holds out each user's latest rows rather than random ones, a history has
        what came before a row and nothing else, and features in X are served as they were
        in the latest row.
    user_features, item_features : str, int, list, slice, mask or callable, default=None
        Feature columns that ride along in X, as
        :class:`~sklearn.compose.ColumnTransformer` takes columns: names, positions, a
        slice, a boolean mask, or a ``make_column_selector``, which never selects the ids.
        A user's features may change from row to row: training uses those of the row,
        serving the latest. An item has its latest ones throughout, since it is a
        candidate of many rows at once. A single name hands the encoder a 1-D column.
    user_table, item_table : DataFrame or EntityTable, default=None
        Features of the users and items, one row an id, beside those in X. A plain frame
        has its ids in the column named like that of X, or else in its first column; every
        other column is a feature. ``clone``, and so every search, copies a frame: wrap a
        large one in :class:`EntityTable`, which is shared.
    user_encoder, item_encoder : transformer, default=None
        Encodes the features of a table; None: a
        :class:`~sktwotower.preprocessing.FeatureEncoder`. A ``ColumnTransformer`` makes
        each of its transformers a field, any other transformer is one field. A text
        vectorizer takes a table with a single feature.
    user_id_embedding, item_id_embedding : bool, default=True
        Whether the id is a field of its own. Without it a side is described by its
        features (and history) alone, and rows of the table that nobody touched yet are in
        the catalogue.
    id_dropout : float, default=0.0
        Share of the ids that are replaced by the unknown one in training, on both sides,
        in [0, 1) [7]_. It trains the path without an id: items that only the table has
        are in the catalogue then, and new users and items are placed by their features.
        It costs 2 % of NDCG@10 at 0.1 and 5 % at 0.3 on ml-latest-small.
    history_size : int, default=0
        How many of the user's most recent positives are pooled into a field of the user
        tower, as ``sum / sqrt(number)`` of vectors of their own; 0: none. With
        ``timestamp_column`` it is what came before the row; without, the last of all other
        rows. The row's own item is never in it. Worth more than anything else where rows
        have an order: MovieLens 100k by time goes from .198 to .273 of NDCG@10.
    history_dropout : float, default=0.0
        For rows without an order in time, with ``history_size``: the share of each user's
        rows that is left out of the history, drawn anew at each epoch, in [0, 1). What is
        left out are the positives of that epoch, and the rest is the history [8]_, so that
        one history serves many positives: a batch is as many whole users as have about
        ``batch_size`` rows, ranked against all items (``negatives="full"``). 0: each row
        has the user's other rows for a history, and is an input of its own.
        :meth:`partial_fit` does without it after the first call.
    tie_history : bool, default=False
        Whether the history pools the vectors that the item tower has of ids, rather than
        vectors of its own: half as many numbers to learn, and what is said of an item as
        a positive is said of it in a history.
    popularity_prior : float or None, default=None
        How much an item's popularity counts beside what the towers say. The item has one
        more number at the end of its embedding, ``log(n + 1)`` for ``n`` positives
        less the mean over items, and the user ``temperature * popularity_prior``.
        In training it counts as 1, so that the towers learn how a user's taste departs
        from everybody's, and a cosine need not say how often an item is wanted. Served
        with 0, items rank by taste alone; with more than 1, popular ones rise. None:
        there is no such number. Without training rows an item has the mean.
    embedding_dim : int, default=64
        Width of the embeddings, and of the vector of every field.
    hidden_layer_sizes : array-like of int, int or None, default=()
        Hidden layers of each tower; ``()``: one linear map from the fields to the
        embedding, which is hard to beat without many features. None: no layer at all, the
        embedding is the sum of the fields' vectors. It bears a higher ``learning_rate``,
        and suits a tower of a single field, which has nothing to mix.
    activation : {"relu", "gelu", "silu", "tanh"}, default="relu"
        Between hidden layers.
    batch_norm : bool, default=False
        Normalise over the batch before each activation. It makes a row's embedding depend
        on who else is in the batch.
    dropout : float, default=0.0
        Share of the inputs of the output layer (and between hidden layers) that is
        dropped in training, in [0, 1).
    normalize : bool, default=True
        Scale embeddings to unit length, so that the score is a cosine. Without it popular
        items may grow long, and the temperature has to be near 1.
    loss : {"softmax", "cross_entropy", "max_margin", "bpr"}, default="softmax"
        ``"softmax"`` picks the positive out of many candidates. The others work on pairs:
        ``"bpr"`` [3]_ puts a positive above its negatives, ``"max_margin"`` above them by
        ``margin``, ``"cross_entropy"`` says which of them is the positive, or, where y has
        rows of 0 or less, what y is. See :doc:`/user_guide/which_objective`.
    negatives : {"auto", "in_batch", "mixed", "full", "random", "unconsumed", "popular"}, \
            default="auto"
        What a positive is ranked against.

        - ``"in_batch"``: the other items of the batch;
        - ``"mixed"``: these, and uniform draws [4]_;
        - ``"full"``: every item that has a training row;
        - ``"random"``: uniform draws;
        - ``"popular"``: draws in proportion to (number of rows) ** 0.75;
        - ``"unconsumed"``: uniform draws from what the user does not have.

        ``loss="softmax"`` takes all but ``"unconsumed"``, and its candidates are shared by
        the rows of a batch; the other losses take the last three. ``"auto"`` is
        ``"full"`` up to ``batch_size`` items and ``"in_batch"`` beyond for the softmax,
        the labels for ``"cross_entropy"`` where y has some (they say nothing of items that
        a user was never shown: to recommend, name a sampler beside them), else
        ``"unconsumed"``. ``verbose`` says what it was.
    n_negatives : int or "auto", default="auto"
        How many are drawn: for a batch with ``loss="softmax"``, for each row otherwise. Of
        no effect where nothing is drawn. ``"auto"``: ``batch_size``, and 8, but not more
        than there are items.
    temperature : float or "learned", default=0.12
        Scores are divided by it in every loss. Small values make the nearest few
        negatives count; large ones make all count alike. ``"learned"`` starts at 0.12
        (without ``normalize`` at 1) and trains its logarithm, between 0.01 and 10. It
        tends to fall as long as training goes on, and to overfit where rows are few.
    sampling_correction : {"logq", "refined"} or None, default="logq"
        ``"logq"`` subtracts the logarithm of each candidate's probability of being a
        candidate from its score; a negative that is drawn for a row counts as much less
        as it is drawn more often than uniformly. ``"refined"`` leaves the positive
        uncorrected, which is a candidate for certain [5]_ (softmax only). None punishes
        popular items for being sampled often. With ``negatives="full"`` nothing is
        sampled, and all three are the same.
    mask_known_positives : bool, default=True
        Whether the other items that a user has in the training data are left out of the
        user's negatives, as they are left out of recommendations later. False ranks a
        positive against them, too.
    margin : float, default=1.0
        Of ``loss="max_margin"``, in units of score / temperature.
    ssl_pattern : {"rfm", "rfm-complementary", "cfm"} or None, default=None
        Self-supervision of the item tower [6]_, beside the softmax: items are drawn
        uniformly, two views of each with different fields masked are pulled together,
        against the other items. ``"rfm"`` masks a random half of the fields for each
        view, ``"rfm-complementary"`` a half and the other half, ``"cfm"`` the half that
        has most to do with a random field and the other half. The id is a field; a masked
        id is the unknown one. It helps items with few rows.
    ssl_weight : float, default=0.2
        Weight of that loss beside the softmax.
    optimizer : {"adamw", "adam", "adagrad", "sgd"}, default="adamw"
        ``"adamw"`` and ``"sgd"`` (without momentum) decouple the weight decay from the
        gradient. ``"sgd"`` and ``"adagrad"`` want a higher learning rate; ``"sgd"`` learns
        well only without ``normalize``, at a temperature near 1.
    learning_rate : float, default=5e-3
        Step size at the start.
    lr_schedule : {"linear", "cosine", "constant", "exponential"}, default="linear"
        How the learning rate goes to zero over ``max_iter`` epochs, that it stays, or
        that it falls by the factor 0.96 an epoch.
    warmup_fraction : float, default=0.0
        Share of all steps over which the learning rate also rises from zero, in [0, 1).
    weight_decay : float or "auto", default="auto"
        Decay of the embedding tables, not of layers. With ``"adamw"`` and ``"sgd"`` each
        step shrinks them by ``learning_rate * weight_decay``. Rows that are seldom seen
        stay near zero and leave the word to the features. ``"auto"`` starts at ``4 /
        n_batches`` a step, for ``n_batches`` steps an epoch, and falls with the learning
        rate; it is never more than 0.03. What suits depends on how many steps pass
        between two sightings of a row, so a fixed value would have to follow the size of
        the data. With ``"adam"`` and ``"adagrad"`` it is an L2 penalty, whose gradient
        ``weight_decay * table`` is scaled like any other. ``"auto"`` is 0 but for
        ``"adamw"``.
    epsilon : float, default=1e-8
        Added to the denominator of the adaptive optimizers, that is, all but ``"sgd"``.
    max_grad_norm : float or None, default=None
        The gradient of a step is scaled down to this length if it is longer.
    batch_size : int, default=512
        Rows of a batch, at most; batches of an epoch are of equal size. With
        ``negatives="in_batch"`` a larger batch has more candidates.
    max_iter : int, default=15
        Epochs, at most.
    average : bool, default=True
        Serve, and validate, a running average of the weights after each epoch rather than
        the last ones [2]_. It costs one copy of the weights.
    early_stopping : bool, default=False
        Hold out a share of X, rank it after each epoch against the whole catalogue, stop
        when it no longer gets better, and go back to the best epoch. Held-out rows stay
        seen: they are not recommended later. No user and no item loses its last row.
    validation_fraction : float, default=0.1
        Share of the rows that early stopping holds out: of each user's rows the latest
        with ``timestamp_column``, else random ones.
    refit : bool, default=False
        After early stopping, train once more on all rows for as many epochs as were best.
        The rows that were held out are the latest, and worth having; it takes as long
        again. ``validation_scores_``, ``loss_curve_`` and ``n_iter_`` are those of the
        first training. With ``X_val`` nothing was held out, and nothing is done.
    n_iter_no_change : int, default=3
        Epochs without progress before early stopping stops.
    tol : float, default=1e-4
        A validation score must rise by more than this to be progress.
    validation_metric : str, default="ndcg@10"
        What is validated; see :func:`~sktwotower.metrics.make_ranking_scorer`.
    warm_start : bool, default=False
        Whether ``fit`` starts from the weights so far: known ids keep their rows, new ones
        start from the unknown one. Interactions of before are forgotten but for that; to
        add to them, see :meth:`partial_fit`.
    device : str or torch.device, default="auto"
        Where to train: ``"cpu"``, ``"cuda"``, ...; ``"auto"`` takes an accelerator if
        there is one. A fitted estimator lives on the CPU.
    random_state : int, RandomState instance or None, default=None
        Draws initial weights, batches and what is held out. On a CPU the same number
        gives bit-equal embeddings. The global generators of torch and NumPy stay as they
        were.
    verbose : bool or int, default=0
        1 prints what is trained against what, and a line an epoch.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray of shape (n_users,), (n_items,)
        Known ids: those of X in the order of their appearance, then those that only a
        table has.
    user_embeddings_, item_embeddings_ : ndarray of shape (n, embedding_dim), float32
        Row ``r`` belongs to ``user_ids_[r]``, ``item_ids_[r]``.
    user_encoder_, item_encoder_ : fitted transformer or None
        What encodes the features; None without any.
    user_tower_, item_tower_ : TowerTransformer
        Fitted transformers from ids to embeddings, for other Pipelines.
    n_iter_ : int
        Epochs that were run.
    loss_curve_ : list of float
        Mean training loss of each epoch.
    validation_scores_ : list of float or None
        ``validation_metric`` after each epoch; None without validation.
    best_validation_score_ : float or None
        The highest of them.
    temperature_ : float
        The temperature of the loss, learned or not.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
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
    .. [8] Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018
       (Mult-DAE).

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
    ['user', 'item', 'score', 'rank']
    """

    loss_curve_: list[float]
    n_iter_: int
    validation_scores_: list[float] | None
    best_validation_score_: float | None

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
        "user_id_embedding": ["boolean"],
        "item_id_embedding": ["boolean"],
        "id_dropout": [Interval(Real, 0, 1, closed="left")],
        "history_size": [Interval(Integral, 0, None, closed="left")],
        "history_dropout": [Interval(Real, 0, 1, closed="left")],
        "tie_history": ["boolean"],
        "popularity_prior": [Interval(Real, 0, None, closed="left"), None],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "hidden_layer_sizes": [
            "array-like",
            Interval(Integral, 1, None, closed="left"),
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
            StrOptions({"learned"}),
        ],
        "sampling_correction": [StrOptions({"logq", "refined"}), None],
        "mask_known_positives": ["boolean"],
        "margin": [Interval(Real, 0, None, closed="left")],
        "ssl_pattern": [StrOptions({"rfm", "rfm-complementary", "cfm"}), None],
        "ssl_weight": [Interval(Real, 0, None, closed="left")],
        "optimizer": [StrOptions(set(DECOUPLED))],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions(set(SCHEDULES))],
        "warmup_fraction": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "average": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "validation_metric": [str],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
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
        user_id_embedding: bool = True,
        item_id_embedding: bool = True,
        id_dropout: float = 0.0,
        history_size: int = 0,
        history_dropout: float = 0.0,
        tie_history: bool = False,
        popularity_prior: float | None = None,
        embedding_dim: int = 64,
        hidden_layer_sizes: Sequence[int] | int | None = (),
        activation: str = "relu",
        batch_norm: bool = False,
        dropout: float = 0.0,
        normalize: bool = True,
        loss: str = "softmax",
        negatives: str = "auto",
        n_negatives: int | str = "auto",
        temperature: float | str = 0.12,
        sampling_correction: str | None = "logq",
        mask_known_positives: bool = True,
        margin: float = 1.0,
        ssl_pattern: str | None = None,
        ssl_weight: float = 0.2,
        optimizer: str = "adamw",
        learning_rate: float = 5e-3,
        lr_schedule: str = "linear",
        warmup_fraction: float = 0.0,
        weight_decay: float | str = "auto",
        epsilon: float = 1e-8,
        max_grad_norm: float | None = None,
        batch_size: int = 512,
        max_iter: int = 15,
        average: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        refit: bool = False,
        n_iter_no_change: int = 3,
        tol: float = 1e-4,
        validation_metric: str = "ndcg@10",
        warm_start: bool = False,
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int = 0,
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
        self.history_size = history_size
        self.history_dropout = history_dropout
        self.tie_history = tie_history
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
        *,
        sample_weight: ArrayLike | None = None,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> TwoTowerRecommender:
        """Learn from interactions.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns), path, or Dataset
            Interactions: a user id and an item id a row. Columns without a role are
            ignored. A path is that of a Parquet file, or of a directory of them; it, a
            ``pyarrow.dataset.Dataset`` and a ``numpy.memmap`` are read in blocks, and need
            not fit into memory. With more than 2**24 rows, of any kind, what is kept of
            them is mapped from temporary files while the model lives, and an epoch is
            shuffled in windows instead of as a whole.
        y : array-like of shape (n_samples,) or str, default=None
            A row is a positive when its y is above 0; None: all are. The others are
            explicit negatives, and count as seen. ``loss="cross_entropy"`` learns them as
            labels; for the other losses one of the user's, drawn by weight, is a further
            negative of each of the user's positives. The name of a column where X is a path
            or a Dataset.
        sample_weight : array-like of shape (n_samples,) or str, default=None
            Weights of the rows in the loss, also of explicit negatives; rows of weight 0
            are as if they were not there. The name of a column where X is a path or a
            Dataset.
        X_val, y_val : like X and y, default=None
            Interactions to validate each epoch on, in place of a held-out share of X.
            For a direct call: scikit-learn's searches cut fit parameters to the fold.

        Returns
        -------
        self : TwoTowerRecommender
            Fitted.

        Raises
        ------
        ValueError
            For input that cannot be used (the message says what, where and how often),
            or when the loss becomes NaN.
        FileNotFoundError
            If there is nothing at a path.
        ImportError
            If X is a path and pyarrow is not installed.
        """
        parse_metric(self.validation_metric)
        self._refuse_parameters()
        objective = _objective_spec(self)
        before = self._so_far() if self.warm_start else None
        interactions = self._read_training(X, y, sample_weight, reset=True)
        random_state = _random_state(self.random_state, self.device)
        train_rows = _rows_that_train(interactions, objective)
        held_out, refit = None, False
        if y_val is not None and X_val is None:
            raise ValueError("y_val is given without X_val.")
        if X_val is not None:
            held_out = self._read_validation(X_val, y_val)
        elif self.early_stopping:
            rows = hold_out(interactions, self.validation_fraction, random_state)
            if not rows.any():
                raise ValueError(
                    f"early_stopping=True, but validation_fraction="
                    f"{self.validation_fraction} of {len(interactions)} rows leaves none "
                    "to validate on that a user and an item could spare; raise it, or set "
                    "early_stopping=False."
                )
            held_out, refit = interactions.take(rows).unfolded(), self.refit
            train_rows = train_rows & ~rows
        seed = random_state.randint(np.iinfo(np.int32).max)
        training = self._prepare(
            interactions, train_rows, objective, seed, before, n_epochs=self.max_iter
        )
        del interactions  # ids have codes now
        validation = None
        if held_out is not None:
            validation = Validation(
                held_out, self.validation_metric, self.tol, self.n_iter_no_change
            )
        self._run_epochs(
            training,
            train_rows,
            validation,
            # Nobody lost its last row, so all codes stay as they are.
            refit_rows=train_rows | rows if refit else None,
            task=_callback_task(self, X, y, sample_weight),
        )
        return self

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        n_epochs: int = 1,
    ) -> TwoTowerRecommender:
        """Go on learning from further interactions; the first call begins.

        New users and items get rows of their own, which start from the unknown one, and so
        do new categories of a :class:`~sktwotower.preprocessing.FeatureEncoder`; other
        encoders stay as they are. The tables are read again, so that they may have been
        replaced by longer ones (``set_params``). The optimiser goes on with what it knows,
        and the correction of in-batch candidates with how often each item has been in a
        batch so far. Each call goes through ``lr_schedule`` once.

        The rows from before are trained again among those of X (they count as 1 each,
        whatever their weights were), so that what is new fits in with what is known: all
        of them, or if they are more than nine times as many as those of X, so many drawn at
        random. With ``weight_decay=0`` the vectors of ids that X does not have stay bit by
        bit as they are all the same, for users and items alike; that is worth less. The
        embeddings of these users and items may move even so, since the layers are shared.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns), path, or Dataset
            Interactions that were not there before, laid out like those.
        y, sample_weight : array-like of shape (n_samples,) or str, default=None
            As in ``fit``.
        n_epochs : int, default=1
            How often to go through X, and what is drawn from before.

        Returns
        -------
        self : TwoTowerRecommender
            Fitted.

        Raises
        ------
        ValueError
            As ``fit`` does; the model is then what it was before. ``early_stopping`` plays
            no role, and callbacks are not called.
        """
        if not isinstance(n_epochs, Integral) or n_epochs is True or n_epochs < 1:
            raise ValueError(
                f"n_epochs must be an integer of at least 1; got {n_epochs!r}."
            )
        self._refuse_parameters()
        objective = _objective_spec(self)
        as_it_was = self.__dict__.copy()
        try:
            self._continue_fit(X, y, sample_weight, objective, n_epochs)
        except BaseException:  # a chunk that is refused costs nothing of what is known
            self.__dict__.clear()
            self.__dict__.update(as_it_was)
            raise
        return self

    def _continue_fit(
        self,
        X: Any,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        objective: ObjectiveSpec,
        n_epochs: int,
    ) -> None:
        before = self._so_far()
        interactions = self._read_training(X, y, sample_weight, reset=before is None)
        random_state = _random_state(self.random_state, self.device)
        train_rows = _rows_that_train(interactions, objective)
        seed = random_state.randint(np.iinfo(np.int32).max)
        training = self._prepare(
            interactions,
            train_rows,
            objective,
            seed,
            before,
            n_epochs=n_epochs,
            goes_on=True,
        )
        del interactions  # ids have codes now
        run = training.start(train_rows)
        if before is None:
            self._begin()
        with rows_stay(run.optimizer, run.tables, training.rows_that_stay(run)):
            for epoch in range(1, n_epochs + 1):
                self._next_epoch(training, run, f"{epoch}/{n_epochs}")
        self._end_training(training, run)
        self.validation_scores_ = None
        self.best_validation_score_ = None

    def _read_training(
        self, X: Any, y: ArrayLike | None, sample_weight: ArrayLike | None, *, reset: bool
    ) -> Interactions:
        """The checked rows to learn from; with ``reset`` the columns are taken down."""
        stored = self._stored(X, reset=reset)
        columns = check_X(self, X, reset=reset) if stored is None else stored.columns
        if reset:
            self._user_features = FeatureColumns.of(self, columns, "user")
            self._item_features = FeatureColumns.of(self, columns, "item")
        for features in (self._user_features, self._item_features):
            if features is not None:
                features.refuse_lacking(columns)
        if stored is None:
            interactions = read_interactions(
                columns,
                y,
                sample_weight,
                roles=Roles.of(self),
                in_blocks=isinstance(X, np.memmap),
            )
        else:
            interactions = stored.read(y, sample_weight, roles=Roles.of(self))
        if not interactions.positive.any():
            raise ValueError(
                "There is nothing to learn from: no row of X is a positive (y > 0)."
            )
        return interactions

    def _stored(self, X: Any, *, reset: bool) -> StoredInteractions | None:
        """The rows of a data set, with checked columns; None for a frame or an array."""
        if not is_dataset(X):
            return None
        stored = StoredInteractions(X, owner=type(self).__name__)
        check_columns(self, stored.columns, reset=reset)
        return stored

    def _read_validation(self, X: Any, y: Any) -> Interactions:
        """The checked rows to validate on."""
        stored = self._stored(X, reset=False)
        if stored is None:
            return self._read(X, y, None)
        roles = replace(Roles.of(self), timestamp_column=None)
        return stored.read(y, None, roles=roles).unfolded()

    def _refuse_parameters(self) -> None:
        """Raise ValueError for what the constraints of single parameters cannot say."""
        decay = self.weight_decay
        shrinkage = 0.0 if isinstance(decay, str) else self.learning_rate * decay
        if shrinkage >= 1 and DECOUPLED[self.optimizer]:
            raise ValueError(
                f"learning_rate={self.learning_rate} times weight_decay="
                f"{self.weight_decay} is {shrinkage:.3g}: each step would shrink the "
                "embedding tables by that share, and wipe them out from 1 on. Lower one of "
                "the two, or set weight_decay='auto'."
            )
        if self.history_dropout and not self.history_size:
            raise ValueError(
                f"history_dropout={self.history_dropout} leaves rows out of a history, and "
                "history_size=0 has none; set history_size (a large number is all that a "
                "user has), or history_dropout=0."
            )
        if self.history_dropout and self.timestamp_column is not None:
            raise ValueError(
                f"history_dropout={self.history_dropout} draws a history from all rows of "
                f"a user, and timestamp_column={self.timestamp_column!r} orders them; set "
                "history_dropout=0 (the history is then what came before), or "
                "timestamp_column=None."
            )
        if self.tie_history and not (self.history_size and self.item_id_embedding):
            raise ValueError(
                "tie_history=True pools the ids of the item tower in a history: set "
                "history_size and item_id_embedding=True, or tie_history=False."
            )
        if self.popularity_prior is not None and self.temperature == "learned":
            raise ValueError(
                f"popularity_prior={self.popularity_prior} is in units of the temperature, "
                "which must not change in training: set temperature to a number."
            )
        for size in self._hidden_sizes() or ():
            if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
                raise ValueError(
                    f"hidden_layer_sizes={self.hidden_layer_sizes!r} must hold integers of "
                    "at least 1; () has no hidden layer, None no layer at all."
                )

    def _hidden_sizes(self) -> tuple[Any, ...] | None:
        sizes = self.hidden_layer_sizes
        if sizes is None:
            return None
        return tuple(sizes) if isinstance(sizes, Iterable) else (sizes,)

    def _so_far(self) -> Before | None:
        """What there is to go on from; None before the first fit."""
        if not hasattr(self, "item_embeddings_"):
            return None
        return Before(
            self._users,
            self._items,
            self._towers,
            self._optimizer_memory,
            self._events,
            self._frequencies,
        )

    def _prepare(
        self,
        interactions: Interactions,
        train_rows: np.ndarray,
        objective: ObjectiveSpec,
        seed: int,
        before: Before | None,
        *,
        n_epochs: int,
        goes_on: bool = False,
    ) -> Training:
        """Set ids, codes, encoders and what is seen; refuse a tower without a field."""
        names = getattr(self, "feature_names_in_", None)
        sides, codes, inputs = {}, {}, {}
        for side in ("user", "item"):
            table = as_table(
                getattr(self, f"{side}_table"),
                parameter=f"{side}_table",
                id_column=getattr(self, f"{side}_column"),
                names=None if names is None else list(names),
            )
            encoder = getattr(self, f"{side}_encoder")
            sides[side], codes[side], inputs[side] = build_entities(
                getattr(interactions, f"{side}s"),
                train_rows,
                table,
                FeatureEncoder() if encoder is None else encoder,
                parameter=f"{side}_table",
                features=getattr(interactions, f"{side}_features"),
                times=interactions.times,
                # An item is a candidate of many rows at once, with one vector.
                every_row=side == "user",
                before=None if before is None else getattr(before, f"{side}s"),
            )
            has_history = side == "user" and self.history_size > 0
            has_id = getattr(self, f"{side}_id_embedding")
            if not (has_id or has_history or sides[side].fields):
                raise ValueError(
                    f"The {side} tower has no field: {side}_id_embedding=False and there "
                    f"are no features. Give it {side}_table or {side}_features, "
                    + ("set history_size, " if side == "user" else "")
                    + f"or set {side}_id_embedding=True."
                )
        self._forget_embeddings()  # what follows may fail half-way
        self._users: Entities = sides["user"]
        self._items: Entities = sides["item"]
        self.user_encoder_, self.item_encoder_ = self._users.encoder, self._items.encoder
        users, items = self._users.vocabulary, self._items.vocabulary
        events = InteractionCodes(
            codes["user"], codes["item"], interactions.positive, interactions.times
        )
        goes_on_from = before.events if goes_on and before is not None else None
        self._events = events if goes_on_from is None else goes_on_from.followed_by(events)
        self._set_vocabularies(users, items, self._recommendable())
        self._seen = self._pairs_of_codes(self._events.users, self._events.items)
        self._set_popularity()
        n_outside = len(self._items) - len(self._catalogue)
        if n_outside and self.verbose:
            print(
                f"{n_outside} items without a training row are recommended only when "
                "candidates names them: no positive has trained the item tower without "
                "ids. Set id_dropout to have them in the catalogue."
            )
        return Training(
            self,
            self._users,
            self._items,
            catalogue=self._catalogue,
            events=events,
            inputs=inputs["user"],
            weights=interactions.weights,
            objective=objective,
            seed=seed,
            before=before,
            n_epochs=n_epochs,
            goes_on=goes_on,
        )

    def _recommendable(self, name: str = "item") -> np.ndarray:
        """Codes of the catalogue, or of the users that items are recommended to.

        Those with training rows, and those with features if the path without an id is
        trained.
        """
        entities = self._items if name == "item" else self._users
        inside = entities.id_codes > 0
        if self.id_dropout > 0 or not getattr(self, f"{name}_id_embedding"):
            inside = inside | entities.described
        return np.flatnonzero(inside)

    def _n_positives(self) -> np.ndarray:
        items = self._events.items[self._events.positive]
        return np.bincount(items, minlength=len(self._items) + 1).astype(np.float32)

    def _set_popularity(self) -> None:
        """What ends embeddings: the popularity of items, and of users its weight."""
        if self.popularity_prior is None:
            return
        logs = np.log1p(self._n_positives())
        has_rows = self._items.id_codes > 0
        logs = np.where(has_rows, logs - logs[has_rows].mean(), 0.0).astype(np.float32)
        weight = float(self.temperature) * self.popularity_prior
        weights = np.full(len(self._users.id_codes), weight, dtype=np.float32)
        self._items = replace(self._items, popularity=logs)
        self._users = replace(self._users, popularity=weights)

    def _run_epochs(
        self,
        training: Training,
        train_rows: np.ndarray,
        validation: Validation | None,
        *,
        refit_rows: np.ndarray | None,
        task: dict[str, Any],
    ) -> None:
        """Train until an epoch, a callback or the validation metric says stop."""
        run = training.start(train_rows)
        fit_context = self._init_callback_context(max_subtasks=self.max_iter)
        fit_context.call_on_fit_task_begin(**task)
        self._begin()
        for epoch in range(1, self.max_iter + 1):
            epoch_context = fit_context.subcontext(task_name="epoch")
            epoch_context.call_on_fit_task_begin(**task)
            patience_is_over = self._next_epoch(
                training, run, f"{epoch}/{self.max_iter}", validation
            )
            stop = epoch_context.call_on_fit_task_end(
                **task,
                reconstruction_attributes=partial(self._epoch_attributes, training, run),
            )
            if stop or patience_is_over:
                break
        if validation is not None and self.early_stopping:
            run.served.load_state_dict(validation.best_weights)
            if refit_rows is not None:
                if self.verbose:
                    print(f"refit on all rows, epochs: {validation.best_epoch}")
                run = training.start(refit_rows)
                for _ in range(validation.best_epoch):
                    next(run.epochs)
        self._end_training(training, run)
        if validation is not None:
            self.validation_scores_ = validation.scores
            self.best_validation_score_ = validation.best_score
        fit_context.call_on_fit_task_end(**task, reconstruction_attributes=dict)

    def _begin(self) -> None:
        self.loss_curve_ = []
        self.n_iter_ = 0
        self.validation_scores_ = None
        self.best_validation_score_ = None

    def _next_epoch(
        self,
        training: Training,
        run: TrainingRun,
        name: str,
        validation: Validation | None = None,
    ) -> bool:
        """Train for an epoch, called so; True when validation says that it is enough."""
        started = time.perf_counter()
        loss = next(run.epochs)
        self.n_iter_ += 1
        if not np.isfinite(loss):
            raise ValueError(self._divergence("loss", loss, self.n_iter_))
        self.loss_curve_ = [*self.loss_curve_, loss]
        stop = False
        if validation is not None:
            self._publish(training, run)
            stop = validation.look(self, run.served) and self.early_stopping
        if self.verbose:
            print(self._report(name, validation, time.perf_counter() - started))
        return stop

    def _end_training(self, training: Training, run: TrainingRun) -> None:
        """Serve all that is known from here on; keep what a later training goes on from."""
        run.epochs.close()  # its rows are gone before histories are made of all of them
        past = training.all_past(self._events) if self.history_size else None
        self._publish(training, replace(run, past=past))
        run.served.cpu().eval()
        self._optimizer_memory = training.memory(run)
        self._frequencies = run.frequencies
        self._users, self._items = self._users.now(), self._items.now()

    def _forget_embeddings(self) -> None:
        for name in ("user_embeddings_", "item_embeddings_"):
            self.__dict__.pop(name, None)

    def _divergence(self, what: str, value: object, epoch: int | None = None) -> str:
        advice = [
            f"a lower learning_rate (now {self.learning_rate})",
            f"a lower weight_decay (now {self.weight_decay})",
        ]
        if self.temperature != "learned":
            advice.append(f"a higher temperature (now {self.temperature})")
        if not self.normalize:
            advice.append("normalize=True")
        return (
            f"The {what} became {value} in epoch {epoch or self.n_iter_}: training has "
            f"diverged. Try {', or '.join([', '.join(advice[:-1]), advice[-1]])}."
        )

    def _epoch_attributes(self, training: Training, run: TrainingRun) -> dict[str, Any]:
        """What differs from epoch to epoch, for a callback's copy of the estimator."""
        self._publish(training, run)
        names = (
            "user_embeddings_ item_embeddings_ _unknown_user _unknown_item n_iter_ "
            "temperature_"
        ).split()
        attributes = {name: getattr(self, name) for name in names}
        return attributes | {"loss_curve_": list(self.loss_curve_)}

    def _publish(self, training: Training, run: TrainingRun) -> None:
        """Embed everyone; from here on known users and items are answered from arrays."""
        self._towers, self._past = run.served, run.past
        temperature = run.served.temperature
        self.temperature_ = (
            temperature if isinstance(temperature, float) else temperature.item()
        )
        for side, rows in training.input_rows(run.past).items():
            tower: Tower = getattr(run.served, f"{side}_tower")
            if side == "user" or not training.is_self_supervised:  # else it is trained
                tower.set_unknown_id()
            vectors = tower.embed(rows).numpy()
            if not np.isfinite(vectors).all():  # the last step is in no loss
                raise ValueError(self._divergence(f"{side} embeddings", "NaN or infinite"))
            setattr(self, f"_unknown_{side}", vectors[0].copy())
            setattr(self, f"{side}_embeddings_", vectors[1:])

    def _side(self, name: str) -> EntityEmbedder:
        column = getattr(self, f"{name}_column")
        names = getattr(self, "feature_names_in_", None)
        if not isinstance(column, str):
            column = None if names is None else names[column]
        table = getattr(self, f"{name}_table")
        of_table = None
        if isinstance(table, EntityTable):
            of_table = table.id_column
        elif table is not None and column not in (
            columns := list(as_pandas(table).columns)
        ):
            of_table = columns[0]  # as `as_table` has it
        return EntityEmbedder(
            name=name,
            id_names=tuple(c for c in (column, of_table) if c is not None),
            entities=self._users if name == "user" else self._items,
            tower=getattr(self._towers, f"{name}_tower"),
            embeddings=getattr(self, f"{name}_embeddings_"),
            unknown=getattr(self, f"_unknown_{name}"),
            past=self._past if name == "user" else None,
        )

    def add_items(self, frame: Any) -> TwoTowerRecommender:
        """Put items into the catalogue through their features, without a refit.

        Parameters
        ----------
        frame : DataFrame
            Rows of items: a column with their ids and any of the feature columns. An item
            that is known already is given these features, with a warning.

        Returns
        -------
        self : TwoTowerRecommender
            With the items.

        Raises
        ------
        ValueError
            If ids are missing or repeated, or there is no feature to place items by.
        """
        check_is_fitted(self)
        if not is_frame(frame):
            raise TypeError(
                f"add_items takes a frame with item ids and features; got "
                f"{type(frame).__name__}."
            )
        ids, given = self._rows_of(frame, "frame", "item")
        if not self._items.fields:
            raise ValueError(
                "The model has no item features to place new items by: fit it with "
                "item_table or item_features."
            )
        if given is None:
            raise ValueError(
                "There is nothing to place the items by: frame has none of the item "
                f"features that were trained, which are {self._items.columns}."
            )
        n_known = int((self._items.vocabulary.codes(ids) > 0).sum())
        if n_known:
            warnings.warn(
                f"{n_known} of the {len(ids)} items are known already; their features are "
                "updated.",
                stacklevel=2,
            )
        if self.item_id_embedding and not self.id_dropout and n_known < len(ids):
            warnings.warn(
                "The path without an id is not trained (id_dropout=0): the new items are "
                "recommended only when candidates names them.",
                stacklevel=2,
            )
        vectors = self._side("item").vectors(self._items.vocabulary.codes(ids), given)
        self._items, codes = add_entities(self._items, ids, given)
        embeddings = np.empty((len(self._items), vectors.shape[1]), dtype=vectors.dtype)
        embeddings[: len(self.item_embeddings_)] = self.item_embeddings_
        embeddings[codes - 1] = vectors
        self.item_embeddings_ = embeddings
        self._set_vocabularies(
            self._users.vocabulary, self._items.vocabulary, self._recommendable()
        )
        self._seen.resize(len(self._users), len(self._items))
        if self._past is not None:
            self._past = replace(self._past, id_codes=self._items.id_codes)
        return self

    def _sk_visual_block_(self) -> VisualBlock:
        """What the diagram in a notebook is made of."""
        return visual_block(self)

    def _report(self, name: str, validation: Validation | None, seconds: float) -> str:
        line = f"epoch {name}  loss {self.loss_curve_[-1]:.4f}"
        if validation is not None:
            line += f"  {validation.metric} {validation.scores[-1]:.4f}"
        return f"{line}  {seconds:.1f} s"


def _objective_spec(model: TwoTowerRecommender) -> ObjectiveSpec:
    names = [field.name for field in fields(ObjectiveSpec)]
    spec = ObjectiveSpec(**{name: getattr(model, name) for name in names})
    spec.refuse()
    return spec


def _rows_that_train(interactions: Interactions, objective: ObjectiveSpec) -> np.ndarray:
    """The positives, and rows with ``y <= 0`` where the loss has a use for them."""
    positive = interactions.positive
    if positive.all() or objective.learns_from_labels(positive):
        return np.ones(len(interactions), dtype=bool)
    # Who has no positive is not trained, and nobody's negative either.
    train = np.ones(len(interactions), dtype=bool)
    for ids in (interactions.users, interactions.items):
        codes = codes_of(ids)
        has_positive = np.zeros(int(codes.max()) + 1, dtype=bool)
        has_positive[codes[positive]] = True
        train &= has_positive[codes]
    return positive | train


def _callback_task(
    estimator: TwoTowerRecommender,
    X: Any,
    y: ArrayLike | None,
    sample_weight: ArrayLike | None,
) -> dict[str, Any]:
    """What callbacks are told of a task."""
    labels = y
    if y is None and not is_dataset(X):  # ScoringMonitor skips y=None
        labels = memmap.full(len(X), 1.0, np.float64)
    task: dict[str, Any] = {"estimator": estimator, "X": X, "y": labels}
    if sample_weight is not None:
        task["metadata"] = {"sample_weight": sample_weight}
    return task


def _random_state(
    random_state: int | np.random.RandomState | None,
    device: str | torch.device | None = None,
) -> np.random.RandomState:
    """Like scikit-learn's, but None does not draw from NumPy's global generator.

    Processes that train together on such a device draw the same numbers for None, too.
    """
    if random_state is not None:
        return check_random_state(random_state)
    drawn, ranks = np.random.RandomState(np.random.MT19937()), Ranks.current()
    if ranks is None or device is None:
        return drawn
    seed = drawn.randint(np.iinfo(np.int32).max)
    return np.random.RandomState(ranks.broadcast_int(seed, resolve_device(device)))
