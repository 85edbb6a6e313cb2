"""The queries of a recommender that has an embedding for each user and item."""

from __future__ import annotations

import threading
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sktwotower._data.queries import FrameColumns
from sktwotower._data.roles import SideName
from sktwotower._serving import explanations, indexes
from sktwotower._serving import recommend as queries
from sktwotower._serving.answers import Answer
from sktwotower._serving.embedders import EntityEmbedder
from sktwotower._serving.evaluation_source import StateEvaluation
from sktwotower._serving.tower_transformer import TowerTransformer
from sktwotower._training.state import ModelState
from sktwotower.base import RecommenderMixin

_replacing = threading.Lock()


class EmbeddingRecommenderMixin(RecommenderMixin):
    """A recommender whose score is the dot product of a user's and an item's embedding.

    Each query is answered from ``_state`` alone, by a function of ``_serving``.
    """

    _state: ModelState

    def _fitted(self) -> ModelState:
        check_is_fitted(self)
        return self._state

    def _replace_state(self, before: ModelState | None, now: ModelState) -> None:
        """Replace the state that ``now`` was made of.

        Raises
        ------
        RuntimeError
            If another thread has replaced it meanwhile, whose result would be lost.
        """
        with _replacing:
            current = getattr(self, "_state", None)
            if current is not before and (
                current is None
                or before is None
                or not current.differs_in_indexes_only(before)
            ):
                raise RuntimeError(
                    "Another thread has changed the model while this call went on from the "
                    "one before; the model of the other thread stays. Make calls that "
                    "change a model one after the other, and repeat this one."
                )
            self._state = now

    def _evaluation_source(self) -> StateEvaluation:
        return StateEvaluation(self._fitted())

    def _frame_columns(self, side: SideName) -> FrameColumns:
        return EntityEmbedder.of(self._fitted(), side).columns

    @property
    def user_embeddings_(self) -> np.ndarray:
        """Embeddings of the users, (n_users, embedding_dim)."""
        return self._fitted().user.embeddings

    @property
    def item_embeddings_(self) -> np.ndarray:
        """Embeddings of the items, (n_items, embedding_dim)."""
        return self._fitted().item.embeddings

    @property
    def temperature_(self) -> float:
        """The temperature of the loss, learned or not."""
        return self._fitted().temperature

    @property
    def user_tower_(self) -> TowerTransformer:
        """A fitted transformer from user ids or rows to embeddings, for other Pipelines."""
        return TowerTransformer(EntityEmbedder.of(self._fitted(), "user"))

    @property
    def item_tower_(self) -> TowerTransformer:
        """A fitted transformer from item ids or rows to embeddings, for other Pipelines."""
        return TowerTransformer(EntityEmbedder.of(self._fitted(), "item"))

    def predict(self, X: Any, *, cold_start: str = "tower") -> np.ndarray:
        """Score of each row's pair.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_columns)
            Interactions, laid out like the X of ``fit``; a single pair is a frame, or a
            list, of one row. Unknown users and items get a score, too. Each row is scored
            with its own features; features that a frame lacks are those of training.
        cold_start : {"tower", "popular", "mean"}, default="tower"
            The score of an unknown user without features, as in :meth:`recommend`: with
            the unknown user's vector; the item's number of positives, which is on another
            scale than the other scores; or with the mean of all users' vectors. An unknown
            item is scored with the vector of the unknown item, and has 0 positives.

        Returns
        -------
        ndarray of shape (n_samples,), float32
            ``<u, v>``, a cosine if embeddings are normalised, without the temperature.

        See Also
        --------
        recommend : The best items; their scores are those of ``predict``.

        Examples
        --------
        >>> from sktwotower import TwoTowerRecommender
        >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["cid", "rum"]]
        >>> model = TwoTowerRecommender(embedding_dim=2, random_state=0).fit(X)
        >>> model.predict([["ann", "tea"]]).shape
        (1,)
        >>> model.predict([["stranger", "tea"], ["stranger", "rum"]], cold_start="popular")
        array([2., 1.], dtype=float32)
        """
        return queries.predict(self._fitted(), X, cold_start=cold_start)

    def recommend(
        self,
        X: Any,
        n_recommendations: int = 10,
        *,
        candidates: Any = None,
        exclude_seen: bool = True,
        exclude_interactions: Any = None,
        history: Any = None,
        cold_start: str = "tower",
        diversify: float = 0.0,
        max_per_group: dict[Any, int] | None = None,
        popularity_weight: float = 0.0,
        sample: bool = False,
        temperature: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        as_frame: bool = False,
    ) -> Answer:
        r"""The best items for each user, over the whole catalogue.

        Parameters
        ----------
        X : array-like of shape (n_queries,), or frame or 2-D array of user rows
            User ids; or rows with an id, with features, or with both. Features in a frame
            replace those of training. A 2-D array is laid out like the X of ``fit``.
            Unknown users are represented by their features and history.
        n_recommendations : int, default=10
            Number of items for each user.
        candidates : array-like, lists, dict, Series or frame, default=None
            Item ids to choose from, for all users; or for each user: a list of lists, or a
            2-D array with a row for each user, in which None is padding; a dict or Series
            of lists by user id; or a frame of pairs, with the columns of user and item ids
            of X. A user without an entry has nothing to choose from. A tuple is an id.
            None: the catalogue. Unknown ids are left out, with a warning that counts them;
            in a frame with features, unknown items are scored from their features.
        exclude_seen : bool, default=True
            Leave out the items of the user in the training data and in ``history``.
        exclude_interactions : frame, 2-D array, dict or Series, default=None
            Further pairs to leave out, in rows laid out like the X of ``fit``, or as lists
            of item ids by user id; for example items that are out of stock or were shown
            an hour ago. Unlike ``history`` they do not change the user's vector.
        history : frame, 2-D array, dict or Series, default=None
            Further interactions of these users, laid out like the X of ``fit``, or lists
            of item ids by user id, in the order of time. Without a timestamp they are the
            latest ones. They count as seen and, if the model has one, belong to the
            user's history. With timestamps, a row of training that is sent again (the same
            user, item and time) is not added. Unknown items are left out, with a warning
            that counts them.
        cold_start : {"tower", "popular", "mean"}, default="tower"
            How to rank for an unknown user without features and history: by the unknown
            user's vector, by the number of positives (which is then the score), or by the
            mean of all users' vectors.
        diversify : float, default=0.0
            How much the items of an answer should differ from each other, in [0, 1]. Start
            with 0.3. The answer is chosen from the ``max(100, 5 * n_recommendations)`` best
            items, one after the other, by maximal marginal relevance [2]_: with
            :math:`\lambda` = ``diversify`` the next item has the largest

            .. math::

                (1 - \lambda) \frac{s_i - s_{min}}{s_{max} - s_{min}}
                - \lambda \max_{j \in S} \cos(v_i, v_j) ,

            where :math:`S` is what is chosen, :math:`v` are the item vectors without the
            entry of ``popularity_prior``, and the range of scores is that of these best
            items. So the scale of the scores does not matter. 0: the best items, unchanged.
            1: the best item, and then always the one that is least like the others. The
            scores stay those of the model and need not fall along a row. It does not go
            with ``sample``.
        max_per_group : dict of str to int, default=None
            The largest number of items of one value in an answer, by the name of an item
            feature: ``{"brand": 2}`` allows at most two items of a brand. The best items
            that the quotas allow are chosen one after the other, from all candidates. Items
            without a value have no quota. A feature with several values for an item is
            refused. Quotas go with ``diversify``, and with ``sample``, which then draws
            from items of which no group is full.
        popularity_weight : float, default=0.0
            What is added to the weight of popularity in the score: to an item with ``n``
            positives, ``temperature_ * popularity_weight`` times ``log(n + 1)`` less its
            mean over items. This is the unit of ``popularity_prior``, to which it is added
            where the model has one. Positive values favour popular items, negative ones
            rare items. The returned scores include it. It does not change the order of
            ``cold_start="popular"``.
        sample : bool, default=False
            Draw items instead of taking the best: one after the other, without
            replacement, from the softmax :math:`p_j \propto \exp(s_j / \tau)` over the
            remaining items, with :math:`\tau` = ``temperature``. This is the
            Plackett-Luce distribution over rankings. The draw takes the best items after
            adding Gumbel noise to :math:`s_j / \tau` [1]_. With ``cold_start="popular"``
            items are drawn in proportion to 1 + their number of positives, whatever the
            temperature.
        temperature : float, default=None
            The temperature of ``sample``, in the units of the score and at least 1e-6. Near
            0 the draw is of the best items, and the larger it is, the more all items are
            alike. None: ``temperature_``.
        random_state : int, RandomState instance or None, default=None
            Seed of ``sample``: the same number and the same call give the same draw.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        item_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``item_ids_``; with ``diversify`` and
            ``sample`` in the order in which they were chosen or drawn. Rows with fewer
            items are padded with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            Padded with ``-inf``.
        frame : DataFrame with columns of user ids, item ids, score, rank
            With ``as_frame=True``, instead of the two arrays; rank counts from 1, and
            there is no padding. Ids are in columns called as in the X of ``fit``, or
            ``user`` and ``item`` if it had no names, so that a merge needs no renaming.
            Users without ids are named by the index of the frame.

        Raises
        ------
        ValueError
            For arguments in a form without a clear meaning; for a number outside its range;
            for a quota on a column that is no item feature; for timestamps of ``history``
            of another kind or unit than those of ``fit``; with ``as_frame=True``, if X has
            its ids in a column that is called ``score`` or ``rank``.
        TypeError
            For an argument of another type, such as a string for a number.

        See Also
        --------
        recommend_users : The best users for an item.
        build_index : Approximate search for large catalogues.

        References
        ----------
        .. [1] Kool, van Hoof & Welling, "Stochastic Beams and Where to Find Them: The
           Gumbel-Top-k Trick for Sampling Sequences Without Replacement", ICML 2019.
        .. [2] Carbonell & Goldstein, "The Use of MMR, Diversity-Based Reranking for
           Reordering Documents and Producing Summaries", SIGIR 1998. Their weight of the
           relevance is 1 - ``diversify``.

        Examples
        --------
        >>> import pandas as pd
        >>> from sktwotower import TwoTowerRecommender
        >>> X = pd.DataFrame({
        ...     "user": ["ann", "ann", "bob", "bob", "cid"],
        ...     "item": ["tea", "milk", "tea", "rum", "gin"],
        ... })
        >>> goods = pd.DataFrame({
        ...     "item": ["tea", "milk", "rum", "gin"], "shelf": ["a", "a", "c", "c"]
        ... })
        >>> model = TwoTowerRecommender(
        ...     user_column="user", item_column="item", item_table=goods, random_state=0
        ... ).fit(X)
        >>> item_ids, scores = model.recommend(["ann"], max_per_group={"shelf": 1})
        >>> [item for item in item_ids[0] if item is not None]
        ['rum']
        """
        return queries.recommend(
            self._fitted(),
            X,
            n_recommendations=n_recommendations,
            candidates=candidates,
            exclude_seen=exclude_seen,
            exclude_interactions=exclude_interactions,
            history=history,
            cold_start=cold_start,
            diversify=diversify,
            max_per_group=max_per_group,
            popularity_weight=popularity_weight,
            sample=sample,
            temperature=temperature,
            random_state=random_state,
            as_frame=as_frame,
        )

    def recommend_users(
        self,
        item_ids: Any,
        n_recommendations: int = 10,
        *,
        candidates: Any = None,
        exclude_seen: bool = True,
        exclude_interactions: Any = None,
        as_frame: bool = False,
    ) -> Answer:
        """The best users for each item: its audience.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,), or frame or 2-D array of item rows
            Item ids; or rows with an id, with features, or with both, as the users of
            :meth:`recommend`. The audience of an unknown item is found by its features.
        n_recommendations : int, default=10
            Number of users for each item.
        candidates : array-like, lists, dict, Series or frame, default=None
            Users to choose from, as the items of :meth:`recommend`; dicts are by item id.
            None: users with training rows and, if the tower is trained without ids
            (``id_dropout > 0`` or ``user_id_embedding=False``), users with features.
        exclude_seen : bool, default=True
            Leave out the users of the item in the training data.
        exclude_interactions : frame, 2-D array, dict or Series, default=None
            Further pairs to leave out, in rows laid out like the X of ``fit``, or as lists
            of user ids by item id.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        user_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``user_ids_``; short rows are padded
            with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            ``<u, v>``; short rows are padded with ``-inf``.
        frame : DataFrame with columns of item ids, user ids, score, rank
            With ``as_frame=True``, instead of the two arrays, with names as in
            :meth:`recommend`.

        See Also
        --------
        recommend : The best items for a user.

        Notes
        -----
        A softmax over items learns how items rank for a user, not which user likes an item
        most, so the ranking of users is less reliable than the ranking of items.

        Examples
        --------
        >>> from sktwotower import TwoTowerRecommender
        >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["cid", "milk"]]
        >>> model = TwoTowerRecommender(embedding_dim=2, random_state=0).fit(X)
        >>> user_ids, scores = model.recommend_users(["tea"], n_recommendations=1)
        >>> user_ids.tolist()
        [['cid']]
        """
        return queries.recommend_users(
            self._fitted(),
            item_ids,
            n_recommendations=n_recommendations,
            candidates=candidates,
            exclude_seen=exclude_seen,
            exclude_interactions=exclude_interactions,
            as_frame=as_frame,
        )

    def explain(self, user_ids: Any, item_ids: Any, *, history: Any = None) -> pd.DataFrame:
        r"""What each field adds to the scores of pairs: why this item.

        The parts of a pair with side ``"user"`` add up to the score of ``predict``, and so
        do those with side ``"item"``: both say how the same score is made, once by the
        fields of the user, once by those of the item. The parts with side ``"history"`` are
        the items of the user's history; they add up to the part of the user's field
        ``"history"``.

        Without hidden layers the score is a sum over pairs of a user's and an item's
        field. With the vectors :math:`z_f` of the fields of one side, the weights
        :math:`W_f` of the layer (1 without a layer), the length :math:`l` of the embedding
        before it is scaled (1 without ``normalize``) and the other side's embedding
        :math:`v`, a field adds :math:`\langle W_f z_f, v \rangle / l`. This is the sum over
        the other side's fields. The bias of the layer is a row ``"intercept"``.

        With hidden layers, a field adds its integrated gradient [1]_ on the way from the
        unknown user, or item, whose score is a row ``"remainder"``, together with the error
        of the integral. The items of a
        :class:`~sktwotower.history.TransformerHistory` have integrated gradients, too, from
        items whose vectors are zero; what is left is a row ``"remainder"`` of the history.

        A part is relative to the score as a whole: features that all items share add as
        much to every item. Compare the parts of several items of one user.

        Parameters
        ----------
        user_ids : array-like of shape (n_pairs,), frame or 2-D array of user rows, or an id
            The user of each pair, in the forms of :meth:`recommend`. A single one is for
            all items.
        item_ids : array-like of shape (n_pairs,), frame or 2-D array of item rows, or an id
            The item of each pair, in the forms of :meth:`recommend_users`. A single one is
            for all users.
        history : frame, 2-D array, dict or Series, default=None
            Further interactions of these users, as in :meth:`recommend`.

        Returns
        -------
        DataFrame with columns of user ids, item ids, side, field, contribution
            One row for each part, in the order of the pairs. ``side`` is ``"user"``,
            ``"item"`` or ``"history"``; ``field`` is ``"id"``, ``"history"``, the name of a
            feature, ``"popularity"`` (with ``popularity_prior``), ``"intercept"`` or
            ``"remainder"``, and for the side ``"history"`` the id of an item. Ids are in
            columns called as in the X of ``fit``, or ``user`` and ``item``.

        Raises
        ------
        ValueError
            If there are neither as many users as items nor a single one of either; if X
            has its ids in a column that is called like another one of the answer.

        Warns
        -----
        UserWarning
            For unknown ids without features, which are explained as the unknown user or
            item.

        See Also
        --------
        sktwotower.inspection.ExplanationDisplay : Draws the parts of one pair.
        sktwotower.inspection.feature_importance : What a feature is worth for all users.

        References
        ----------
        .. [1] Sundararajan, Taly & Yan, "Axiomatic Attribution for Deep Networks", ICML
           2017.

        Examples
        --------
        >>> import pandas as pd
        >>> from sktwotower import TwoTowerRecommender
        >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "rum"], ["bob", "gin"]]
        >>> drinks = pd.DataFrame(
        ...     {"item": ["tea", "milk", "rum", "gin"], "kind": ["hot", "cold"] * 2}
        ... )
        >>> model = TwoTowerRecommender(
        ...     item_table=drinks, hidden_layer_sizes=(), random_state=0
        ... ).fit(X)
        >>> parts = model.explain("ann", ["tea"])
        >>> parts.query("side == 'item'")["field"].tolist()
        ['id', 'kind', 'intercept', 'popularity']
        >>> score = parts.groupby("side")["contribution"].sum()["item"]
        >>> bool(abs(score - model.predict([["ann", "tea"]])[0]) < 1e-5)
        True
        """
        return explanations.explain(self._fitted(), user_ids, item_ids, history=history)

    def similar_items(
        self,
        item_ids: Any,
        n_recommendations: int = 10,
        *,
        candidates: Any = None,
        as_frame: bool = False,
    ) -> Answer:
        """The items of the catalogue with the largest cosines, for each item.

        Parameters
        ----------
        item_ids : array-like of shape (n_queries,), or frame or 2-D array of item rows
            Items: ids, or rows with features. An unknown id without features has the
            vector of the unknown item.
        n_recommendations : int, default=10
            Number of items for each query, which is never among them.
        candidates : array-like, lists, dict, Series or frame, default=None
            Items to choose from, as in :meth:`recommend`; dicts are by the id that is asked
            about, and a frame is for all queries.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        item_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``item_ids_``; short rows are padded
            with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            Cosines of the vectors; short rows are padded with ``-inf``.
        frame : DataFrame with columns query, item ids, score, rank
            With ``as_frame=True``, instead of the two arrays. The items found are in a
            column called as in the X of ``fit``, or ``item``.

        See Also
        --------
        sktwotower.baselines.EASERecommender.similar_items : The same of a linear model.

        Notes
        -----
        Items are near each other if the same users have them. Set ``popularity_prior``, of
        any weight, if the answers are too popular: without it the vectors have to express
        popularity as well as taste. The entry of the prior is left out here.

        Examples
        --------
        >>> from sktwotower import TwoTowerRecommender
        >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "milk"],
        ...      ["cid", "rum"], ["dan", "milk"]]
        >>> model = TwoTowerRecommender(embedding_dim=4, random_state=0).fit(X)
        >>> item_ids, scores = model.similar_items(["tea"], n_recommendations=1)
        >>> item_ids.tolist()
        [['milk']]
        """
        return queries.similar(
            self._fitted(),
            "item",
            item_ids,
            n_recommendations=n_recommendations,
            candidates=candidates,
            as_frame=as_frame,
        )

    def similar_users(
        self,
        user_ids: Any,
        n_recommendations: int = 10,
        *,
        candidates: Any = None,
        as_frame: bool = False,
    ) -> Answer:
        """The users with the largest cosines, for each user.

        Parameters
        ----------
        user_ids : array-like of shape (n_queries,), or frame or 2-D array of user rows
            Users: ids, or rows with features, as in :meth:`recommend`.
        n_recommendations : int, default=10
            Number of users for each query, which is never among them.
        candidates : array-like, lists, dict, Series or frame, default=None
            Users to choose from, as the items of :meth:`similar_items`.
        as_frame : bool, default=False
            Return a long frame instead of two arrays.

        Returns
        -------
        user_ids : ndarray of shape (n_queries, n_recommendations)
            Best first, equal scores in the order of ``user_ids_``; short rows are padded
            with None.
        scores : ndarray of shape (n_queries, n_recommendations), float32
            Cosines of the vectors; short rows are padded with ``-inf``.
        frame : DataFrame with columns query, user ids, score, rank
            With ``as_frame=True``, instead of the two arrays. The users found are in a
            column called as in the X of ``fit``, or ``user``.
        """
        return queries.similar(
            self._fitted(),
            "user",
            user_ids,
            n_recommendations=n_recommendations,
            candidates=candidates,
            as_frame=as_frame,
        )

    def build_index(
        self, index: str | None = "hnsw", *, side: str = "item", **parameters: int
    ) -> Self:
        """Answer queries approximately from now on, with a faiss index.

        Use it for catalogues of a hundred thousand items and more; below that the exact
        search is fast enough. The index searches by inner product, which is the cosine
        when the embeddings are normalised. It needs faiss:
        ``pip install 'sktwotower[faiss]'``. Start with the default and look at
        :meth:`index_report`.

        Seen items are excluded inside the search, by a selector of faiss. A query that
        gets fewer items than are eligible is answered again, exactly. Queries with
        ``candidates``, ``sample`` or ``popularity_weight``, users who get the most popular
        items, similar items and users of a model without ``normalize``, and ``score`` are
        always answered exactly. With ``diversify`` the index finds the items to choose
        from; what the quotas of ``max_per_group`` need beyond is found exactly.

        Pickles, deep copies and saved models do not contain the index. ``fit``,
        ``partial_fit`` and ``add_items`` change the embeddings and drop it; queries are
        exact until you build it again.

        Parameters
        ----------
        index : str or None, default="hnsw"
            - ``"hnsw"``: a graph of neighbours [1]_, the fastest for its recall and slow
              to build; short for ``"HNSW32"``;
            - ``"ivf"``: lists of vectors around centres, of which the nearest are
              searched; quick to build; short for ``"IVFn,Flat"`` with n = 4 times the
              square root of the number of vectors;
            - ``"flat"``: all vectors are searched, which is exact; short for ``"Flat"``;
            - any other factory string of faiss [2]_ for a graph, for lists, for ``Flat``
              or for a scalar quantizer, such as ``"HNSW16"`` or ``"IVF1000,SQ8"``.
              Compressed vectors only choose the items; the scores are exact;
            - None: drop the index.
        side : {"item", "user"}, default="item"
            What is searched: items, for `recommend` and `similar_items`, or users, for
            `recommend_users` and `similar_users`.
        **parameters : int
            Parameters of the index, by faiss' names. A graph has ``efConstruction=200``
            and ``efSearch=128``, the lengths of the queue while it is built and searched.
            Lists have ``nprobe``, the number of lists that are searched; the default is a
            16th of them and at least 8. Larger values raise recall and take longer.

        Returns
        -------
        self : TwoTowerRecommender
            With the index.

        Raises
        ------
        ImportError
            If faiss is not installed.
        ValueError
            If faiss does not know the index or cannot build it.
        TypeError
            If the index does not have such a parameter.

        See Also
        --------
        index_report : Recall and speed of the index.

        References
        ----------
        .. [1] Malkov & Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search
           Using Hierarchical Navigable Small World Graphs", IEEE TPAMI 42(4), 2020.
        .. [2] https://github.com/facebookresearch/faiss/wiki/The-index-factory

        Examples
        --------
        >>> from sktwotower import TwoTowerRecommender
        >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["cid", "rum"]]
        >>> model = TwoTowerRecommender(embedding_dim=2, random_state=0).fit(X)
        >>> model = model.build_index("hnsw", efSearch=64)
        >>> model.recommend(["bob"], n_recommendations=1)[0].tolist()
        [['rum']]
        """
        state = self._fitted()
        self._replace_state(state, indexes.with_index(state, index, side, parameters))
        return self

    def index_report(
        self,
        *,
        k: int = 100,
        n_queries: int = 1000,
        random_state: int | np.random.RandomState | None = None,
    ) -> pd.DataFrame:
        """Recall of the indexes against exact search, their speed and their size.

        The queries are those of `recommend` (or `recommend_users`) for a random sample of
        known users (items), with seen pairs excluded.

        Parameters
        ----------
        k : int, default=100
            Length of the answers that are compared.
        n_queries : int, default=1000
            Largest size of the sample.
        random_state : int, RandomState instance or None, default=None
            Draws the sample.

        Returns
        -------
        DataFrame
            One row for each index, with the columns

            - ``side``; ``factory``, the factory string of faiss; ``n_vectors``;
            - ``recall``, the share of the exact k best that the index finds;
            - ``queries_per_second`` and ``exact_queries_per_second``, with the sample as
              one batch;
            - ``build_seconds``; ``bytes``, as faiss writes the index, vectors included;
            - ``parameters``, a dict.

        Raises
        ------
        ValueError
            If there is no index.

        See Also
        --------
        build_index : Builds one.
        """
        return indexes.index_report(
            self._fitted(), k=k, n_queries=n_queries, random_state=random_state
        )
