"""The practice server: Kaggle's competitions on loopback, used through the real Kaggle client.

    catalog.py      which competitions a home offers
    labelled.py     the 70,000 digits, or somebody's own labelled rows
    data.py         labelled rows dealt into a competition's files, and the zip that is served
    scoring.py      a submission's bytes and the solution → a score, or Kaggle's error text
    ledger.py       submissions and uploads that survive `kill -9`
    faults.py       what can go wrong on purpose, one table
    options.py      split, daily limit, length of a day, time to a score
    competition.py  the account and the open competitions
    protocol.py     Kaggle's wire protocol: what each call answers
    app.py          routes, credentials, uploads and downloads
    server.py       the process that serves it: home, port, account, end

`python -m infra.practice` runs one in the foreground; `flows/ops/practice.py` finds or starts a job's.
"""

from infra.practice.errors import PracticeError
from infra.practice.options import PracticeOptions

__all__ = ["PracticeError", "PracticeOptions"]
