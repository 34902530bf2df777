"""What is trainable may change at any time: Programs are made of what it was, and ask here whether it has changed."""

from __future__ import annotations

last: object = object()  #: another one after each change of ``trainable``, of whatever weight or layer


def changed() -> None:
    """Called once the attribute has its new value."""
    global last
    last = object()
