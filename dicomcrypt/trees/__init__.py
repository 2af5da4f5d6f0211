"""Whole trees of files: encrypt, decrypt, verify."""
