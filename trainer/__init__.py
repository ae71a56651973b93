"""Trains networks. Knows neither Optuna, nor databases, nor the command line."""
