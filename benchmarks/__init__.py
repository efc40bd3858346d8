"""Benchmarks, run by hand. Compared programs take turns, since a machine's speed drifts over minutes."""
