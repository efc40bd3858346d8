"""Tables and the page. Reads scores and run records; loads no torch."""
