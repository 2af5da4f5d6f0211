"""Archives that can be listed, shared, re-keyed and forgotten (docs/spec/vault-v1.md)."""
