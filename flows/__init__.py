"""Orchestration and the outside world: what knows Prefect, Kaggle, the store and the clock is only here."""
