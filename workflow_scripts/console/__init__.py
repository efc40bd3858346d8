"""What a run shows: what it will do and how long it takes, its progress, and the answer or what failed.

`handler.py` replaces Snakemake's own output. No step imports this package.
"""
