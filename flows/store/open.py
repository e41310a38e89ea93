"""Which store a setting names."""

from pathlib import Path
from urllib.parse import urlsplit

from flows.store.base import Store
from flows.store.folder import Folder
from flows.store.s3 import Bucket


def open_store(place: str) -> Store:
    """The store that MNIST_STORE names: a folder, or `s3://bucket/prefix`."""
    if place.startswith("s3://"):
        url = urlsplit(place)
        return Bucket(url.netloc, url.path.strip("/"))
    return Folder(Path(place).absolute())
