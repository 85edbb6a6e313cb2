"""Recommend for every user of a Parquet file, a batch at a time.

    python examples/recommend_batch.py MODEL USERS.parquet RECOMMENDATIONS.parquet

MODEL is a directory that ``save`` wrote. The file of users has a column with their ids,
named as in training, and may have columns with their features. Only one batch of users and
their recommendations is in memory, however many users there are.
"""

import argparse

import pyarrow as pa
import pyarrow.parquet as pq

import sktwotower


def recommend_batches(model, users, recommendations, *, n=10, batch_size=10_000):
    """Read users from a file, write user and item ids, score and rank to another."""
    writer = None
    for batch in pq.ParquetFile(users).iter_batches(batch_size):
        frame = model.recommend(batch.to_pandas(), n_recommendations=n, as_frame=True)
        if frame.empty:  # these users have seen all items
            continue
        if writer is None:
            schema = pa.Schema.from_pandas(frame, preserve_index=False)
            writer = pq.ParquetWriter(recommendations, schema)
        writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))
    if writer is not None:
        writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="directory of a saved model")
    parser.add_argument("users", help="Parquet file with a column of user ids")
    parser.add_argument("recommendations", help="Parquet file to write")
    parser.add_argument("-n", type=int, default=10, help="recommendations per user")
    parser.add_argument("--batch-size", type=int, default=10_000, help="users at a time")
    given = parser.parse_args()
    recommend_batches(
        sktwotower.load(given.model),
        given.users,
        given.recommendations,
        n=given.n,
        batch_size=given.batch_size,
    )
