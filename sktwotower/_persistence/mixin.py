"""``save`` and ``export_onnx``, for the estimator."""

from __future__ import annotations

import os

from sktwotower._persistence.saving import save_model


class PersistenceMixin:
    """A model that leaves the notebook."""

    def save(self, path: str | os.PathLike, *, optimizer: bool = True) -> None:
        """Write the fitted model to a directory, without pickle.

        :func:`sktwotower.load` reads it, also in another process and on another machine.
        The parameters, the tables, what was learnt and what was seen are all in it: ids,
        features and interactions of users, too. A model that is there already is replaced
        at once: whoever loads gets the old one or the new one, even if the save is
        killed half-way. Callbacks, metadata requests and indexes of ``build_index`` are
        not stored.

        Needs ``pip install 'sktwotower[save]'``. See :doc:`/user_guide/saving`.

        Parameters
        ----------
        path : str or path-like
            A directory: a new one, an empty one, or an artefact.
        optimizer : bool, default=True
            Whether to keep what the optimiser knows, for ``partial_fit``; with
            ``"adamw"`` it is twice the size of the weights. Without it a later
            ``partial_fit`` starts the optimiser anew.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If there is something else at the path.
        TypeError
            If an id, a feature, a parameter or an encoder cannot be stored; what is at
            the path stays as it is.
        ImportError
            If the packages of the extra are not there.

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
        save_model(self, path, optimizer=optimizer)

    def export_onnx(self, path: str | os.PathLike, *, k: int = 100) -> None:
        """Write graphs that serve the model without torch and scikit-learn.

        The directory has a graph for the user tower, one for the item tower, and one that
        finds the ``k`` best items of the catalogue, with the items' vectors inside; beside
        them ids, vectors, histories and encoded features of everybody who is known, and a
        ``README.md`` that says what goes in and what comes out. Encoders are not in it:
        the columns that a tower takes are listed in ``contract.json``.

        Scores are those of ``recommend`` but for rounding, so that the order is the same
        for scores that differ by more than 1e-6; equal ones are in the order of the
        catalogue.

        Needs ``pip install 'sktwotower[onnx]'``. See :doc:`/user_guide/serving`.

        Parameters
        ----------
        path : str or path-like
            A directory: a new or an empty one.
        k : int, default=100
            Items a query; no more than the catalogue has.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If there is something at the path, or ``k`` is not a number of items.
        TypeError
            If JSON cannot hold an id.
        ImportError
            If onnx is not there.

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
        from sktwotower._onnx.export import export  # few need it, all would wait for it

        export(self, path, k=k)
