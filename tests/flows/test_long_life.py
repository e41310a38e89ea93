"""Ten years of nights: the requests of a night to its store stay few, and the store stays small."""

import re
import time
from collections import Counter
from datetime import date, timedelta

import pytest
import torch

from flows import train
from flows.nightly import nightly
from flows.store.base import Page
from mnist_core import load

pytestmark = pytest.mark.usefixtures("prefect_api")
FIRST = date(2026, 11, 23)
PAGE = 1000
REQUESTS = 60
"""Most requests of a night of one network, at any age of the store."""
LISTS, PRUNED = ("champions", "leases", "history"), ("versions", "predictions", "trained")
KEPT = 30
"""Versions that a store has that is pruned."""


class CountingStore:
    """A store in memory that counts what would be a request to S3."""

    nights_prune = False

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.records: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.kept: dict[str, bytes] = {}
        self.requests: list[str] = []

    def prepare(self) -> None:
        """Count nothing: S3 is asked once a process."""

    def put(self, key, data):
        """Write an object unless its key is taken."""
        self.requests.append(f"PUT {key}")
        return self.kept.setdefault(key, data) == data

    def upload(self, key, file, written=None):
        """Write an object."""
        self.requests.append(f"PUT {key}")
        is_new = key not in self.kept
        self.kept[key] = file.read()
        return is_new

    def get(self, key):
        """Return an object's bytes."""
        self.requests.append(f"GET {key}")
        return self.kept.get(key)

    def exists(self, key):
        """Return whether there is such an object."""
        self.requests.append(f"HEAD {key}")
        return key in self.kept

    def age(self, key):
        """Return that an object is old."""
        self.requests.append(f"HEAD {key}")
        return 1e6

    def names(self, prefix, after=""):
        """Return a page of names."""
        self.requests.append(f"LIST {prefix}")
        names = sorted(n for key in self.kept if (n := key.removeprefix(prefix)) != key and n > after)
        return Page(names[:PAGE], len(names) > PAGE)

    def keys(self, prefix):
        """Return all keys below a prefix: a request a page."""
        found = sorted(key for key in self.kept if key.startswith(prefix))
        self.requests += [f"LIST {prefix}"] * (1 + max(0, len(found) - 1) // PAGE)
        return dict.fromkeys(found, time.time())

    def location(self, key):
        """Return a key."""
        return f"memory:{key}"

    def console_url(self, _key):
        """Return None."""
        return


@pytest.fixture
def store(monkeypatch):
    """The store of every run, in memory."""
    store = CountingStore()
    monkeypatch.setattr("flows.run.open_store", lambda _address: store)
    return store


@pytest.fixture
def started(job, monkeypatch):
    """A job whose training gives the session's network, a little different each time."""
    started = job(daily_limit=100)

    def fit(run, *_args):
        net, _ = load(started.bundle)
        torch.manual_seed(int(run.key.night[-2:]))
        net.layers[-1].weight.add_(0.02 * torch.randn_like(net.layers[-1].weight))
        return net

    monkeypatch.setattr(train, "_fit", fit)
    return started


def grow(store, night, count):
    """Let a store be as if there had been as many nights, each as the one that it has, which is the last."""
    template = {key: data for key, data in store.kept.items() if re.search(r"/[0-9a-f]{16}/", key)}
    lengths = {kind: max(int(key[-11:-5]) for key in template if f"/{kind}/" in key) for kind in LISTS}
    for key, data in template.items():
        del store.kept[key]
        kind, last = key.split("/")[3], int(key[-11:-5]) if key[-11:-5].isdigit() else 0
        entries = lengths.get(kind, 0)
        for age in range(KEPT if kind in PRUNED else count):
            then = (date.fromisoformat(night) - timedelta(days=age)).isoformat()
            if entries:
                name = f"{key[:-11]}{(count - 1 - age) * entries + last:06d}.json"
            elif kind == "contents" and age:
                name = key.replace(".json", f"{age}.json")
            else:
                name = key.replace(night, then)
            text = data.replace(night.encode(), then.encode())
            for listed, each in lengths.items():
                text = re.sub(rb'("%s": )\d+' % listed.encode(), rb"\g<1>%d" % (count * each), text)
            store.kept[name] = text
    store.seen.clear()
    store.records.clear()
    store.objects.clear()
    store.requests.clear()


@pytest.mark.parametrize("years", [pytest.param(1, marks=pytest.mark.slow), 10])
def test_a_night_needs_few_requests_at_any_age(started, store, years):
    """A trained, promoted and submitted night of one network: at most 60 requests, after ten years too."""
    nightly(FIRST.isoformat())
    young = len(store.requests)
    grow(store, FIRST.isoformat(), 365 * years)

    result = nightly((FIRST + timedelta(days=1)).isoformat())

    assert (result.decision, result.submission.posted) == ("promoted", True)
    kinds = Counter(
        re.sub(r"(\S+ ).*?/[0-9a-f]{16}/(\w+)/.*|(objects/).*", r"\1\2\3", r) for r in store.requests
    )
    print(f"\n{years} years: {len(store.requests)} requests (the first night {young})", kinds.most_common())
    assert len(store.requests) <= REQUESTS, "\n".join(store.requests)
