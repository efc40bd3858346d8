"""Predictions made elsewhere: their files, and their conversion to the form of our own models' predictions."""
