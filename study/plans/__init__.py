"""What to train: plans, their variants and search spaces, figures of others; pure data."""
