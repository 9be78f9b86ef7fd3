"""Opening: from a source of bytes to the layout of the frames and the metadata."""
