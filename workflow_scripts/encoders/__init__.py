"""Fetching encoders: from packages, local folders and files, or the Hugging Face Hub. Does not import torch at load."""
