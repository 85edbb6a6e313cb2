"""Log every epoch of a fit to TensorBoard and MLflow.

    pip install tensorboard mlflow
    python examples/log_training.py logs
    tensorboard --logdir logs/tensorboard

The callbacks need scikit-learn 1.9. MLflow writes to a database in the same folder, or
where ``MLFLOW_TRACKING_URI`` says.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sktwotower import TwoTowerRecommender
from sktwotower.datasets import load_movielens_small
from sktwotower.model_selection import train_test_split_interactions


class EpochLog:
    """A callback that gets the numbers of each epoch; a subclass defines ``log``."""

    def setup(self, estimator, context):
        """Before the first epoch."""

    def teardown(self, estimator, context):
        """After the last epoch, and after an error."""

    def on_fit_task_begin(self, estimator, context):
        """Before the fit and before each epoch."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """After each epoch and after the fit; True would stop training."""
        if context.task_name == "epoch":
            values = {"loss": fitted_estimator.loss_curve_[-1]}
            scores = fitted_estimator.validation_scores_ or {}
            if isinstance(scores, list):
                scores = {fitted_estimator.validation_metric: scores}
            for name, of_epochs in scores.items():
                values[name.replace("@", "_at_")] = of_epochs[-1]
            self.log(values, fitted_estimator.n_iter_)


class TensorBoardLog(EpochLog):
    """Writes to a folder that TensorBoard reads."""

    def __init__(self, folder):
        self.folder = folder

    def setup(self, estimator, context):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(self.folder)

    def log(self, values, epoch):
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def teardown(self, estimator, context):
        self.writer.close()


class MLflowLog(EpochLog):
    """Logs to the active run of MLflow, or to a new one."""

    def setup(self, estimator, context):
        import mlflow

        mlflow.log_params({"embedding_dim": estimator.embedding_dim})

    def log(self, values, epoch):
        import mlflow

        mlflow.log_metrics(values, step=epoch)


def main() -> None:
    """Train on the bundled ratings with both callbacks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    import mlflow

    if "MLFLOW_TRACKING_URI" not in os.environ:
        database = arguments.folder.resolve() / "mlflow.db"
        mlflow.set_tracking_uri(f"sqlite:///{database}")
    ratings = load_movielens_small().interactions
    train, val = train_test_split_interactions(
        ratings, user_column="user_id", timestamp_column="timestamp"
    )
    model = TwoTowerRecommender(
        user_column="user_id",
        item_column="item_id",
        validation_metric=["ndcg@10", "recall@20"],
        max_iter=arguments.epochs,
        random_state=0,
    )
    board = TensorBoardLog(str(arguments.folder / "tensorboard"))
    with mlflow.start_run():
        model.set_callbacks(board, MLflowLog()).fit(train, X_val=val)
    print(f"{model.n_iter_} epochs in {arguments.folder}")


if __name__ == "__main__":
    main()
