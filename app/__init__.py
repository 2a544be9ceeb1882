"""The Twofold server: dialogue, database, HTTP API and pages."""
