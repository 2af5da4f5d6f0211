"""One object: from a file's bytes to a `.dcmx` and back, whole or in parts."""
