"""How an encoder is tuned: prompts, methods, heads, batching, the training loop."""
