"""Multiple choice (XCOPA, Belebele): which of several texts goes with a text and a question about it."""
