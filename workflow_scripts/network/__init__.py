"""Everything that goes over the network, for encoders and corpora alike: downloads, and why one failed."""
