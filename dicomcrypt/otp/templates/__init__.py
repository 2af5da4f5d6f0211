"""Texts of messages: KIND.LANGUAGE.txt and .html; the first line of a text is its subject."""
