"""Splitters that respect users and time."""

from sktwotower.model_selection._split import LastInteractionsSplit

__all__ = ["LastInteractionsSplit"]
