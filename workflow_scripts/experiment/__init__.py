"""What is run: the configuration, the grid and the paths. Loads neither torch nor transformers."""
