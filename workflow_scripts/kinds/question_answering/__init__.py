"""Extractive question answering (XQuAD, TyDiQA-GoldP): the answer is a span of a context."""
