"""Tuned models in folders that stock libraries load, without this project."""
