"""Used by every other package: errors, files and their records, the form of a step, names, languages."""
