"""The README.md of an exported directory, which describes how to serve it."""

README = """\
# A two-tower recommender as ONNX graphs

Written by `TwoTowerRecommender.export_onnx` of sktwotower. onnxruntime and NumPy are
enough to serve it; `examples/serve_onnx.py` of the package shows how.

**Codes.** Users and items are numbered. Code `c` stands for entry `c - 1` of `users` or
`items` in `ids.json`, and code 0 for all unknown ids. Ids of a type that JSON lacks are
written as `{kind: content}`:

| kind | content |
|---|---|
| `timestamp` | `[n, unit, zone]`: n units since 1970-01-01 in UTC; the zone may be null |
| `pandas timedelta` | `[n, unit]` |
| `date`, `datetime`, `time` | ISO 8601 |
| `uuid`, `decimal` | their text |
| `bytes` | base64 |
| `tuple`, `frozenset` | the list of their entries |
| `float` | `nan`, `inf` or `-inf` |
| `int` | a very long one in hexadecimal digits |
| `period` | `[ordinal, frequency]` |

Ids that were floats are numbers such as `17.0`, which is the id `17`.

**`user_tower.onnx`, `item_tower.onnx`** turn users and items into vectors. All inputs have
one dimension; a graph has only the inputs that the model uses.

| input | dtype | content |
|---|---|---|
| `code` | int64 | one code for each of the `n` rows |
| `feature_row`, `feature_column` | int64 | positions of the non-zero encoded features |
| `feature_value` | float32 | their values |
| `history_row` | int64 | user tower: the row of each history entry |
| `history_item` | int64 | user tower: the item code of each history entry |

The output `vector` is `(n, embedding_dim)`, float32. Empty inputs mean no features and no
history. The history of a user is the last `size` items, or all of them if `size` is null
(see `history` in `contract.json`), including repeated ones. Items of code 0 are ignored.
Where `in_order` is true, entries come by row, and those of a row in the order of time;
else the order does not matter.

**Features** must be encoded as by the fitted `user_encoder_` or `item_encoder_`:
`matrix = scipy.sparse.coo_matrix(encoder.transform(frame))` has `matrix.row`, `matrix.col`
and `matrix.data` for the three inputs. `contract.json` describes the columns of the frame
that the encoder takes (`takes`), the number of columns of its output (`n_columns`), their
names if there are any (`column_names`), and the columns of each field (`fields`). To encode
in another language, follow the names of the columns: a category is 1 in its column, and a
number is the standardised number.

**`top_k.onnx`** finds the best items. Its input `vector` `(n, embedding_dim)` holds user
vectors; its outputs are `item` (codes, int64) and `score` (float32), each `(n, k)`, best
first. `exclude_row` and `exclude_item` (int64) are pairs of a row and an item code to
exclude, such as the items that a user has seen. If fewer than `k` items are left, `item` is
0 and `score` is `-inf`. Only items of the catalogue are returned.

**`users.npz`, `items.npz`** hold the data of known users and items. `vectors[c]` is the
vector of user code `c`; `vectors[0]` is the vector of unknown users. The lists of all codes
are concatenated: the seen items of code `c` are `seen_items[start:end]`, where `end` is
`seen_ends[c]` and `start` is `seen_ends[c - 1]`, or 0 for `c = 0`. The same holds for
`history_items` (the latest `size`, in order of time), `feature_columns` and
`feature_values`. `users.npz` contains interactions of users: protect it like the training
data.
"""
