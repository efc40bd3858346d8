"""Measurements that are run by hand, each in the same minute as what it is compared with; none of them is a test."""
