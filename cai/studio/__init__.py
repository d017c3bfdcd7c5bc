"""``cai studio``: read what a constitution did, in a browser on the same machine."""
