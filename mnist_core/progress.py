"""The one type by which long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, note)`: units of work done, units in all, and a short note, often empty.

It may raise: that is how a caller stops the work.
"""
