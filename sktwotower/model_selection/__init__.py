"""Splitters of interactions that respect users and time, and sampled negatives."""

from sktwotower.model_selection._folds import ColdItemSplit, InteractionKFold, UserKFold
from sktwotower.model_selection._sampled_negatives import sample_negatives
from sktwotower.model_selection._split import LastInteractionsSplit
from sktwotower.model_selection._time import GlobalTimeSplit
from sktwotower.model_selection._train_test import train_test_split_interactions

__all__ = [
    "ColdItemSplit",
    "GlobalTimeSplit",
    "InteractionKFold",
    "LastInteractionsSplit",
    "UserKFold",
    "sample_negatives",
    "train_test_split_interactions",
]
