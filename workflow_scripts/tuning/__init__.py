"""Tuning an encoder: methods, prompts, heads, batches, the training loop, prediction."""
