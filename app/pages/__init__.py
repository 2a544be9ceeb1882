"""The chat page and the admin page: templates, styles and plain ES modules."""
