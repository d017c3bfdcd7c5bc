"""A run: its folder, its stages in one tuple, and how it goes on where it stopped."""
