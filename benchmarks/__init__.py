"""Every number that the README quotes: one script a table."""
