"""The command line: ``python -m sktwotower train``, ``recommend`` and ``evaluate``."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from sktwotower._version import __version__

_DESCRIPTION = """\
Train, query and evaluate a two-tower recommender on Parquet files.

    python -m sktwotower train config.yaml
    python -m sktwotower recommend model users.parquet --output answers.parquet
    python -m sktwotower evaluate model test.parquet --metrics ndcg@10 recall@10

Exit codes: 0 success; 2 wrong arguments, settings, data or paths; 1 other failures.
"""
_TRAIN = """\
Fit a model and save it. CONFIG is YAML or JSON; what is not set has its default:

    data: train.parquet        # a file or a directory of interactions
    model: model               # the directory to write
    y: rating                  # maybe a column: above 0 is positive
    sample_weight: weight      # maybe a column
    parameters:                # of TwoTowerRecommender
      user_column: user_id
      item_column: item_id
      timestamp_column: timestamp
      item_table: items.parquet
      history: {TransformerHistory: {size: 50}}
      embedding_dim: 64

An object is its class with its parameters. Tables are paths of Parquet files. Paths
start where the command runs. Progress goes to stderr.
"""
_RECOMMEND = """\
Find the best items for the users of a Parquet file: their ids in a column named as in
training, and maybe features. The answer has a row for each user and item, with score
and rank. Users are read in blocks, so there may be more of them than fit into memory.
"""
_EVALUATE = """\
Rank all items for the users of held-out interactions, and print the mean of each metric
over users with a confidence interval of 95 %.
"""
# Options of recommend and evaluate, by the parameters that messages name.
_OPTIONS = {
    r"exclude_seen=False": "--include-seen",
    r"exclude_interactions\b": "--exclude",
    r"n_recommendations\b": "-n",
    r"cold_start=": "--cold-start ",
    r"by=": "--by ",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments of the command line; None: those of this process.
    """
    arguments = vars(_parser().parse_args(argv))
    from sktwotower._command_line import commands  # torch takes seconds

    name = arguments.pop("command")
    command = getattr(commands, name)
    said = str if name == "train" else _with_options  # it has Python's names in its file
    with warnings.catch_warnings():
        warnings.showwarning = _shown_once(said)
        try:
            command(**arguments)
            sys.stdout.flush()
        except BrokenPipeError:  # as of "| head"; Python would write again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (ValueError, TypeError, FileNotFoundError) as error:
            return _failed(said(error), 2)
        except (ImportError, OSError) as error:
            return _failed(said(error), 1)
    return 0


def _failed(error: str, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


def _with_options(message: object) -> str:
    """The text of a message, with options of the command line for Python's parameters."""
    text = str(message)
    for parameter, option in _OPTIONS.items():
        text = re.sub(rf"\b{parameter}", option, text)
    return text


def _shown_once(text_of: Callable[[object], str]) -> Callable[..., None]:
    """What prints warnings without a line of Python, each text once."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = text_of(message)
        if text not in shown:
            shown.add(text)
            print(f"warning: {text}", file=sys.stderr)

    return show


def _parser() -> argparse.ArgumentParser:
    """The arguments of the three commands, by the names of their functions' parameters."""
    parser = argparse.ArgumentParser(
        prog="python -m sktwotower",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    train = add("train", "fit a model and save it", _TRAIN)
    train.add_argument("config", metavar="CONFIG", help="a .yaml, .yml or .json file")

    recommend = add("recommend", "find items for a file of users", _RECOMMEND)
    _add_model(recommend)
    recommend.add_argument("users", metavar="USERS", help="Parquet file of users")
    recommend.add_argument(
        "--output", metavar="FILE", help="Parquet file to write (default: CSV to stdout)"
    )
    recommend.add_argument(
        "-n", type=int, default=10, dest="n_recommendations", help="items per user (10)"
    )
    for name, what in {
        "candidates": "items to choose from, or pairs of user and item",
        "exclude": "pairs to leave out",
        "history": "interactions since the training",
    }.items():
        recommend.add_argument(f"--{name}", metavar="FILE", help=f"Parquet file: {what}")
    recommend.add_argument(
        "--cold-start",
        default="tower",
        help="how to rank for unknown users: tower, popular or mean (tower)",
    )
    recommend.add_argument(
        "--batch-size", type=int, default=10_000, help="users at a time (10000)"
    )

    evaluate = add("evaluate", "print metrics on held-out rows", _EVALUATE)
    _add_model(evaluate)
    evaluate.add_argument("data", metavar="DATA", help="Parquet file of interactions")
    evaluate.add_argument(
        "--metrics",
        nargs="+",
        default=["ndcg@10", "recall@10"],
        help="names of metrics (ndcg@10 recall@10)",
    )
    evaluate.add_argument("--by", help="slices of users: activity or cold")
    evaluate.add_argument("--y", metavar="COLUMN", help="rows above 0 are relevant")
    evaluate.add_argument(
        "--json", action="store_true", dest="as_json", help="print JSON, not a table"
    )
    for command in (recommend, evaluate):
        command.add_argument(
            "--include-seen",
            action="store_false",
            dest="exclude_seen",
            help="do not leave out what users have in the training data",
        )
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="directory of a saved model")


if __name__ == "__main__":
    sys.exit(main())
