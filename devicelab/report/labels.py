"""Labels beside each other, each without what all of them say."""

from collections.abc import Sequence

from devicelab.analyses import _frames


def apart(labels: Sequence[str]) -> dict[str, str]:
    """Label → what not all labels say: ``load=none, k=4`` beside ``load=none, k=1`` is ``k=4``.

    Parts are what commas part. A label that would be empty stays whole.
    """
    parts = {one: one.split(", ") for one in labels}
    common = set.intersection(*map(set, parts.values())) if len(parts) > 1 else set()
    return {one: ", ".join(word for word in words if word not in common) or one for one, words in parts.items()}


def cell_words(label: str) -> str:
    """A cell's label as findings say it: ``load=none, k=4`` is ``idle, K = 4``; another text stays as it is."""
    parts = [part.partition("=") for part in label.split(", ")]
    if not all(mark for _, mark, _ in parts):
        return label
    return _frames.label({name: level for name, _, level in parts})
