"""Open, update or close the repository's one issue about failed nights, with GitHub's own command `gh`.

    RESULT=failure LAST_LINE=… RUN_URL=… GH_REPO=owner/name python3 -m infra.actions.issue

It imports nothing that must be installed: the job that runs it has no more than the checkout.
"""

import json
import os
import subprocess
import sys

TITLE = "A night failed"
DISABLED = "has disabled issues"
"""What `gh` says of a repository without issues, as a fork is at first."""


class GhError(Exception):
    """`gh` failed; the text is its own."""


def report(result: str, last_line: str, run_url: str) -> str:
    """Open or update the issue after a failed night, close it after a good one; return what was done.

    Args:
        result: of the job: `success` or `failure`.
        last_line: the last one that the night printed; empty if it did not begin.
        run_url: the page of the run.

    Raises:
        GhError: GitHub refused, or could not be reached.
    """
    number = _open_issue()
    if result == "success":
        if number is None:
            return "no issue is open"
        _gh("issue", "close", number, "--comment", f"A night ended well: {run_url}")
        return f"closed issue {number}"
    quoted = f"\n\n```\n{last_line.replace('`', '')}\n```" if last_line else ""
    body = f"The night at {run_url} failed.{quoted}"
    if number is not None:
        _gh("issue", "comment", number, "--body", body)
        return f"updated issue {number}"
    body += "\n\nThe next night that ends well closes this issue. See docs/operations.md."
    _gh("issue", "create", "--title", TITLE, "--body", body)
    return "opened an issue"


def _open_issue() -> str | None:
    """Return the number of the open issue about failed nights that this workflow made."""
    listed = _gh("issue", "list", "--state", "open", "--author", "app/github-actions", "--limit", "200",
                 "--json", "number,title")  # fmt: skip
    numbers = [str(issue["number"]) for issue in json.loads(listed) if issue["title"] == TITLE]
    return numbers[-1] if numbers else None


def _gh(*arguments: str) -> str:
    done = subprocess.run(["gh", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise GhError(done.stderr.strip() or f"gh {arguments[0]} {arguments[1]}: exit {done.returncode}")
    return done.stdout


def main() -> None:
    """Run the command; without issues in the repository it is a warning of the workflow."""
    given = {name: os.environ.get(name, "") for name in ("RESULT", "LAST_LINE", "RUN_URL")}
    try:
        done = report(given["RESULT"], given["LAST_LINE"], given["RUN_URL"])
    except GhError as error:
        if DISABLED not in str(error):
            raise SystemExit(f"issue: {error}") from None
        done = "::warning::no issue says how the night ended: enable them under Settings, General, Features"
    sys.stdout.write(done + "\n")


if __name__ == "__main__":
    main()
