"""Where everything is kept. SQL stays in here; dataclasses come out."""
