"""Regression (STS benchmark): a number for a text or for two texts, such as how similar they are."""
