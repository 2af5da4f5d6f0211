"""The DCMX container (docs/spec/dcmx-v1.md): header, sealed streams, index, trailer.

Knows no DICOM and no concrete key type; recipients and identities come in through the
two protocols of `stanza`.
"""
