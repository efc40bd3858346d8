"""Where text comes from, and the row schema of each kind of task."""
