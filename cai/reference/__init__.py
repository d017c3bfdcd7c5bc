"""The embedded default: a closed world with exact checkers, and a tiny chat model that lives in it."""
