"""A study or a trial in files that other programs read."""
