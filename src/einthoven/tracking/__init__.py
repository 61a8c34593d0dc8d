"""Runs in MLflow. Only this package imports mlflow."""
