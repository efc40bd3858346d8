"""Tuned models in folders that standard libraries load, without this project."""
