"""Checks of the competition's server: credentials, rules and quota."""

from datetime import UTC, datetime, timedelta

from flows.kaggle.address import PRACTICE, server_name
from flows.kaggle.competition import connect
from flows.kaggle.credentials import Credentials
from flows.kaggle.session import quota_returns
from flows.ops.doctor.finding import Finding, Findings
from flows.ops.status import newest_counting
from flows.settings import Settings

CALL_S = 8.0
"""Longest time that a server may be silent, in seconds."""
ENDS_SOON = timedelta(days=7)
"""Before a token's end, from when on that is a warning."""


def check_credentials(settings: Settings) -> Findings:
    """Check that the server accepts the credentials, and say which they are and how long they last."""
    competition = connect(_impatient(settings))
    competition.has_entered()
    credentials = competition.check_log_in()
    found = f"{server_name(settings.kaggle)} accepts {_name(settings, credentials)}"
    left = None if credentials.expires is None else credentials.expires - datetime.now(UTC)
    if credentials.file is not None and credentials.file.stat().st_mode & 0o077:
        remedy = f"`chmod 600 {credentials.file}`"
        yield Finding.warning("credentials", f"{found}; others on this machine can read it", remedy)
    elif left is not None and left < ENDS_SOON and credentials.refresh is None:
        yield Finding.warning("credentials", found, "create a new token (kaggle.com → Settings → API)")
    else:
        yield Finding.ok("credentials", found)


def _name(settings: Settings, credentials: Credentials) -> str:
    """Return which log-in credentials are, and how long they last."""
    if settings.kaggle == PRACTICE:
        return "the account of this home"
    if credentials.refresh is not None:
        return f"{credentials.source}, the log-in of `kaggle auth login`, whose token is renewed when it ends"
    if credentials.expires is not None:
        return f"{credentials.source}, valid until {credentials.expires:%Y-%m-%d %H:%M} UTC"
    return f"{credentials.source}, without an end that is known"


def check_rules(settings: Settings) -> Findings:
    """Check that the account has accepted the competition's rules, and that these allow files."""
    competition = connect(_impatient(settings))
    if not competition.takes_files():
        yield Finding.failed("rules", "submissions from notebooks only", "enter another competition")
    elif competition.has_entered():
        yield Finding.ok("rules", f"accepted for {settings.competition}")
    else:
        rules = f"https://www.kaggle.com/competitions/{settings.competition}/rules"
        yield Finding.failed("rules", "not accepted", f"accept them at {rules}")


def check_quota(settings: Settings) -> Findings:
    """Check how many submissions are left today."""
    left = connect(_impatient(settings)).quota()
    if left:
        yield Finding.ok("quota", f"{left} submissions left today")
    else:
        remedy = f"wait: the quota returns at {quota_returns()}, and a later run submits the champion"
        yield Finding.warning("quota", "no submission left today", remedy)


def check_counting(settings: Settings) -> Findings:
    """Check how old the newest submission is that counts: Kaggle forgets those of more than two months."""
    found = newest_counting(connect(_impatient(settings)))
    if found is None:
        yield Finding.ok("leaderboard", "no submission has a score yet")
        return
    age = "of unknown age" if found.days is None else f"{found.days} days old"
    words = f"the newest submission with a score is {age} ({found.public_score:.5f})"
    if found.remedy:
        yield Finding.warning("leaderboard", words, found.remedy)
    else:
        yield Finding.ok("leaderboard", words)


def _impatient(settings: Settings) -> Settings:
    """Return the settings with a shorter timeout of the competition's server."""
    return settings.model_copy(update={"timeout_s": min(CALL_S, settings.timeout_s)})
