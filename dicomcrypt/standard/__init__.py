"""What the DICOM standard itself defines for security (PS3.15)."""
