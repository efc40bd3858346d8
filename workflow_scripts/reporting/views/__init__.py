"""The sections of the page as small view objects, ready for templates that compute nothing."""
