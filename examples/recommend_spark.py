"""Recommend for every user of Parquet files, on the executors of Spark.

    python examples/recommend_spark.py MODEL USERS.parquet RECOMMENDATIONS

MODEL is a directory that ``save`` wrote. The users have a column with their ids, named as
in training, and may have columns with their features. RECOMMENDATIONS is a directory, new
or replaced. ``spark-submit`` runs the script on a cluster whose Python has this package;
PYSPARK_PYTHON names that Python if it is not ``python3``.
"""

import argparse

from pyspark.sql import SparkSession

import sktwotower


def recommend_batches(batches, model, n):
    """User and item ids, score and rank of pandas frames of users, one frame for each."""
    for users in batches:
        yield model.recommend(users, n_recommendations=n, as_frame=True)


def recommend_frame(spark, model, users, *, n=10):
    """A Spark frame of recommendations for a Spark frame of users."""
    some = model.recommend(
        model.user_ids_[:1], n_recommendations=n, exclude_seen=False, as_frame=True
    )
    schema = spark.createDataFrame(some).schema
    model = spark.sparkContext.broadcast(model)  # once to each executor
    return users.mapInPandas(
        lambda batches: recommend_batches(batches, model.value, n), schema
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="directory of a saved model")
    parser.add_argument("users", help="Parquet file or directory with user ids")
    parser.add_argument("recommendations", help="directory of Parquet files to write")
    parser.add_argument("-n", type=int, default=10, help="recommendations per user")
    parser.add_argument("--partitions", type=int, help="number of partitions of the users")
    given = parser.parse_args()
    model = sktwotower.load(given.model)
    spark = SparkSession.builder.appName("recommend").getOrCreate()
    users = spark.read.parquet(given.users)
    if given.partitions:
        users = users.repartition(given.partitions)
    frame = recommend_frame(spark, model, users, n=given.n)
    frame.write.mode("overwrite").parquet(given.recommendations)
    spark.stop()
