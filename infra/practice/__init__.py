"""The practice competition: `digit-recognizer` on loopback, spoken to with the real Kaggle client.

    data.py      the 70,000 digits dealt into train.csv and test.csv, and the zip that is served
    scoring.py   a submission's bytes and the solution → a score, or Kaggle's error text
    ledger.py    submissions and uploads that survive `kill -9`
    faults.py    what can go wrong on purpose, one table
    protocol.py  Kaggle's wire protocol: what each call answers
    server.py    the process that serves it: home, port, account, end
    process.py   find_or_start: the one server of a home, ending when no job is left

`python -m infra.practice` runs one in the foreground, for people.
"""

from infra.practice.errors import PracticeError
from infra.practice.process import Practice, find_or_start

__all__ = ["Practice", "PracticeError", "find_or_start"]
