"""What happens to a study when the machine fails: see docs/reliability.md."""
