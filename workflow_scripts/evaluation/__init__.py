"""Metrics, and their aggregation over languages and seeds."""
