"""What came of it: rates, win rates, intervals."""
