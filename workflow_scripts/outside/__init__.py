"""Predictions that were made elsewhere: their files, and how these become predictions like those of our own models."""
