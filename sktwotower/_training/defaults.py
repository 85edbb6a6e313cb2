"""What "auto" stands for: rules from a few facts of the data to each parameter.

``RULES`` has one function for each parameter, and this module has all of them. A rule is
asked only if the parameter is "auto"; a value that is given is obeyed. It returns the
value and the reason, which ``verbose`` prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from sktwotower._nn.batches import batch_sizes
from sktwotower._nn.optim import auto_weight_decay
from sktwotower._training.configuration import Configuration
from sktwotower._training.facts import DataFacts
from sktwotower._training.objective import SAMPLING
from sktwotower._training.settings import (
    OF_WEIGHTS,
    PooledSettings,
    Settings,
    TransformerSettings,
)
from sktwotower.utils._warnings import warn


class Choice(NamedTuple):
    """The value of a parameter, and why it is this one; None: it was given."""

    value: Any
    reason: str | None


# Facts of the data, the parameters as they were given, and what was chosen so far, in the
# order of RULES.
Rule = Callable[[DataFacts, Configuration, Mapping[str, Any]], Choice]

# A bag of what came before says little where most rows have nothing before them.
_LEAST_ORDER = 0.5
# A transformer is for up to so many rows at a time, from so many users on, and for up to so
# many rows, with which it takes minutes.
_LARGEST_VISIT, _LEAST_SEQUENCES, _MOST_SEQUENCE_ROWS = 2.0, 1000, 1_000_000
# Positives of most users, where some of them are to predict the others.
_LEAST_ROWS = 2
# Range of the temperature of bags.
_BAG_TEMPERATURES = 0.05, 0.25
# Rows of a batch of bags, and batches of an epoch, at most. A user is ranked against all
# items of a batch, so that a row of a very large batch costs more and not less.
_BAG_ROWS, _BAG_BATCHES = (2048, 65_536), 500
# Steps of bags that are wanted, how often an item's positives are wanted in all epochs
# together, and the range of the epochs for both.
_BAG_STEPS, _BAG_ROWS_OF_AN_ITEM, _BAG_EPOCHS = 200, 500, (10, 40)
# Bags have this width up to so many items, and half of it beyond.
_BAG_DIM, _WIDE_ITEMS = 256, 50_000
# Width of the vectors that a transformer reads, up to so many items and beyond: few items
# are told apart by few numbers.
_SEQUENCE_DIMS, _NARROW_ITEMS = (64, 128), 2500
# Bags are ranked against all of up to so many items, and beyond against so many draws and
# the items of the batch.
_FULL_ITEMS, _BAG_DRAWS = 8192, 2048
# Popularity counts twice where there are as many positives as items and so many more.
_ROWS_OF_TASTE = 300
# Draws for a row of the losses on pairs. On MovieLens 100k, 1 loses .006 to .015 of NDCG,
# and 32 gains nothing.
_DRAWS_FOR_A_ROW = 8


def history(facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]) -> Choice:
    """The history field of the user tower."""
    if facts.order is not None and facts.order >= _LEAST_ORDER:
        if _is_for_a_transformer(facts, given):
            return Choice(
                TransformerSettings(),
                f"rows of a user at one time: {facts.rows_per_visit:.3g}, users: "
                f"{facts.n_users:,}",
            )
        return Choice(PooledSettings(size=20), "the rows of a user have an order in time")
    if facts.rows_per_user[1] < _LEAST_ROWS:
        return Choice(None, "most users have one positive")
    if facts.n_negatives:  # a bag hardly learns them
        return Choice(None, "y has rows of 0 or less")
    reason = "there is no timestamp_column"
    if facts.order is not None:
        reason = (
            f"{given.timestamp_column!r} is taken as no order, because most rows have the "
            "time of their user's first one"
        )
    if given.objective.loss == "softmax" and given.item.id_embedding:
        return Choice(PooledSettings(size=None, dropout=0.5, tied=True), reason)
    return Choice(None, reason)


def _is_for_a_transformer(facts: DataFacts, given: Configuration) -> bool:
    """Whether the order of a user's rows is worth a transformer, and what it costs.

    Rows of one time have no order, and a few users have too few sequences to learn from.
    """
    assert facts.rows_per_visit is not None
    dim = given.settings.embedding_dim
    return (
        facts.rows_per_visit <= _LARGEST_VISIT
        and facts.n_users >= _LEAST_SEQUENCES
        and facts.n_positives <= _MOST_SEQUENCE_ROWS
        and not facts.n_negatives
        and given.objective.loss == "softmax"
        and given.normalize
        and given.item.id_embedding
        and (dim == "auto" or dim % TransformerSettings.n_heads == 0)
    )


def is_bag(chosen: Mapping[str, Any]) -> bool:
    """Whether a user is a bag of items: a part of it has to predict what is left out.

    Such a model has few parameters beside the vectors of items, which score each other.
    """
    past = chosen["history"]
    return past is not None and past.drawn_share > 0


def is_sequence(chosen: Mapping[str, Any]) -> bool:
    """Whether a transformer reads the items of a user."""
    return isinstance(chosen["history"], TransformerSettings)


def reads_items(chosen: Mapping[str, Any]) -> bool:
    """Whether a user is nothing but items, whose vectors score each other."""
    return is_bag(chosen) or is_sequence(chosen)


def user_id_embedding(
    facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]
) -> Choice:
    """Whether the id of a user is a field."""
    return Choice(not reads_items(chosen), "")


def embedding_dim(
    facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]
) -> Choice:
    """Width of the embeddings."""
    if is_sequence(chosen):
        value = _SEQUENCE_DIMS[facts.n_items > _NARROW_ITEMS]
        return Choice(value, f"there are {facts.n_items:,} items")
    if not is_bag(chosen):
        return Choice(64, "")
    if facts.n_items <= _WIDE_ITEMS:
        return Choice(_BAG_DIM, "")
    return Choice(_BAG_DIM // 2, f"there are {facts.n_items:,} items")


def hidden_layer_sizes(
    facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]
) -> Choice:
    """Layers: none where items score items, else a linear one."""
    return Choice(None if reads_items(chosen) else (), "")


def temperature(
    facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]
) -> Choice:
    """The divisor of scores.

    Where items score items, the logit of a perfect match is the logarithm of their number,
    and outweighs all of them together.
    """
    if chosen["history"] is None or not given.normalize:
        return Choice(given.usual_temperature, "")
    if not reads_items(chosen):
        return Choice(0.1, "")
    value = 1 / np.log(max(facts.n_items, 2))
    low, high = _BAG_TEMPERATURES
    reason = f"1 / log({facts.n_items:,} items), from {low} to {high}"
    return Choice(float(np.clip(value, low, high)), reason)


def learning_rate(
    facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]
) -> Choice:
    """Step size at the start."""
    return Choice(1e-2 if is_bag(chosen) else 5e-3, "")


def batch_size(facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]) -> Choice:
    """Rows of a batch."""
    if not reads_items(chosen):
        return Choice(512, "")
    n_rows = -(-facts.n_positives // _BAG_BATCHES)
    least, most = _BAG_ROWS
    if n_rows > most:
        return Choice(most, "the most")
    return Choice(max(least, n_rows), f"at most {_BAG_BATCHES} batches an epoch")


def max_iter(facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]) -> Choice:
    """Epochs."""
    if not is_bag(chosen):
        return Choice(15, "")
    n_batches, _ = batch_sizes(facts.n_positives, chosen["batch_size"])
    wanted = max(
        _BAG_STEPS / n_batches, _BAG_ROWS_OF_AN_ITEM * facts.n_items / facts.n_positives
    )
    value = int(np.clip(np.ceil(wanted), *_BAG_EPOCHS))
    n_rows = facts.n_positives / facts.n_items
    reason = f"batches an epoch: {n_batches:,}, positives of an item: {n_rows:.3g}"
    return Choice(value, reason)


def negatives(facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]) -> Choice:
    """What a positive is ranked against."""
    if given.objective.loss == "cross_entropy" and facts.n_negatives:
        return Choice("labels", "y has rows of 0 or less")
    if given.objective.loss != "softmax":
        return Choice("unconsumed", f"loss={given.objective.loss!r} compares pairs")
    if reads_items(chosen):
        if facts.n_items <= _FULL_ITEMS:
            return Choice("full", f"there are {facts.n_items:,} items")
        return Choice("mixed", f"{facts.n_items:,} items are many")
    # A batch may have that many candidates anyway. On MovieLens 100k, more cost time and
    # gain nothing.
    if facts.n_items <= chosen["batch_size"]:
        return Choice("full", f"{facts.n_items:,} items are at most batch_size")
    return Choice("in_batch", f"{facts.n_items:,} items are more than batch_size")


def n_negatives(
    facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]
) -> Choice:
    """Draws for a batch of the softmax, or for a row."""
    wanted, unit = _DRAWS_FOR_A_ROW, "a row"
    if given.objective.loss == "softmax":
        wanted = _BAG_DRAWS if reads_items(chosen) else chosen["batch_size"]
        unit = "a batch"
    n_items = _n_drawn_from(facts, given)
    return Choice(min(wanted, n_items), f"for {unit}, at most the number of items")


def sampling_correction(
    facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]
) -> Choice:
    """What corrects for how often an item is a candidate."""
    return Choice("refined" if is_bag(chosen) else "logq", "")


def popularity_prior(
    facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]
) -> Choice:
    """Weight of popularity in the score."""
    if chosen["temperature"] == "learned":  # in units of which it would be
        return Choice(None, "the temperature is learned")
    if chosen["history"] is None or given.objective.loss != "softmax":
        return Choice(None, "")
    if not is_bag(chosen):
        return Choice(1.0, "")
    # Taste is the less certain the fewer rows an item has, and the fewer there are in all.
    value = 1 + (facts.n_items + _ROWS_OF_TASTE) / facts.n_positives
    reason = f"{facts.n_items:,} items have {facts.n_positives:,} positives"
    return Choice(value, reason)


def weight_decay(
    facts: DataFacts, given: Configuration, chosen: Mapping[str, Any]
) -> Choice:
    """Decay of the embedding tables."""
    if reads_items(chosen):
        return Choice(0.0, "")
    n_rows = facts.n_positives
    if given.objective.loss == "cross_entropy":  # rows with y <= 0 are trained, too
        n_rows += facts.n_negatives
    n_batches, _ = batch_sizes(n_rows, chosen["batch_size"])
    value = auto_weight_decay(given.optimizer, chosen["learning_rate"], n_batches)
    return Choice(value, f"for {given.optimizer}, batches an epoch: {n_batches:,}")


# In this order: a rule may look at what the ones before it have chosen.
RULES: dict[str, Rule] = {
    "history": history,
    "user_id_embedding": user_id_embedding,
    "embedding_dim": embedding_dim,
    "hidden_layer_sizes": hidden_layer_sizes,
    "temperature": temperature,
    "learning_rate": learning_rate,
    "batch_size": batch_size,
    "max_iter": max_iter,
    "negatives": negatives,
    "n_negatives": n_negatives,
    "sampling_correction": sampling_correction,
    "popularity_prior": popularity_prior,
    "weight_decay": weight_decay,
}
# What partial_fit keeps beside OF_WEIGHTS. The others follow the rows, which become more.
KEPT = ("learning_rate", "max_iter", "batch_size", "popularity_prior")


def choose(
    configuration: Configuration,
    facts: DataFacts,
    before: Settings | None = None,
    *,
    continues: bool = False,
) -> dict[str, Choice]:
    """The value of each parameter that has a rule, and why.

    Parameters
    ----------
    configuration : Configuration
        The parameters as they were given.
    facts : DataFacts
        Of all rows so far.
    before : Settings, optional
        Of the model that is continued. What its weights were made for stays.
    continues : bool, default=False
        Whether its rows are continued, too, by ``partial_fit``: further settings stay.

    Returns
    -------
    dict of str to Choice
        In the order of ``RULES``.

    Raises
    ------
    ValueError
        If a given value does not go with the data.
    """
    choices: dict[str, Choice] = {}
    chosen: dict[str, Any] = {}
    for name, rule in RULES.items():
        given = getattr(configuration.settings, name)
        is_kept = name in OF_WEIGHTS or (continues and name in KEPT)
        if given != "auto":
            choices[name] = Choice(given, None)
        elif before is not None and is_kept:
            choices[name] = Choice(getattr(before, name), "as it was fitted")
        else:
            choices[name] = rule(facts, configuration, chosen)
        chosen[name] = choices[name].value
    _refuse(chosen, facts, configuration)
    return choices


def resolve(
    configuration: Configuration,
    facts: DataFacts,
    before: Settings | None = None,
    *,
    continues: bool = False,
) -> Settings:
    """What `choose` chooses; prints it if that is wanted.

    Warns of data that no model can learn from, in the first training.
    """
    choices = choose(configuration, facts, before, continues=continues)
    if configuration.verbose:
        print(describe(choices, facts, loss=configuration.objective.loss))
    reason = no_better_than_popularity(facts, configuration)
    if before is None and reason is not None:
        warn(f"The model cannot be better than the most popular items: {reason}.")
    return Settings(**{name: choice.value for name, choice in choices.items()})


def describe(choices: Mapping[str, Choice], facts: DataFacts, *, loss: str) -> str:
    """The lines that ``verbose`` prints: the data, and a line for each setting."""
    counts = {
        "positives": facts.n_positives,
        "explicit negatives": facts.n_negatives,
        "users": facts.n_users,
        "items": facts.n_items,
    }
    lines = [", ".join(f"{name}: {n:,}" for name, n in counts.items() if n)]
    lines.append(f"  loss={loss!r}")
    for name, (value, reason) in choices.items():
        if name == "n_negatives" and choices["negatives"].value not in SAMPLING:
            continue
        shown = f"{value:.3g}" if isinstance(value, float) else repr(value)
        if isinstance(value, PooledSettings | TransformerSettings):
            shown = str(value)
        marks = {None: "", "": "  (auto)"}
        if isinstance(value, TransformerSettings) and facts.order is None:
            marks[None] = "  (the order of the rows is taken as their order in time)"
        lines.append(f"  {name}={shown}" + marks.get(reason, f"  (auto: {reason})"))
    return "\n".join(lines)


def no_better_than_popularity(facts: DataFacts, given: Configuration) -> str | None:
    """Why no model can be better than popularity; None: one may be.

    Ids say something only if two users share an item, and one of them has another one.
    """
    if _n_drawn_from(facts, given) == 1:
        return "only 1 item of X has a positive row, so that there is one answer for all"
    if facts.has_user_features or facts.has_item_features:
        return None
    for side, other, most in (
        ("user", "items", facts.most_rows_of_a_user),
        ("item", "users", facts.most_rows_of_an_item),
    ):
        if most == 1:
            return (
                f"each {side} has one row and there are no features, so that nothing "
                f"tells which {other} belong together"
            )
    return None


def _n_drawn_from(facts: DataFacts, given: Configuration) -> int:
    """Number of items that samplers draw from: those with a row that trains."""
    if given.objective.loss == "cross_entropy":  # which learns labels
        return facts.n_items_with_rows
    return facts.n_items


def _refuse(
    chosen: Mapping[str, Any], facts: DataFacts, configuration: Configuration
) -> None:
    """Raise ValueError for values that do not go with the data or with each other."""
    loss, n_draws = configuration.objective.loss, chosen["n_negatives"]
    n_items = _n_drawn_from(facts, configuration)
    if chosen["negatives"] in SAMPLING and n_draws > n_items:
        raise ValueError(
            f"n_negatives={n_draws} is more than the {n_items} items that can be "
            "drawn. Lower n_negatives"
            + (", or set negatives='full'." if loss == "softmax" else ".")
        )
    if chosen["batch_size"] == 1 and chosen["negatives"] == "in_batch":
        raise ValueError(
            "batch_size=1 does not go with negatives='in_batch': a batch of one row has "
            "no negative. Raise batch_size, or set negatives='full' or 'mixed'."
        )
    history, is_in_batch = chosen["history"], chosen["negatives"] == "in_batch"
    if history is not None and history.drawn_share and is_in_batch:
        n_batches, _ = batch_sizes(facts.n_positives, chosen["batch_size"])
        if n_batches >= facts.n_users > 1:
            raise ValueError(
                f"batch_size={chosen['batch_size']} does not go with "
                "negatives='in_batch' and the dropout of a history: a batch of whole "
                "users has a single one, who has no negative. Raise batch_size, or set "
                "negatives='full' or 'mixed'."
            )
