"""What a model was fitted with: the parameters that follow the data, resolved."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sktwotower.history import PooledHistory


@dataclass(frozen=True)
class HistorySettings:
    """The history field of the user tower.

    Attributes
    ----------
    size, dropout, tied
        As in :class:`~sktwotower.history.PooledHistory`.
    """

    size: int | None = 20
    dropout: float = 0.0
    tied: bool = False

    @classmethod
    def of(cls, history: PooledHistory) -> HistorySettings:
        """The settings that an object gives, as numbers of Python."""
        size = None if history.size is None else int(history.size)
        return cls(size, float(history.dropout), bool(history.tied))

    def __str__(self) -> str:
        return f"PooledHistory(size={self.size}, dropout={self.dropout}, tied={self.tied})"

    def as_parameter(self) -> PooledHistory:
        """The object that gives these settings."""
        return PooledHistory(**asdict(self))


@dataclass(frozen=True)
class Settings:
    """Parameters that ``fit`` has resolved, see `_training.defaults`.

    Attributes
    ----------
    history : HistorySettings or None
        None: the user tower has no such field.
    max_iter, batch_size, n_negatives, popularity_prior, weight_decay
        As in :class:`~sktwotower.TwoTowerRecommender`, without "auto".
    negatives : str
        The same; ``"labels"`` where rows with ``y <= 0`` are the only negatives.
    """

    history: HistorySettings | None
    max_iter: int
    batch_size: int
    negatives: str
    n_negatives: int
    popularity_prior: float | None
    weight_decay: float
