"""Where encoders come from: a package, a local folder or the Hugging Face Hub. Loads neither torch nor transformers."""
