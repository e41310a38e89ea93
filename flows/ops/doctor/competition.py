"""Checks of the competition's server: credentials, rules and quota."""

from flows.kaggle.competition import connect, server_name
from flows.kaggle.credentials import find_credentials
from flows.kaggle.session import quota_returns
from flows.ops.doctor.finding import Finding, Findings
from flows.settings import Settings

CALL_S = 8.0
"""Longest time that a server may be silent, in seconds."""


def check_credentials(settings: Settings) -> Findings:
    """Check that the server accepts the credentials."""
    source = "the account of this home" if settings.kaggle == "practice" else find_credentials().source
    connect(_impatient(settings)).has_entered()
    yield Finding.ok("credentials", f"{server_name(settings)} accepts {source}")


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


def _impatient(settings: Settings) -> Settings:
    """Return the settings with a shorter timeout of the competition's server."""
    return settings.model_copy(update={"timeout_s": min(CALL_S, settings.timeout_s)})
