"""What alembic runs: `env.py`, and one file a version."""
