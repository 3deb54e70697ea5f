"""Lengths of time for people."""


def duration(seconds: float, *, roughly: bool = False) -> str:
    """A length of time: "48 s", "12 min 05 s", "7 h 05 min"; ``roughly``, as of an estimate: "12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{round(whole / 60)} min" if roughly else f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
