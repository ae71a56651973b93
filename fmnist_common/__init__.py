"""What study, trainer and analysis must agree on, word for word; the standard library only.

They import it and it imports none of them: a rule that two of them follow is written here once.
"""
