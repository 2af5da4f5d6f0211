"""What the image-encryption literature measures, on the block layer's output (docs/analysis.md).

No security is concluded from it: that rests on the sealing (docs/threat-model.md).
"""
