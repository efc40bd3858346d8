"""What a task is: how a row becomes model inputs, and how logits become predictions."""
