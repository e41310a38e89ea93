"""The site on a phone, in a real browser."""

import pytest

from flows.site.build import write_site

PAGE = """<!doctype html><title>test</title><iframe width="360" height="800"></iframe>
<script type="module">
const frame = document.querySelector("iframe"), found = {};
for (const page of PAGES) {
  frame.src = page;
  await new Promise((done) => (frame.onload = done));
  const parts = [frame.contentDocument.documentElement, ...frame.contentDocument.querySelectorAll(".scroll")];
  found[page] = Math.max(...parts.map((part) => part.scrollWidth - part.clientWidth));
}
await fetch("found", { method: "POST", body: JSON.stringify(found) });
</script>"""


@pytest.mark.slow
def test_no_page_scrolls_sideways_on_a_phone(put_night, registry, settings, in_browser, tmp_path):
    """At 360 pixels the tables of nights, steps and errors are read without scrolling sideways."""
    for day in range(1, 4):
        put_night(day, errors=20 + day, score=0.99503)
    priced = settings.model_copy(update={"price_cpu": 0.2})
    folder = tmp_path / "site"
    write_site(registry, folder, priced)
    pages = ["index.html", "model.html", "draw.html", "nights/2026-11-03-convnet-fast-e40-1.html"]
    (folder / "test.html").write_text(PAGE.replace("PAGES", str(pages)))

    found = in_browser(folder, "test.html")

    assert found == dict.fromkeys(pages, 0)
