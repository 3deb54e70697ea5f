"""Labels beside each other, each without what all of them say."""

from collections.abc import Sequence


def apart(labels: Sequence[str]) -> dict[str, str]:
    """Label → what not all labels say: ``load=none, k=4`` beside ``load=none, k=1`` is ``k=4``.

    Parts are what commas part. A label that would be empty stays whole.
    """
    parts = {one: one.split(", ") for one in labels}
    common = set.intersection(*map(set, parts.values())) if len(parts) > 1 else set()
    return {one: ", ".join(word for word in words if word not in common) or one for one, words in parts.items()}
