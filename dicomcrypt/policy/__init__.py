"""Which algorithms may be used, and by what decision."""
