"""Add the repository's other documents to the site, and make links between them work there too.

The documents link to files of the repository by relative paths, so that they can be read on a code host.
On the site a link to another page leads to that page, a link to any other file becomes its text, and a link
that leads nowhere is left for MkDocs to report, which fails a strict build.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs/"
PAGES = {
    "mnist_core/README.md": "library.md",
    "infra/README.md": "cloud.md",
    "tests/bench/LOG.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Documents outside `docs/`, and the pages of the site that they become."""

FENCES = re.compile(r"^(```.*?^```)", re.M | re.S)
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of the site: those of `docs/`, and `PAGES`."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Return the page's text with links that lead to the site's pages."""
    uri = page.file.src_uri
    source = next((path for path, name in PAGES.items() if name == uri), DOCS + uri)

    def rewrite(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        if path == "README.md":
            target = "index.md"
        elif path in PAGES:
            target = PAGES[path]
        elif path.startswith(DOCS):
            target = path.removeprefix(DOCS)
        elif (ROOT / path).exists():
            return link["text"]
        else:
            return link[0]
        target = posixpath.relpath(target, posixpath.dirname(uri) or ".")
        return f"{link['picture']}[{link['text']}]({target}{link['anchor'] or ''})"

    parts = FENCES.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(rewrite, part) for part in parts)
