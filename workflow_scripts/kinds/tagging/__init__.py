"""Tagging (UD-POS): one tag for each word of a sentence."""
