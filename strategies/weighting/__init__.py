"""Task weights from losses."""
