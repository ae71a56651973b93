"""Reads finished trials, computes, draws. Never imports torch, `trainer` or `study`."""
