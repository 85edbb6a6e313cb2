"""What the history of a user is: a parameter of :class:`~sktwotower.TwoTowerRecommender`.

A history is a field of the user tower, beside the id and the features.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from sklearn.base import BaseEstimator

from sktwotower.utils._sklearn import Interval, InvalidParameterError

__all__ = ["PooledHistory", "TransformerHistory"]


class PooledHistory(BaseEstimator):
    r"""A user's past as a bag of items.

    The field of a row's history is

    .. math:: z = \frac{1}{\sqrt{n}} \sum_{k=1}^{n} E[i_k]

    over the :math:`n` items :math:`i_k` of the user's most recent positives, with a learned
    vector :math:`E[i]` for each item. With the square root, the influence of a history
    grows with its length, but less than in proportion. The bag forgets the order of the
    items in it; ``size`` says how far back it reaches. Without times, the row's own item is
    never in it. With times it holds what came before the row. Of the rows of a user that
    have one time, such as those of a basket, every second one has the rows of the basket
    before it in its history, and the others have not: the model learns to complete a basket
    and to begin one.

    Use it as ``history=`` of a :class:`~sktwotower.TwoTowerRecommender`, whose default
    ``"auto"`` chooses ``PooledHistory(size=20)`` or a :class:`TransformerHistory` where
    timestamps order the rows, and ``PooledHistory(size=None, dropout=0.5, tied=True)``
    where there is no order. Start from the one that goes with the data, and vary ``size``
    or ``dropout``. Searches reach its parameters as ``history__size`` and so on.

    Parameters
    ----------
    size : int or None, default=20
        How many of the user's positives are pooled, at most. With ``timestamp_column`` they
        are the latest before the row; without, the last of all other rows. None: all that
        the user has. With times vary it first: 100 items gain 2 % of NDCG@10 on purchases
        of a shop, and on films 50 lose.
    dropout : float, default=0.0
        Share of each user's rows that is left out of the history, drawn anew in each
        epoch, in [0, 1), for rows without an order in time [1]_. The rows that are left
        out are the positives of that epoch, and the others are the history: near 1 there is
        little to learn from. Try 0.5. A batch then holds whole users with about
        ``batch_size`` rows, and the loss is the softmax. Parameters of the recommender that
        are ``"auto"`` follow: for a large catalogue, ``negatives`` is then ``"mixed"``.
        With 0 each row has the user's other rows as its history, which costs more, because
        each row is then an input of its own. With very few rows an epoch may leave out
        none; one random pair is then left out.
        :meth:`~sktwotower.TwoTowerRecommender.partial_fit` uses it in the first call only.
    tied : bool, default=False
        Whether the vectors of the items are the item tower's embeddings of ids instead of
        vectors of their own. It halves the number of parameters. If the recommender
        normalizes embeddings, the vectors are scaled to unit length before they are pooled,
        as they are in the score. Without layers (``hidden_layer_sizes=None``), training
        starts from a truncated singular value decomposition of the matrix of users and
        items, whose rows and columns are divided by the square roots of their sums [2]_
        [3]_.

    See Also
    --------
    sktwotower.TwoTowerRecommender : Takes it as ``history``.

    References
    ----------
    .. [1] Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018
       (Mult-DAE).
    .. [2] Cremonesi et al., "Performance of Recommender Algorithms on Top-N Recommendation
       Tasks", RecSys 2010 (PureSVD).
    .. [3] Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM 2021
       (the normalized matrix).

    Examples
    --------
    >>> from sktwotower import TwoTowerRecommender
    >>> from sktwotower.history import PooledHistory
    >>> X = [["ann", "tea", 1], ["ann", "milk", 2], ["bob", "tea", 3], ["bob", "rum", 4]]
    >>> model = TwoTowerRecommender(
    ...     timestamp_column=2, history=PooledHistory(size=2), random_state=0,
    ... ).fit(X)
    >>> model.history_
    PooledHistory(size=2)
    >>> model.set_params(history__size=5).history
    PooledHistory(size=5)
    """

    _parameter_constraints: dict = {
        "size": [Interval(Integral, 1, None, closed="left"), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "tied": ["boolean"],
    }

    def __init__(
        self, size: int | None = 20, dropout: float = 0.0, tied: bool = False
    ) -> None:
        self.size = size
        self.dropout = dropout
        self.tied = tied


class TransformerHistory(BaseEstimator):
    r"""A user's past as a sequence, which a causal transformer reads.

    With the item tower's embeddings :math:`v_1, \dots, v_n` of the user's most recent
    items in the order of time, learned vectors :math:`p_k` for their places and a learned
    vector :math:`s` for the start, :math:`x_0 = s + p_0` and :math:`x_k = v_k + p_k`. Each
    layer computes for all places

    .. math::
        x \leftarrow x + \text{Attention}(\text{LayerNorm}(x)), \qquad
        x \leftarrow x + W_2 \, \text{gelu}(W_1 \, \text{LayerNorm}(x)),

    where a place attends to itself and to the places before it [1]_. The field is the
    normalized output at the last place; without any item, at the start. Each place has seen
    what came before it and nothing else, so that one pass over a user's items trains all
    of them. Longer histories are cut into windows of ``size`` items for training; a
    recommendation reads the latest ``size``. A batch holds whole sequences with about
    ``batch_size`` rows. With one negative for each positive, scores are too sure of
    themselves [2]_. A softmax over the catalogue, or over many draws that are corrected
    for, is what makes this strong [3]_, and later systems with other layers are trained
    with it, too [4]_ [5]_.

    Use it as ``history=`` of a :class:`~sktwotower.TwoTowerRecommender` for rows that users
    went through in their order, such as clicks, plays and single purchases. The default
    ``"auto"`` chooses it if a user has one or two rows at a time, on average, and there are
    from a thousand users to a million rows. Without ``timestamp_column`` the order of the
    rows is the order, and has to be asked for.

    Parameters
    ----------
    size : int, default=50
        How many of the user's latest items are read, at most. Vary it first. A longer
        history costs little: on MovieLens 1M an epoch takes 16 % longer with 200.
    n_layers : int, default=2
        Number of layers. Matrix products take most of the time, and each layer adds as many
        again.
    n_heads : int, default=2
        Heads of the attention, which divide ``embedding_dim``. More of them cost no more
        parameters; each then reads fewer numbers.
    dropout : float, default=0.2
        Rate at which numbers of the input and of what a layer adds are dropped in training,
        in [0, 1). Vary it after ``size``; near 1 hardly anything is learned.

    See Also
    --------
    PooledHistory : Forgets the order, and is fitted several times faster.
    sktwotower.inspection.AttentionDisplay : Draws which items a vector listens to.

    References
    ----------
    .. [1] Kang & McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.
    .. [2] Petrov & Macdonald, "gSASRec: Reducing Overconfidence in Sequential
       Recommendation Trained with Negative Sampling", RecSys 2023.
    .. [3] Klenitskiy & Vasilev, "Turning Dross Into Gold Loss: is BERT4Rec really better
       than SASRec?", RecSys 2023.
    .. [4] Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential
       Transducers for Generative Recommendations", ICML 2024.
    .. [5] Tikhonovich et al., "eSASRec: Enhancing Transformer-based Recommendations in a
       Modular Fashion", RecSys 2025.

    Examples
    --------
    >>> from sktwotower import TwoTowerRecommender
    >>> from sktwotower.history import TransformerHistory
    >>> X = [["ann", "tea", 1], ["ann", "milk", 2], ["bob", "tea", 3], ["bob", "rum", 4]]
    >>> model = TwoTowerRecommender(
    ...     timestamp_column=2, history=TransformerHistory(size=2), random_state=0,
    ... ).fit(X)
    >>> model.history_
    TransformerHistory(size=2)
    """

    _parameter_constraints: dict = {
        "size": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self, size: int = 50, n_layers: int = 2, n_heads: int = 2, dropout: float = 0.2
    ) -> None:
        self.size = size
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.dropout = dropout


HISTORIES = (PooledHistory, TransformerHistory)


def refuse_no_history(history: Any, *, owner: str) -> None:
    """Raise an error unless a parameter is a history with valid parameters, or a word.

    Parameters
    ----------
    history : object
        What is to be None, "auto" or a history.
    owner : str
        Name of the estimator that has the parameter, for the message.

    Raises
    ------
    InvalidParameterError
        A ValueError and a TypeError.
    """
    if history is None or (isinstance(history, str) and history == "auto"):
        return
    if isinstance(history, HISTORIES):
        history._validate_params()
        return
    if isinstance(history, type) and issubclass(history, HISTORIES):
        what = f"the class {history.__name__}; make an object of it: {history.__name__}()"
    else:
        what = repr(history)
    raise InvalidParameterError(
        f"The 'history' parameter of {owner} must be None, 'auto' or an object of "
        f"sktwotower.history, such as PooledHistory(size=20). Got {what}."
    )
