"""``cai studio``: read what a constitution did, and label, in a browser on the same machine."""
