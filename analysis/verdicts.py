"""Verdicts as they are shown: in a word, with how many of a row's trainings have no result."""

from analysis.statistics.effects import Effect, Row

PROVEN = ("better", "worse")  # a difference is proven


def verdict(effect: Effect) -> str:
    """Say in a word or two what the data prove about a level: its claim, as it is shown."""
    return "proven negligible" if effect.claim == "negligible" else effect.claim


def failed_share(row: Row) -> str:
    """Say how many of a row's trainings have no result, as `failed 2/5`; nothing if none."""
    return f"failed {row.failed}/{row.failed + row.n}" if row.failed and row.n else ""


def told(effect: Effect) -> str:
    """Say the verdict, and how many of the level's trainings failed."""
    word, share = verdict(effect), failed_share(effect)
    return share if word == "failed" and share else ", ".join(filter(None, (word, share)))
