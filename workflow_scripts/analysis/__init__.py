"""What tuning makes of texts: their vectors in several languages, compared (paper, section 5)."""
