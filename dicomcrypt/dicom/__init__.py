"""What dicomcrypt itself knows about DICOM files, without pydicom."""
