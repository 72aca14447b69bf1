"""The tracking store. The only room that knows MLflow."""
