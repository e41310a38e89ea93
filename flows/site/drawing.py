"""The network of the drawing page: the champion's ONNX graph, or that of one of its members."""

from dataclasses import dataclass

from flows.records import VersionEntry
from flows.registry import Registry
from flows.store.lists import DamagedObjectError
from mnist_core.manifest import ONNX

LARGEST = 5_000_000
"""Bytes of an ensemble's graph above which a page gets a single member's."""


@dataclass(frozen=True)
class Drawing:
    """What the drawing page needs.

    Attributes:
        version: whose graph it is.
        of: the champion that it is a member of; None if it is the champion itself.
        graph: the ONNX graph.
        runtime: the files that run it, by name.
    """

    version: str
    of: str | None
    graph: bytes
    runtime: dict[str, bytes]


def choose_graph(registry: Registry) -> tuple[VersionEntry, bytes] | None:
    """Return the version whose graph the page shows, and the graph; None if the store has none.

    It is the champion, unless that is an ensemble whose graph is large: then its best single member.
    """
    _, name = registry.champion()
    champion = None if name is None else registry.version(name)
    if champion is None:
        return None
    size = champion.files[ONNX].bytes if ONNX in champion.files else 0
    if champion.members and size > LARGEST:
        members = [entry for member in champion.members if (entry := registry.version(member)) is not None]
        candidates = sorted(members, key=lambda entry: (-entry.valid_accuracy, entry.version))
    else:
        candidates = [champion]
    for entry in candidates:
        if ONNX in entry.objects:
            try:
                return entry, registry.read(entry, ONNX)
            except DamagedObjectError:
                continue
    return None
