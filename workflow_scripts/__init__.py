"""The steps of the workflow (top level) and the rooms that they are built from."""
