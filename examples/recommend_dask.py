"""Recommend for every user of Parquet files, on the workers of a Dask cluster.

    python examples/recommend_dask.py MODEL USERS.parquet RECOMMENDATIONS

MODEL is a directory that ``save`` wrote. The users have a column with their ids, named as
in training, and may have columns with their features. RECOMMENDATIONS is a directory, new
or replaced, with one Parquet file per partition. Without ``--scheduler`` the cluster is
this machine.
"""

import argparse

import dask.dataframe as dd
from distributed import Client

import sktwotower


def recommend_partition(users, model, n, empty):
    """Ids, score and rank for a partition; columns without rows if it is empty."""
    frame = model.recommend(users, n_recommendations=n, as_frame=True)
    return empty if frame.empty else frame


def recommend_frame(client, model, users, *, n=10):
    """A Dask frame of recommendations for a Dask frame of users."""
    some = model.recommend(
        model.user_ids_[:1], n_recommendations=n, exclude_seen=False, as_frame=True
    )
    empty = some.head(0)  # all partitions have these dtypes
    model = client.scatter(model, broadcast=True, hash=False)  # once to each worker
    return users.map_partitions(recommend_partition, model, n, empty, meta=empty)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="directory of a saved model")
    parser.add_argument("users", help="Parquet file or directory with user ids")
    parser.add_argument("recommendations", help="directory of Parquet files to write")
    parser.add_argument("-n", type=int, default=10, help="recommendations per user")
    parser.add_argument("--partitions", type=int, help="number of partitions of the users")
    parser.add_argument("--scheduler", help="address of a running cluster")
    given = parser.parse_args()
    model = sktwotower.load(given.model)
    with Client(given.scheduler) as client:
        users = dd.read_parquet(given.users)
        if given.partitions:
            users = users.repartition(npartitions=given.partitions)
        frame = recommend_frame(client, model, users, n=given.n)
        frame.to_parquet(given.recommendations, write_index=False, overwrite=True)
