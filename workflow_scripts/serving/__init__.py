"""A tuned model on the user's own texts: predictions of a file (`predict_file`) and a local page (`demo`)."""
