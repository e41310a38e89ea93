"""Orchestration and the outside world: what knows Prefect, Kaggle, the store and the clock is here alone."""

import time

STARTED = time.time()
"""When this process began, near enough: before the slow imports, which count as the command's time too."""
