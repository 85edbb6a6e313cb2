"""Serve a model that ``export_onnx`` wrote, with only NumPy and onnxruntime.

    python examples/serve_onnx.py DIRECTORY USER_ID [USER_ID ...]

The directory contains the encoded features of known users. Features of new users have to
be encoded in the same way as by the model's encoder; README.md in the directory describes
how.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


class Server:
    """Recommends from an exported directory."""

    def __init__(self, directory):
        directory = Path(directory)
        self.contract = json.loads((directory / "contract.json").read_text("utf-8"))
        ids = json.loads((directory / "ids.json").read_text("utf-8"))
        self.item_ids = ids["items"]
        self.user_codes, self.item_codes = (
            {key(value): code for code, value in enumerate(ids[side], start=1)}
            for side in ("users", "items")
        )
        with np.load(directory / "users.npz") as arrays:
            self.users = dict(arrays)
        self.user_tower, self.top_k = (
            onnxruntime.InferenceSession(directory / f"{name}.onnx")
            for name in ("user_tower", "top_k")
        )

    def recommend(self, user_ids, history=None):
        """Items and scores for each user, best first, without seen items.

        Ids are written as in ``ids.json``: a date, for example, as {"date": "2026-11-29"}.
        17 and 17.0 are one id.
        ``history`` has one list per user: the items since the training.
        """
        codes = np.array(
            [self.user_codes.get(key(user), 0) for user in user_ids], dtype=np.int64
        )
        seen = [self.known("seen_items", code) for code in codes]
        vectors = self.users["vectors"][codes]
        if history is not None:
            codes_of = self.item_codes
            later = [
                np.array([codes_of.get(key(item), 0) for item in items], dtype=np.int64)
                for items in history
            ]
            seen = [np.append(*both) for both in zip(seen, later, strict=True)]
            vectors = self.embed(codes, later)
        rows, items = end_to_end(seen)
        feed = {"vector": vectors, "exclude_row": rows, "exclude_item": items}
        found, scores = self.top_k.run(["item", "score"], feed)
        return [
            [
                (self.item_ids[code - 1], float(score))
                for code, score in zip(*pair, strict=True)
                if code
            ]
            for pair in zip(found, scores, strict=True)
        ]

    def embed(self, codes, later):
        """Vectors of users whose history is longer than in training."""
        feed = {"code": codes}
        if self.contract["user"]["n_columns"]:
            columns = [self.known("feature_columns", code) for code in codes]
            values = [self.known("feature_values", code) for code in codes]
            feed["feature_row"], feed["feature_column"] = end_to_end(columns)
            feed["feature_value"] = np.concatenate(values)
        history = self.contract["history"]
        if history is not None:
            size = history["size"] or 0  # the last of them; 0 and None: all
            histories = []
            for code, items in zip(codes, later, strict=True):
                known = self.known("history_items", code)
                histories.append(np.append(known, items[items > 0])[-size:])
            feed["history_row"], feed["history_item"] = end_to_end(histories)
        return self.user_tower.run(["vector"], feed)[0]

    def known(self, what, code):
        """The list of one code, from the concatenated lists of all codes."""
        ends = self.users[what.partition("_")[0] + "_ends"]
        return self.users[what][ends[code - 1] if code else 0 : ends[code]]


def key(value):
    """What an id is found by; 17 and 17.0 are equal."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def end_to_end(lists):
    """Concatenate lists: the index of each entry's list, and the entries."""
    rows = np.repeat(np.arange(len(lists)), [len(entries) for entries in lists])
    return rows, np.concatenate([*lists, np.empty(0, dtype=np.int64)])


if __name__ == "__main__":
    server = Server(sys.argv[1])
    users = []
    for user in sys.argv[2:]:
        try:  # a number, or an id of another kind as in ids.json
            users.append(json.loads(user))
        except ValueError:
            users.append(user)
    for user, items in zip(users, server.recommend(users), strict=True):
        print(user, items[:10])
