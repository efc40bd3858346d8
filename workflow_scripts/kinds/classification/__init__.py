"""Classification (XNLI, PAWS-X, SIB-200): one label for a text or for two texts."""
