"""Runs in MLflow: the only importer of mlflow."""
