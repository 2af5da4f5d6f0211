"""The health professional card: a card profile, a software card, the host side, and card keys."""
