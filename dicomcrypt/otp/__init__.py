"""One-time passwords, secured links, and how they are delivered."""
