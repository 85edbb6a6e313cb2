"""One training: towers, rows, batches and an optimizer from a configuration and data."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from sktwotower._data.row_shares import OwnRows
from sktwotower._nn.absence import StreamingFrequencies
from sktwotower._nn.batches import Batches, TrainingRows
from sktwotower._nn.distributed import Ranks
from sktwotower._nn.divided_tables import DividedTables
from sktwotower._nn.history_rows import HistoryRows
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.lazy_tables import LazyTables, LookedUpTables, may_be_lazy
from sktwotower._nn.optim import (
    DECOUPLED,
    make_optimizer,
    make_schedule,
)
from sktwotower._nn.resize import (
    RowSources,
    copy_weights,
    recall,
)
from sktwotower._nn.runtime import Generators, resolve_device
from sktwotower._nn.self_supervision import DrawMasks, SelfSupervision
from sktwotower._nn.towers import Tower
from sktwotower._nn.trainer import train
from sktwotower._nn.two_towers import TwoTowers, average_of
from sktwotower._training.configuration import Configuration
from sktwotower._training.continuing import streaming_frequencies, table_sources
from sktwotower._training.data import TrainingData, refuse_no_field, with_popularity
from sktwotower._training.defaults import resolve
from sktwotower._training.facts import facts_of
from sktwotower._training.memory import of_size, training_bytes, warn_if_too_large
from sktwotower._training.model_making import ModelMaker
from sktwotower._training.new_towers import make_towers
from sktwotower._training.objective import mask_drawer
from sktwotower._training.rows import (
    training_rows,
    with_unit_prior,
)
from sktwotower._training.run import TrainingRun
from sktwotower._training.settings import PooledSettings
from sktwotower._training.spectral_start import start_from_spectrum
from sktwotower._training.state import ModelState
from sktwotower._training.totals import RowTotals


class Training:
    """What is trained on, and how.

    Parameters
    ----------
    configuration : Configuration
        Parameters of towers, objective and optimizer; the attribute of this name has no
        "auto".
    data : TrainingData
        The rows of X, coded and encoded.
    before : ModelState or None
        The model whose weights are the start; None: random weights.
    seed : int
        Of all random numbers.
    n_epochs : int, optional
        The schedule of the learning rate ends after so many epochs. None: after
        ``max_iter``.
    continues : bool, default=False
        Whether the rows follow those of ``before``, which are replayed with them, and the
        optimizer goes on with its memory. Otherwise only the weights are taken over.
    """

    def __init__(
        self,
        configuration: Configuration,
        data: TrainingData,
        before: ModelState | None,
        *,
        seed: int,
        n_epochs: int | None = None,
        continues: bool = False,
    ) -> None:
        self.before = before
        self.seed = seed
        self.replayed = None
        self.interactions = data.interactions  # of this process
        self.share = data.share  # which of all rows these are
        if before is not None and continues:
            id_codes = data.user.entities.id_codes
            share, self.replayed = data.share.of_own_users(
                before.interactions,
                None if before.shard is None else before.shard.numbers,
                id_codes,
            )
            self.interactions = self.replayed.followed_by(data.interactions)
            self.share = share.followed_by(data.share)
        facts = facts_of(data, self.interactions)
        of_before = None if before is None else before.settings
        self.settings = resolve(configuration, facts, of_before, continues=continues)
        # "auto" may be 0, too; the rows then go on with the others.
        self.rows_stay = configuration.settings.weight_decay == 0
        self.configuration = configuration = configuration.resolved(self.settings)
        refuse_no_field(data, configuration)
        self.data = data = with_popularity(data, self.interactions, configuration)
        self.n_epochs = self.settings.max_iter if n_epochs is None else n_epochs
        self.user_rows = data.user.entities.rows(with_id=configuration.user.id_embedding)
        self.item_rows = data.item.entities.rows(with_id=configuration.item.id_embedding)
        self.models = ModelMaker(
            configuration,
            self.settings,
            data,
            self.interactions,
            self.share,
            self.user_rows,
            self.item_rows,
        )
        self.catalogue = self.models.catalogue
        self.draw_masks = self._mask_drawer()
        if configuration.verbose:
            _report_catalogue(len(data.item.entities) - len(self.catalogue))

    @torch.inference_mode(False)  # the caller may be in it
    def start(self, train_rows: np.ndarray) -> TrainingRun:
        """Make the towers and the stream of their epochs' losses.

        Parameters
        ----------
        train_rows : ndarray of shape (n_samples,), bool
            The rows of X that train.
        """
        configuration, ranks = self.configuration, Ranks.current()
        device = resolve_device(configuration.device)
        generators = Generators.seeded(self.seed, device, ranks)
        self._warn_if_too_large(device)
        towers = make_towers(
            configuration,
            self.settings,
            self.user_rows,
            self.item_rows,
            self._n_history_items(),
            generators.common,
            None if ranks is None else ranks.shard,
        ).to(device, torch.float32)
        sources = self._row_sources(ranks)
        if self.before is not None:
            copy_weights(towers, self.before.towers, sources)
        user_rows = self._to_train(self.user_rows, towers.user_tower)
        if self.settings.popularity_prior is not None:
            user_rows = with_unit_prior(user_rows, configuration.temperature)
        rows, user_inputs, past, n_new = training_rows(
            self.data, self.settings, train_rows, user_rows, self.replayed, ranks
        )
        if self.before is None and towers.score_items_by_items:
            id_codes = self.data.item.entities.id_codes
            start_from_spectrum(towers.item_tower, id_codes, rows, self.seed, ranks)
        totals = RowTotals.of(rows, ranks)
        in_history = None
        if isinstance(user_inputs, HistoryRows):
            in_history = user_inputs.in_history
        is_spread = ranks is not None and configuration.objective.is_spread(
            totals, by_user=in_history is not None
        )
        batches, frequencies = self._batches(
            rows, totals, in_history, n_new, ranks, is_spread=is_spread
        )
        optimizer = self._make_optimizer(towers, sources)
        tables = self._tables(towers, optimizer, totals, ranks, is_spread=is_spread)
        average = average_of(towers) if configuration.average else None
        schedule = make_schedule(
            optimizer,
            configuration.lr_schedule,
            n_epochs=self.n_epochs,
            n_batches=batches.n_batches,
            warmup_fraction=configuration.warmup_fraction,
        )
        epochs = train(
            towers,
            user_inputs,
            self._to_train(self.item_rows, towers.item_tower),
            batches,
            configuration.objective.objective(),
            optimizer,
            schedule,
            tables,
            generators,
            self_supervision=self._self_supervision(),
            average=average,
            max_grad_norm=configuration.max_grad_norm,
            ranks=ranks,
        )
        served = towers if average is None else cast(TwoTowers, average.module)
        return TrainingRun(epochs, served, towers, optimizer, tables, frequencies, past)

    def _row_sources(self, ranks: Ranks | None) -> RowSources:
        """The rows of the tables before that those of new towers start from."""
        if self.before is None:
            return {}
        return table_sources(
            self.before, self.data, self.configuration, self._n_history_items(), ranks
        )

    def _n_history_items(self) -> int:
        if not isinstance(self.settings.history, PooledSettings):
            return 0
        return int(self.data.item.entities.id_codes.max()) + 1

    def _to_train(self, rows: EntityRows, tower: Tower) -> EntityRows:
        """The same rows; a few columns before a linear layer become a matrix."""
        is_lazy = may_be_lazy(rows.n_columns, self.settings.batch_size)
        if is_lazy or not (rows.is_narrow and tower.begins_with_a_layer):
            return rows
        return rows.with_matrix()

    def _batches(
        self,
        rows: TrainingRows,
        totals: RowTotals,
        in_history: Tensor | None,
        n_new: int,
        ranks: Ranks | None,
        *,
        is_spread: bool,
    ) -> tuple[Batches, StreamingFrequencies | None]:
        """The batches of the objective, and frequencies of items in a stream."""
        history, frequencies = self.settings.history, None
        is_continued = False
        if self.before is not None and self.replayed is not None:
            is_continued = True
            frequencies = streaming_frequencies(
                self.before.frequencies, rows, n_new, self.settings.batch_size, ranks
            )
        batches = self.configuration.objective.batches(
            rows,
            totals,
            batch_size=self.settings.batch_size,
            n_new=n_new if is_continued else None,
            frequencies=frequencies,
            ranks=ranks,
            in_history=in_history,
            history_dropout=0.0 if history is None else history.drawn_share,
            is_spread=is_spread,
        )
        return batches, frequencies

    def _tables(
        self,
        towers: TwoTowers,
        optimizer: torch.optim.Optimizer,
        totals: RowTotals,
        ranks: Ranks | None,
        *,
        is_spread: bool,
    ) -> LookedUpTables:
        """The tables that the optimizer does not step as a whole."""
        name, batch_size = self.configuration.optimizer, self.settings.batch_size
        if ranks is None:
            return LazyTables(
                towers.lazy_candidates(), optimizer, name, batch_size=batch_size
            )
        has_private_items = self.configuration.objective.has_private_items(totals)
        return DividedTables(
            towers,
            self.user_rows.n_ids,
            optimizer,
            name,
            batch_size=batch_size,
            ranks=ranks,
            has_private_items=has_private_items or self.draw_masks is not None,
            is_spread=is_spread,
        )

    def _make_optimizer(
        self, towers: TwoTowers, sources: RowSources
    ) -> torch.optim.Optimizer:
        configuration = self.configuration
        optimizer = make_optimizer(
            configuration.optimizer,
            towers.embedding_tables(),
            towers.parameters(),
            learning_rate=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            epsilon=configuration.epsilon,
        )
        if self.before is not None and self.replayed is not None:
            name, memory = self.before.optimizer
            if name == configuration.optimizer:
                recall(optimizer, towers, memory, sources)
        return optimizer

    def _mask_drawer(self) -> DrawMasks | None:
        pattern = self.configuration.objective.ssl_pattern
        if pattern is None or self.configuration.ssl_weight == 0:
            return None
        blocks = self.data.item.entities.blocks()
        fields = [block[self.catalogue] for kind in blocks for block in kind]
        return mask_drawer(pattern, self.item_rows, fields)

    def _self_supervision(self) -> SelfSupervision | None:
        if self.draw_masks is None:
            return None
        return SelfSupervision(
            self.item_rows,
            torch.from_numpy(self.catalogue),
            n_draws=self.settings.batch_size,
            draw_masks=self.draw_masks,
            weight=self.configuration.ssl_weight,
        )

    def bytes_of(
        self, user_rows: EntityRows, item_rows: EntityRows, n_history_items: int
    ) -> dict[str, int]:
        """What `training_bytes` says of so many entities, with this configuration."""
        configuration, history = self.configuration, self.settings.history
        has_table = isinstance(history, PooledSettings) and not history.tied
        return training_bytes(
            user_rows,
            item_rows,
            n_history_items if has_table else 0,
            embedding_dim=self.settings.embedding_dim,
            optimizer=configuration.optimizer,
            average=configuration.average,
            has_penalty=(
                self.settings.weight_decay > 0 and not DECOUPLED[configuration.optimizer]
            ),
        )

    def _warn_if_too_large(self, device: torch.device) -> None:
        user_rows = self.user_rows
        if isinstance(self.share, OwnRows):
            user_rows = of_size(user_rows, len(user_rows) // self.share.ranks.size + 1)
        needed = self.bytes_of(user_rows, self.item_rows, self._n_history_items())
        warn_if_too_large(sum(needed.values()), device)


def _report_catalogue(n_outside: int) -> None:
    """Print how many items only ``candidates`` can bring into an answer."""
    if n_outside:
        print(
            f"{n_outside} items without a training row are recommended only when "
            "candidates names them: no positive has trained the item tower without "
            "ids. Set id_dropout to have them in the catalogue."
        )
