"""The team's place on the competition's leaderboard. It decides nothing: it is for people."""

from flows.kaggle.client import Client
from flows.kaggle.errors import CompetitionError
from flows.kaggle.submissions import team_submissions

MOST_PAGES = 50
"""Pages of the leaderboard that are read at most."""


def rank(client: Client) -> int | None:
    """Return the team's place, 1 for the first; None if it has no score, or is not found.

    Teams may share a name: the team's own entry has the score of one of its submissions.

    Raises:
        CompetitionError: the server fails, or its list repeats itself.
    """
    scored = [submission for submission in team_submissions(client) if submission.counts]
    if not scored:
        return None
    team, scores = scored[0].team, {submission.public_score for submission in scored}
    place, token, tokens = 0, "", {""}
    for _ in range(MOST_PAGES):
        page, token = client.leaderboard_page(token)
        for name, score in page:
            place += 1
            if name == team and score in scores:
                return place
        if not token:
            return None
        if token in tokens:
            raise CompetitionError(
                f"{client.server}: the leaderboard of {client.competition} repeats itself", "try again later"
            )
        tokens.add(token)
    return None
