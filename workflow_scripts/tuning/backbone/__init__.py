"""Pretrained language models: loading, attention with prompts, and what differs between architectures."""
