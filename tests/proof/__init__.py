"""`make proof`: breaks a running server in every way we know, and counts what that cost."""
