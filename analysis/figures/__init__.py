"""Figures of a study, as plain Plotly dictionaries: data and layout, without Plotly itself.

The report page draws them in a browser; `save` writes them as files. Pure functions of what the
other modules computed. Uncertainty is in every figure that shows a mean: an interval, a band, or
every single trial.
"""
