"""Decides what to train and in what order; the only owner of the database."""
