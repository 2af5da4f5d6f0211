"""Certificates, the authorities that issue them, and what they may."""
