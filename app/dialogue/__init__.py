"""What the bot decides and says. No HTTP, no SQL, no torch."""
