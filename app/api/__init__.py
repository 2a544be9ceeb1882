"""The HTTP API: a file per resource, schemas in, schemas out, routes."""
