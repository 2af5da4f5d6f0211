"""The native modules: the block engine and the DICOM scanner."""
