"""What is said when training has diverged."""

from __future__ import annotations

from sktwotower._training.configuration import Configuration


def divergence_message(
    configuration: Configuration, what: str, value: object, epoch: int
) -> str:
    """What to say, and to advise, when training has diverged."""
    advice = [
        f"a lower learning_rate (now {configuration.settings.learning_rate:.3g})",
        f"a lower weight_decay (now {configuration.settings.weight_decay:.3g})",
    ]
    if not configuration.learns_temperature:
        advice.append(f"a higher temperature (now {configuration.temperature:.3g})")
    if not configuration.normalize:
        advice.append("normalize=True")
    return (
        f"The {what} became {value} in epoch {epoch}: training has diverged. Try "
        f"{', or '.join([', '.join(advice[:-1]), advice[-1]])}."
    )
