"""Checks of the competition's server: credentials, rules and quota."""

from flows.kaggle.address import PRACTICE, server_name
from flows.kaggle.competition import connect
from flows.kaggle.credentials import Credentials, credentials_for
from flows.kaggle.session import quota_returns
from flows.ops.doctor.finding import Finding, Findings
from flows.ops.status import newest_counting
from flows.settings import Settings

CALL_S = 8.0
"""Longest time that a server may be silent, in seconds."""


def check_credentials(settings: Settings) -> Findings:
    """Check that the server accepts the credentials."""
    own = Credentials("the account of this home")
    credentials = own if settings.kaggle == PRACTICE else credentials_for(settings)
    connect(_impatient(settings)).has_entered()
    found = f"{server_name(settings.kaggle)} accepts {credentials.source}"
    if credentials.file is not None and credentials.file.stat().st_mode & 0o077:
        remedy = f"`chmod 600 {credentials.file}`"
        yield Finding.warning("credentials", f"{found}; others on this machine can read it", remedy)
    else:
        yield Finding.ok("credentials", found)


def check_rules(settings: Settings) -> Findings:
    """Check that the account has accepted the rules of the competition."""
    if connect(_impatient(settings)).has_entered():
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
