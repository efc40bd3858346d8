"""Network access for encoders and corpora: downloads, and explanations of failures."""
