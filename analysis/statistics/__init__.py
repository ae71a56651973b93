"""Estimates with their uncertainty: arrays or trials in, numbers out, nothing for people."""
