"""Kaggle through its own client: credentials, download, submissions."""
