"""`python -m dicomcrypt`."""

from .cli import main

main()
