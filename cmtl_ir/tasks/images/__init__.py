"""Images: decoded, packed, cached, paired, cropped."""
