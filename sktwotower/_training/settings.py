"""Parameters that may be "auto", and what they are once the data is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

from sktwotower.history import PooledHistory, TransformerHistory

# Settings that the weights were made for: they stay when a model is continued.
OF_WEIGHTS = (
    "history",
    "user_id_embedding",
    "embedding_dim",
    "hidden_layer_sizes",
    "temperature",
)


@dataclass(frozen=True)
class PooledSettings:
    """A history field of the user tower that forgets the order.

    Attributes
    ----------
    size, dropout, tied
        As in :class:`~sktwotower.history.PooledHistory`.
    """

    size: int | None = 20
    dropout: float = 0.0
    tied: bool = False

    @property
    def drawn_share(self) -> float:
        """Share of a user's rows that batches draw as positives; 0: they draw rows."""
        return self.dropout

    def __str__(self) -> str:
        return f"PooledHistory(size={self.size}, dropout={self.dropout}, tied={self.tied})"

    def as_parameter(self) -> PooledHistory:
        """The object that gives these settings."""
        return PooledHistory(**asdict(self))


@dataclass(frozen=True)
class TransformerSettings:
    """A history field of the user tower that reads items in their order.

    Attributes
    ----------
    size, n_layers, n_heads, dropout
        As in :class:`~sktwotower.history.TransformerHistory`.
    """

    size: int = 50
    n_layers: int = 2
    n_heads: int = 2
    dropout: float = 0.2
    # As `PooledSettings` has them.
    tied: ClassVar[bool] = False
    drawn_share: ClassVar[float] = 0.0

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in asdict(self).items())
        return f"TransformerHistory({values})"

    def as_parameter(self) -> TransformerHistory:
        """The object that gives these settings."""
        return TransformerHistory(**asdict(self))


HistorySettings = PooledSettings | TransformerSettings


def history_settings(history: PooledHistory | TransformerHistory) -> HistorySettings:
    """The settings that an object gives, as numbers of Python."""
    if isinstance(history, TransformerHistory):
        return TransformerSettings(
            size=int(history.size),
            n_layers=int(history.n_layers),
            n_heads=int(history.n_heads),
            dropout=float(history.dropout),
        )
    size = None if history.size is None else int(history.size)
    return PooledSettings(size, float(history.dropout), bool(history.tied))


@dataclass(frozen=True)
class Settings:
    """Parameters that follow the data where they are "auto", see `_training.defaults`.

    The types are those of resolved settings. In a configuration that is not resolved, each
    may be "auto", too.

    Attributes
    ----------
    history : HistorySettings or None
        None: the user tower has no such field.
    user_id_embedding, embedding_dim, learning_rate, temperature, batch_size, max_iter, \
            n_negatives, sampling_correction, popularity_prior, weight_decay
        As in :class:`~sktwotower.TwoTowerRecommender`.
    hidden_layer_sizes : tuple of int or None
        Always a tuple, or None for no layer.
    negatives : str
        As there; ``"labels"`` where rows with ``y <= 0`` are the only negatives.
    """

    history: HistorySettings | None
    user_id_embedding: bool
    embedding_dim: int
    hidden_layer_sizes: tuple[int, ...] | None
    temperature: float | str
    learning_rate: float
    batch_size: int
    max_iter: int
    negatives: str
    n_negatives: int
    sampling_correction: str | None
    popularity_prior: float | None
    weight_decay: float
