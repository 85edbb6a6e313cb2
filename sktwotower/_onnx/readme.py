"""The contract of an exported directory, which goes into it."""

README = """\
# A two-tower recommender as ONNX graphs

Written by `TwoTowerRecommender.export_onnx` of sktwotower. onnxruntime and NumPy are
enough to serve it: see `examples/serve_onnx.py` of the package.

**Codes.** A user or an item is a number: code `c` is the entry `c - 1` of `users` or
`items` in `ids.json`; 0 is whoever is not there. Ids that JSON lacks are written
`{kind: content}`.

**`user_tower.onnx`, `item_tower.onnx`**: rows to vectors. All inputs are one-dimensional;
a graph has those that the model has a use for.

| input | dtype | |
|---|---|---|
| `code` | int64 | one a row; its length is the number of rows `n` |
| `feature_row`, `feature_column` | int64 | where the encoded features are not zero |
| `feature_value` | float32 | what they are there |
| `history_row` | int64 | (user tower) rows, |
| `history_item` | int64 | and the item codes that their users had |

The output `vector` is `(n, embedding_dim)`, float32. Inputs without entries stand for no
features or no history. A history is the last `history_size` items (`contract.json`) that
the user had, repeated ones included; their order does not matter, and items of code 0 do
not count.

**The encoder's side.** Features go in encoded, as the fitted `user_encoder_` or
`item_encoder_` returns them: `matrix = scipy.sparse.coo_matrix(encoder.transform(frame))`
has `matrix.row`, `matrix.col` and `matrix.data` for the three inputs. `contract.json` says
which columns of a frame the encoder takes (`takes`), how wide its output is (`n_columns`),
what each column of it is (`column_names`, if the encoder has names), and which columns are
one field (`fields`). Whoever encodes in another language writes down what these columns
say: 1 for a category, the standardised number for a number.

**`top_k.onnx`**: `vector` `(n, embedding_dim)` of users to `item` (codes, int64) and
`score` (float32), each `(n, k)`, best first. `exclude_row` and `exclude_item` (int64) are
pairs of a row and an item code that must not come back: what a user has seen. Where fewer
than `k` items are left, `item` is 0 and `score` is `-inf`. Items that are not in the
catalogue are never returned.

**`users.npz`, `items.npz`**: what is known. `vectors[c]` is the vector of user code `c`;
`vectors[0]` is that of strangers. Lists are end to end: those of code `c` are
`seen_items[start:end]` with `end = seen_ends[c]` and `start = seen_ends[c - 1]`, or 0 for
`c = 0`; likewise `history_items` (the latest `history_size`, in the order of time), and
`feature_columns` and `feature_values`. `users.npz` says who had what: treat it like the
data that the model was trained on.
"""
