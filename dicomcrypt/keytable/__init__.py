"""Keys of a service or archive, encrypted in a database."""
